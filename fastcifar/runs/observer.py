"""Who is told of a run from its start to its end, and what they are told."""

from dataclasses import dataclass
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
    """A result with the network it is about, in evaluation mode on the device it was trained on, and every epoch.

    `recipe` has the learning rates that were trained with, and of files and images names and sha256; `own` is the code
    of one's own that it names; `found` the range test that chose the rates if there was one, `path` the run directory
    if it was kept.
    """

    model: nn.Module
    log: tuple[EpochLog, ...]
    recipe: Recipe
    own: OwnCode
    dataset: Dataset
    found: LrRange | None
    path: Path | None


class RunObserver(Observer):
    """An observer who is told of a run's start and end too."""

    def start(self, about: Start) -> None:
        """All is set up; the first step comes next."""

    def finish(self, trained: Trained) -> None:
        """The run is over, and kept if it is to be."""
