"""Runs side by side on one HTML page that loads nothing: their curves, and what differs between them."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from string import ascii_uppercase

from fastcifar.errors import InputError
from fastcifar.files import require_folder_of
from fastcifar.report import charts
from fastcifar.report.drawing import Picture
from fastcifar.report.pages import render, write_page
from fastcifar.report.text import flat
from fastcifar.runs.saved import Finished, read_log, read_run
from fastcifar.training.log import EpochLog


@dataclass(frozen=True)
class Compared:
    """A run and the letter it has on the page."""

    letter: str
    saved: Finished
    log: list[EpochLog]

    @property
    def rate(self) -> float:
        """Images trained on a second, the median of the epochs."""
        return statistics.median(one.images_per_second for one in self.log)


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Write index.html and its PNG files on two to 26 finished runs into the folder `out`; return the page's path.

    Raises `InputError`, one line, where a run is not finished, there are too few or too many, or a file cannot be
    written.
    """
    if not 2 <= len(runs) <= len(ascii_uppercase):
        raise InputError(f"compare: {len(runs)} runs; between 2 and {len(ascii_uppercase)} can be compared")
    opened = zip(ascii_uppercase, map(read_run, runs), strict=False)
    compared = [Compared(letter, saved, read_log(saved)) for letter, saved in opened]
    require_folder_of(out)
    pictures = _pictures(compared)
    styles, differences = ("base.css", "run.css"), _differences(compared)
    page = render("compare.html", styles=styles, runs=compared, pictures=pictures, differences=differences)
    return write_page(out, page, {one.name: one.png() for one in pictures})


def _pictures(compared: Sequence[Compared]) -> list[Picture]:
    letters = [one.letter for one in compared]

    def picture(
        name: str, what: str, unit: str, value: Callable[[EpochLog], float | None], *, timed: bool = False
    ) -> Picture:
        places: list[list[float]] = []
        values: list[list[float]] = []
        for one in compared:
            spent = accumulate(epoch.train_seconds for epoch in one.log)
            points = [(at if timed else epoch.epoch, value(epoch)) for at, epoch in zip(spent, one.log, strict=True)]
            places.append([at for at, found in points if found is not None])
            values.append([found for _, found in points if found is not None])
        figure = charts.compared(letters, places, values, "training, s" if timed else "epoch", unit)
        by = "seconds of training" if timed else "epoch"
        alt = f"Line chart of the {what} by {by}, a line for each of the runs {', '.join(letters)}."
        return Picture(name, figure, alt, f"{what.capitalize()} by {by}.")

    def accuracy(one: EpochLog) -> float | None:
        return None if one.test_accuracy is None else 100 * one.test_accuracy

    tested = "test accuracy, %"
    return [
        picture("test-accuracy", "test accuracy", tested, accuracy),
        picture("test-accuracy-by-seconds", "test accuracy", tested, accuracy, timed=True),
        picture("test-loss", "test loss", "test cross-entropy", lambda one: one.test_loss),
        picture("train-loss", "training loss", "training loss", lambda one: one.train_loss),
        picture("learning-rate", "learning rate", "learning rate", lambda one: one.learning_rate),
        picture("throughput", "images trained on a second", "images/s", lambda one: one.images_per_second),
    ]


def _differences(compared: Sequence[Compared]) -> list[tuple[str, ...]]:
    """The fields of recipe, execution, data and environment that are not the same in all runs, and what they are."""
    fields: list[dict[str, str]] = []
    for one in compared:
        parts = {part: one.saved.run.get(part) for part in ("recipe", "execution", "dataset", "environment")}
        fields.append(dict(flat({part: found for part, found in parts.items() if isinstance(found, dict)})))
    names = dict.fromkeys(name for run in fields for name in run)
    rows = ((name, *(run.get(name, "none") for run in fields)) for name in names)
    return [row for row in rows if len(set(row[1:])) > 1]
