"""Who is told of a run from its start to its end, and what they are told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from fastcifar.data.dataset import Dataset
from fastcifar.own import OwnCode
from fastcifar.recipe import Recipe
from fastcifar.training.log import EpochLog, Observer, Result
from fastcifar.training.lr_finder import LrRange
from fastcifar.training.trainer import Trainer


@dataclass(frozen=True)
class Start:
    """What is going to be trained, how and where; `found`: what a range test found; `notes`: lines for a person."""

    name: str
    trainer: Trainer
    environment: dict[str, Any]
    found: LrRange | None
    notes: list[str]


@dataclass(frozen=True)
class Trained(Result):
    """The result of a run, with its log and its network, in evaluation mode on the device it was trained on.

    >>> trained = fastcifar.train("seed", epochs=1, model={"width": 2}, dataset="synthetic", limit_train=512)
    >>> trained.final_accuracy == trained.log[-1].test_accuracy, trained.time_to_target
    (True, None)

    `recipe` has the learning rates that were trained with, and the names and sha256 of files and images; `own` is the
    custom code that it names, `found` the range test that chose the rates if there was one, `path` the run directory if
    it was kept.
    """

    model: nn.Module = field(repr=False)
    log: tuple[EpochLog, ...] = field(repr=False)
    recipe: Recipe = field(repr=False)
    own: OwnCode = field(repr=False)
    dataset: Dataset
    found: LrRange | None
    path: Path | None


class RunObserver(Observer):
    """An observer that is also told of the start and the end of a run: override the methods you need.

    >>> class Best(fastcifar.RunObserver):
    ...     accuracy = 0.0
    ...     def epoch(self, log):  # which has train_seconds, train_loss, test_accuracy, learning_rate and more
    ...         self.accuracy = max(self.accuracy, log.test_accuracy)
    >>> best, small = Best(), {"dataset": "synthetic", "limit_train": 512}
    >>> trained = fastcifar.train("seed", epochs=1, model={"width": 2}, observers=[best], **small)
    >>> best.accuracy == trained.best_accuracy
    True
    """

    def start(self, about: Start) -> None:
        """Everything is set up; training begins."""

    def finish(self, trained: Trained) -> None:
        """The run has ended, and is kept if it was to be."""
