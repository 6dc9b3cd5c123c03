"""Runs side by side on one HTML page that loads nothing: their curves, and what differs between them."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

import numpy as np

from fastcifar.data.load import load_dataset
from fastcifar.errors import InputError
from fastcifar.files import require_folder_of
from fastcifar.report import charts
from fastcifar.report.drawing import Picture, Values, outermost, outermost_of
from fastcifar.report.pages import render, write_page
from fastcifar.report.text import flat
from fastcifar.runs.predictions import answers, p_of_equals
from fastcifar.runs.saved import Finished, open_run, read_log, read_run
from fastcifar.runs.steps import Steps, read_steps
from fastcifar.training.log import EpochLog

MOST = 26  # runs on a page
LONGEST = 300  # characters of a value
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


@dataclass(frozen=True)
class OfClass:
    """A class, or all together: the accuracy of each run on it (0 to 1), the least and the most apart, and how often
    equal runs would be as far apart (`p_of_equals`)."""

    name: str
    images: int
    accuracies: Sequence[float]
    p: float

    @property
    def spread(self) -> float:
        """Points between the best run and the worst."""
        return 100 * (max(self.accuracies) - min(self.accuracies))


def write_comparison(
    runs: Sequence[Path],
    out: Path,
    *,
    by_class: bool = False,
    data: Path | None = None,
    trust_code: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write index.html and its PNG files on two to 26 finished runs into the folder `out`; return the page's path.

    `by_class` tests the weights of each again, on images found as `load_dataset` does by `data`, for what they differ
    in class by class; `trust_code` is that of `open_run`.
    Raises `InputError`, one line, where a run is not finished, there are too few or too many, or a file cannot be
    written, and with `by_class` where their test images are not the same.
    """
    if not 2 <= len(runs) <= MOST:
        raise InputError(f"compare: {len(runs)} runs; between 2 and {MOST} can be compared")
    opened = [read_run(run) for run in runs]
    compared = []
    for name, saved in zip(_names(opened), opened, strict=True):
        log = read_log(saved)
        compared.append(Compared(name, saved, log, read_steps(saved.path, len(log))))
    require_folder_of(out)
    classes = _by_class(compared, data, trust_code=trust_code, progress=progress) if by_class else []
    progress("drawing")
    pictures = _pictures(compared)
    of_classes = [_of_classes(compared, classes)] if classes else []
    page = render(
        "compare.html",
        styles=("base.css", "run.css"),
        runs=compared,
        pictures=pictures,
        classes=classes,
        of_classes=of_classes,
        differences=_differences(compared),
    )
    return write_page(out, page, {one.name: one.png() for one in (*pictures, *of_classes)})


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


def _by_class(
    compared: Sequence[Compared], data: Path | None, *, trust_code: bool, progress: Callable[[str], None]
) -> list[OfClass]:
    first = compared[0].saved
    for one in compared:
        for field in ("name", "test_images", "sha256"):
            if one.saved.run["dataset"].get(field) != first.run["dataset"].get(field):
                raise InputError(f"--by-class: {one.saved.path} was tested on other images than {first.path}")
    dataset = load_dataset(first.recipe, data)
    labels, right = dataset.test_labels, []
    for number, one in enumerate(compared, 1):
        progress(f"testing run {number}/{len(compared)}")
        said, _ = answers(open_run(one.saved.path, trust_code=trust_code), dataset)
        right.append(said.argmax(axis=1) == labels)
    table = np.stack(right)
    parts = [(name, table[:, labels == k]) for k, name in enumerate(dataset.classes)]
    return [
        OfClass(name, part.shape[1], part.mean(axis=1).tolist(), p_of_equals(part))
        for name, part in (*parts, ("all", table))
        if part.shape[1]
    ]


def _of_classes(compared: Sequence[Compared], classes: Sequence[OfClass]) -> Picture:
    *alone, _ = sorted(classes, key=lambda one: (one.name == "all", -statistics.fmean(one.accuracies)))
    names, shown = [one.name for one in compared], outermost(alone)
    shares = [[one.accuracies[k] for one in shown] for k in range(len(compared))]
    alt = f"Accuracy by class, the best on the mean on top, a mark for each of the runs {'; '.join(names)}."
    figure = charts.by_class(names, [one.name for one in shown], shares)
    return Picture("classes", figure, alt, f"Accuracy by class{outermost_of(len(alone))}.")


def _differences(compared: Sequence[Compared]) -> list[tuple[str, ...]]:
    """The fields of recipe, execution, data and environment that are not the same in all runs, and what they are."""
    fields: list[dict[str, str]] = []
    for one in compared:
        parts = {part: one.saved.run.get(part) for part in ("recipe", "execution", "dataset", "environment")}
        fields.append(dict(flat({part: found for part, found in parts.items() if isinstance(found, dict)})))
    names = dict.fromkeys(name for run in fields for name in run)
    rows = ((name, *(run.get(name, "none") for run in fields)) for name in names)
    return [(row[0], *map(_cut, row[1:])) for row in rows if len(set(row[1:])) > 1]


def _cut(value: str) -> str:
    """A value as a cell of a table may be; the names of a data set's classes may be 10,000."""
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}… ({len(value):,} characters)"
