"""Runs side by side on one HTML page that loads nothing: their curves, and what differs between them."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

from fastcifar.errors import InputError
from fastcifar.files import require_folder_of
from fastcifar.report import charts
from fastcifar.report.drawing import Picture, Values
from fastcifar.report.pages import render, write_page
from fastcifar.report.text import flat
from fastcifar.runs.saved import Finished, read_log, read_run
from fastcifar.runs.steps import Steps, read_steps
from fastcifar.training.log import EpochLog

MOST = 26  # runs on a page
Points: TypeAlias = tuple[Values, Values]


@dataclass(frozen=True)
class Compared:
    """A run and the name it has on the page."""

    name: str
    saved: Finished
    log: list[EpochLog]
    steps: Steps | None

    def points(self, value: Callable[[EpochLog], float | None], by: str = "epoch") -> Points:
        """Where the epochs are that have this value, in epochs or seconds of training, and the values."""
        spent = accumulate(epoch.train_seconds for epoch in self.log)
        found = [(at, epoch.epoch, value(epoch)) for at, epoch in zip(spent, self.log, strict=True)]
        points = [(at if by == "seconds" else number, one) for at, number, one in found if one is not None]
        return [place for place, _ in points], [one for _, one in points]

    @property
    def rate(self) -> float:
        """Images trained on a second, the median of the epochs."""
        return statistics.median(one.images_per_second for one in self.log)


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Write index.html and its PNG files on two to 26 finished runs into the folder `out`; return the page's path.

    Raises `InputError`, one line, where a run is not finished, there are too few or too many, or a file cannot be
    written.
    """
    if not 2 <= len(runs) <= MOST:
        raise InputError(f"compare: {len(runs)} runs; between 2 and {MOST} can be compared")
    opened = [read_run(run) for run in runs]
    compared = []
    for name, saved in zip(_names(opened), opened, strict=True):
        log = read_log(saved)
        compared.append(Compared(name, saved, log, read_steps(saved.path, len(log))))
    require_folder_of(out)
    pictures = _pictures(compared)
    styles, differences = ("base.css", "run.css"), _differences(compared)
    page = render("compare.html", styles=styles, runs=compared, pictures=pictures, differences=differences)
    return write_page(out, page, {one.name: one.png() for one in pictures})


def _names(runs: Sequence[Finished]) -> list[str]:
    """Of each run its recipe and its seed; where that is not enough, its folder; where nothing is, a number too."""
    names = [f"{one.name}, seed {one.recipe.seed}" for one in runs]
    names = [one.path.resolve().name if names.count(name) > 1 else name for name, one in zip(names, runs, strict=True)]
    return [f"{name} ({names[:k].count(name) + 1})" if names.count(name) > 1 else name for k, name in enumerate(names)]


def _pictures(compared: Sequence[Compared]) -> list[Picture]:
    names = [one.name for one in compared]

    def picture(name: str, what: str, unit: str, points: Callable[[Compared], Points], by: str = "epoch") -> Picture:
        places, values = zip(*map(points, compared), strict=True)
        figure = charts.compared(names, places, values, "training, s" if by == "seconds" else "epoch", unit)
        by = "seconds of training" if by == "seconds" else by
        alt = f"Line chart of the {what} by {by}, a line for each of the runs {'; '.join(names)}."
        return Picture(name, figure, alt, f"{what.capitalize()} by {by}.")

    def tested(one: Compared, by: str = "epoch") -> Points:
        return one.points(lambda epoch: None if epoch.test_accuracy is None else 100 * epoch.test_accuracy, by)

    def rates(one: Compared) -> Points:
        if one.steps:
            return one.steps.ends, one.steps.learning_rates
        return one.points(lambda epoch: epoch.learning_rate)

    accuracy, timed = ("test accuracy", "test accuracy, %"), "seconds"
    return [
        picture("test-accuracy", *accuracy, tested),
        picture("test-accuracy-by-seconds", *accuracy, lambda one: tested(one, timed), timed),
        picture("test-loss", "test loss", "test cross-entropy", lambda one: one.points(lambda epoch: epoch.test_loss)),
        picture("train-loss", "training loss", "training loss", lambda one: one.points(lambda epoch: epoch.train_loss)),
        picture("learning-rate", "learning rate", "learning rate", rates),
        picture(
            "throughput",
            "images trained on a second",
            "images/s",
            lambda one: one.points(lambda epoch: epoch.images_per_second),
        ),
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
