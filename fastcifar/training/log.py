"""What a run says of itself: a line an epoch, and its result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol, Self

from pydantic import ConfigDict, Field

from fastcifar.recipe.tables import NonNegative

Share = Annotated[float, Field(ge=0, le=1)]


class EpochTimes(Protocol):
    """What of an epoch's log the protocols look at: seconds, and accuracy (0 to 1), None where not tested."""

    @property
    def train_seconds(self) -> float: ...
    @property
    def eval_seconds(self) -> float | None: ...
    @property
    def test_accuracy(self) -> float | None: ...


def epochs_to(target: float, epochs: Sequence[EpochTimes]) -> int | None:
    """How many epochs there are up to the first tested one at `target` or above; None if there is none."""
    tested = ((number, epoch.test_accuracy) for number, epoch in enumerate(epochs, 1))
    return next((number for number, accuracy in tested if accuracy is not None and accuracy >= target), None)


@dataclass(frozen=True)
class EpochLog:
    """One epoch: what it took and what it reached. Accuracies are 0 to 1; the loss and accuracy in training are
    running figures over the epoch; the learning rate is that of its last step; `other_cores` is how many of the CPU's
    cores other programs kept busy during training, a mean, None in logs of before that was looked at. After an epoch
    that is not tested `eval_seconds` is 0 and what the test says None."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    epoch: Annotated[int, Field(ge=1, le=100_000)]
    train_seconds: NonNegative
    eval_seconds: NonNegative
    train_loss: float
    train_accuracy: Share
    test_loss: float | None
    test_accuracy: Share | None
    learning_rate: NonNegative
    images_per_second: NonNegative
    other_cores: Annotated[float, Field(ge=0, le=100_000)] | None = None


@dataclass(frozen=True)
class Result:
    """What a run came to. `time_to_target` is the train_seconds at the end of the first epoch whose test accuracy is at
    least the recipe's target, or None."""

    final_accuracy: float
    best_accuracy: float
    time_to_target: float | None
    epochs: int
    setup_seconds: float
    train_seconds: float
    eval_seconds: float

    @classmethod
    def of(cls, log: Sequence[EpochLog], target: float, setup_seconds: float) -> Self:
        """Of a run's epochs, of which one at least was tested."""
        reached = epochs_to(target, log)
        tested = [one.test_accuracy for one in log if one.test_accuracy is not None]
        return cls(
            final_accuracy=tested[-1],
            best_accuracy=max(tested),
            time_to_target=sum(one.train_seconds for one in log[:reached]) if reached else None,
            epochs=len(log),
            setup_seconds=setup_seconds,
            train_seconds=sum(one.train_seconds for one in log),
            eval_seconds=sum(one.eval_seconds for one in log),
        )


class Observer:
    """Base class of callbacks for a run: override the methods for what you want to be told."""

    def step(self, epoch: int, step: int) -> None:
        """Step `step` (from 1) of epoch `epoch` (from 1) has been launched on the device."""

    def testing(self) -> None:
        """A batch of test images has been launched on the device."""

    def epoch_steps(self, epoch: int, learning_rates: Sequence[float], losses: Sequence[float]) -> None:
        """The learning rate (of the first parameter group) and the loss of every step of epoch `epoch` (from 1).

        Called before `epoch`; if the epoch was resumed in the middle, the steps before are included.
        """

    def epoch(self, log: EpochLog) -> None:
        """An epoch has ended."""

    def note(self, line: str) -> None:
        """Something has happened that the user should know; training continues."""


def diverged(what: str, value: float, epoch: int, step: int, rate: float) -> str:
    """The line of a run whose loss is no number any more."""
    return (
        f"the {what} is {value} in epoch {epoch}, step {step}, at learning rate {rate:.3g}; try a lower schedule.max_lr"
    )
