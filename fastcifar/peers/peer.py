"""What a rival is: one run that is asked of it, and its adapter."""

from dataclasses import dataclass
from pathlib import Path

from fastcifar.errors import RunError
from fastcifar.peers.program import PATIENT
from fastcifar.recipe import Recipe
from fastcifar.records.protocol import ProtocolName
from fastcifar.records.record import Record


@dataclass(frozen=True)
class Job:
    """One run that is asked of a program. A rival that has a recipe of its own takes the target from this one only."""

    name: str
    """Of the recipe."""
    recipe: Recipe
    protocol: ProtocolName
    device: str
    """cuda or cpu."""
    data: Path | None
    """Folder of the recipe's images, absolute; it is there and verified where they are CIFAR-10 or CIFAR-100. None
    where they are made up, or in the folder that the recipe names."""
    path: Path | None
    """The rival's own program, as a person gave it: a checkout, or a file in one."""
    seconds: float | None = None
    """After which the program is ended; of its runs those count that it has finished. Without one it has `patience`."""

    @property
    def patience(self) -> float | None:
        """Seconds after which a program is ended that has finished no run: most compile first."""
        return None if self.seconds is None else PATIENT * self.seconds


class BrokenError(RunError):
    """A program failed after it had finished runs, which are in `record`."""

    def __init__(self, message: str, record: Record) -> None:
        super().__init__(message)
        self.record = record


class Peer:
    """A rival: how its program is run, and how what it prints becomes a record."""

    name: str
    url: str | None = None
    """Where its program is published; None for one that comes with fastcifar and takes no path."""

    def missing(self, job: Job) -> str | None:
        """Why `job` cannot be run here, as a part of a sentence; None if it can."""
        return None

    def repeats(self, job: Job) -> bool:
        """Whether `run` is one run, so that it is called once for each; else the program makes as many as it likes."""
        return True

    def run(self, job: Job) -> Record:
        """Run the program. Raises `RunError`, one line, where it fails or prints what cannot be read; `BrokenError`
        where it fails after it has finished runs."""
        raise NotImplementedError
