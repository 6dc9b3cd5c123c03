"""A run that is over, wherever it was made, and what a record says of it; those that were over before their turn."""

import contextlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from fastcifar.files import read_regular, write_whole
from fastcifar.records.check import LARGEST
from fastcifar.records.record import Environment, Images, Run, Work


class Measured(BaseModel):
    """One run, and what a record says of all its runs."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    run: Run
    images: Images
    work: Work
    environment: Environment


class Ahead:
    """Runs that are finished and not in the record, where one before them is missing; each a file in `folder`.

    Those that an earlier process left there count if they are of this `recipe`, a hash, and such a machine.
    """

    def __init__(self, folder: Path | None, recipe: str, here: Environment) -> None:
        self._folder, self._recipe = folder, recipe
        self._runs: dict[int, Measured] = {}
        for file in folder.glob("run-*.json") if folder else ():
            with contextlib.suppress(OSError, ValueError):  # of another recipe or machine, or nobody's: made again
                kept = json.loads(read_regular(file, LARGEST))
                found = Measured.model_validate_json(json.dumps(kept["measured"]))
                if kept["recipe_hash"] == recipe and not differing(found.environment, here):
                    self._runs[int(kept["number"])] = found

    def __contains__(self, number: int) -> bool:
        return number in self._runs

    def get(self, number: int) -> Measured | None:
        return self._runs.get(number)

    def put(self, number: int, found: Measured, *, its_turn: bool) -> None:
        """A run that is over; it needs no file if it is put into the record right now."""
        self._runs[number] = found
        if self._folder and not its_turn:
            about = {"number": number, "recipe_hash": self._recipe, "measured": found.model_dump(mode="json")}
            write_whole(self._file(self._folder, number), json.dumps(about).encode())

    def remove(self, number: int) -> None:
        del self._runs[number]
        if self._folder:
            self._file(self._folder, number).unlink(missing_ok=True)

    @staticmethod
    def _file(folder: Path, number: int) -> Path:
        return folder / f"run-{number}.json"


def differing(one: Environment, other: Environment) -> list[str]:
    """The fields by which runs in one may not stand beside runs in the other; whether a checkout is dirty is none."""
    return [
        field for field in Environment.model_fields if field != "dirty" and getattr(one, field) != getattr(other, field)
    ]
