"""What a rival is: one run that is asked of it, and its adapter."""

from dataclasses import dataclass
from pathlib import Path

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
    """Folder that holds cifar-10-batches-py, absolute and verified; None for a recipe on made-up images."""
    path: Path | None
    """The rival's own program, as a person gave it: a checkout, or a file in one."""
    seconds: float | None = None
    """After which the program is ended; of its runs those count that it has finished."""


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
        """Run the program. Raises `RunError`, one line, where it fails or prints what cannot be read."""
        raise NotImplementedError
