"""What a run says of itself: a line an epoch, and its result."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochLog:
    """One epoch: what it took and what it reached. Accuracies are 0 to 1; the loss and accuracy in training are
    running figures over the epoch; the learning rate is that of its last step."""

    epoch: int
    train_seconds: float
    eval_seconds: float
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    learning_rate: float
    images_per_second: float


@dataclass(frozen=True)
class Result:
    """A finished run. `time_to_target` is the train_seconds at the end of the first epoch whose test accuracy is at
    least the recipe's target, or None."""

    final_accuracy: float
    best_accuracy: float
    time_to_target: float | None
    epochs: int
    setup_seconds: float
    train_seconds: float
    eval_seconds: float
