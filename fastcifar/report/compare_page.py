"""Runs side by side on one HTML page that loads nothing: their curves, and what differs between them."""

import html
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Template, ascii_uppercase
from typing import Any

from fastcifar.errors import InputError
from fastcifar.report.figures import DARK, LIGHT, Theme, drawing, line, percent
from fastcifar.report.run_figures import Picture
from fastcifar.report.run_page import asset, figure_html, policy, read_log
from fastcifar.report.run_tables import flat, seconds, table
from fastcifar.training.log import EpochLog
from fastcifar.training.run_directory import require_folder_of, write_whole
from fastcifar.training.saved import Saved, open_run

DASHES, MARKERS = ("-", "--", ":", "-."), "os^Dv"


@dataclass(frozen=True)
class Compared:
    """A run and the letter it has on the page."""

    letter: str
    saved: Saved
    log: list[EpochLog]


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Write index.html and its PNG files on two to 26 finished runs into the folder `out`; return the page's path.

    Raises `InputError`, one line, where a run is not finished, there are too few or too many, or a file cannot be
    written.
    """
    if not 2 <= len(runs) <= len(ascii_uppercase):
        raise InputError(f"compare: {len(runs)} runs; between 2 and {len(ascii_uppercase)} can be compared")
    compared = []
    for letter, path in zip(ascii_uppercase, runs, strict=False):
        saved = open_run(path)
        compared.append(Compared(letter, saved, read_log(saved)))
    require_folder_of(out)
    drawn = _pictures(compared)
    light = {name: one.draw(theme=LIGHT) for name, one in drawn.items()}
    style = asset("run.css")
    page = Template(asset("compare.html")).substitute(
        policy=policy(style),
        style=style,
        title=html.escape(f"{len(compared)} runs compared"),
        results=_results(compared),
        differences=_differences(compared),
        figures="".join(figure_html(one, light[name], one.draw(theme=DARK)) for name, one in drawn.items()),
    )
    try:
        out.mkdir(exist_ok=True)
        for name, png in light.items():
            write_whole(out / f"{name}.png", png)
        write_whole(out / "index.html", page.encode())
    except OSError as error:
        raise InputError(f"{out}: the page cannot be written: {error.strerror}") from error
    return out / "index.html"


def _pictures(compared: Sequence[Compared]) -> dict[str, Picture]:
    letters = ", ".join(one.letter for one in compared)

    def picture(what: str, unit: str, value: Callable[[EpochLog], float], *, timed: bool = False) -> Picture:
        by = "seconds of training" if timed else "epoch"
        alt = f"Line chart of the {what} by {by}, a line for each of the runs {letters}."
        return Picture(partial(_curves, compared, unit, value, timed), alt, f"{what.capitalize()} by {by}.")

    return {
        "test-accuracy": picture("test accuracy", "test accuracy, %", lambda one: 100 * one.test_accuracy),
        "test-accuracy-by-seconds": picture(
            "test accuracy", "test accuracy, %", lambda one: 100 * one.test_accuracy, timed=True
        ),
        "test-loss": picture("test loss", "test cross-entropy", lambda one: one.test_loss),
        "train-loss": picture("training loss", "training loss", lambda one: one.train_loss),
        "learning-rate": picture("learning rate", "learning rate", lambda one: one.learning_rate),
        "throughput": picture("images trained on a second", "images/s", lambda one: one.images_per_second),
    }


def _curves(
    compared: Sequence[Compared], unit: str, value: Callable[[EpochLog], float], timed: bool, theme: Theme = LIGHT
) -> bytes:
    """A line for each run; colour, dashes and marks change from one to the next."""
    with drawing(theme, 2.6) as (figure, png):
        axis = figure.subplots()
        for k, one in enumerate(compared):
            colour, dashes = theme.series[k % len(theme.series)], DASHES[k % len(DASHES)]
            values = [value(epoch) for epoch in one.log]
            places = [float(epoch.epoch) for epoch in one.log]
            if timed:
                places = [sum(past.train_seconds for past in one.log[: n + 1]) for n in range(len(one.log))]
            line(axis, places, values, colour, label=one.letter, linestyle=dashes, marker=MARKERS[k % len(MARKERS)])
        axis.set(ylabel=unit, xlabel="training, s" if timed else "epoch")
        axis.xaxis.set_major_formatter("{x:,g}")
        if unit == "images/s":
            axis.yaxis.set_major_formatter("{x:,g}")
        figure.legend(loc="outside upper center", ncols=min(len(compared), 7))
    return png.getvalue()


def _results(compared: Sequence[Compared]) -> str:
    rows = []
    for one in compared:
        reached = one.saved.run["result"].get("time_to_target")
        rows.append(
            (
                one.letter,
                one.saved.path.resolve().name,
                f"{one.saved.name}, seed {one.saved.recipe.seed}",
                percent(one.saved.final_accuracy),
                percent(max(epoch.test_accuracy for epoch in one.log)),
                str(len(one.log)),
                seconds(sum(epoch.train_seconds for epoch in one.log)),
                f"{seconds(reached) if isinstance(reached, int | float) else 'not reached'}",
                f"{100 * one.saved.recipe.target:g} %",
                f"{statistics.median(epoch.images_per_second for epoch in one.log):,.0f}",
            )
        )
    headings = (
        "run",
        "folder",
        "recipe",
        "test accuracy",
        "best",
        "epochs",
        "training",
        "to target",
        "target",
        "images/s, median",
    )
    return table("results", "The runs and the letters they have below", headings, rows, texts=(0, 1, 2))


def _differences(compared: Sequence[Compared]) -> str:
    """The fields of recipe, execution, data and environment that are not the same in all runs."""
    fields: list[dict[str, str]] = []
    for one in compared:
        parts = {part: one.saved.run.get(part) for part in ("recipe", "execution", "dataset", "environment")}
        known: Mapping[str, Any] = {part: found for part, found in parts.items() if isinstance(found, dict)}
        fields.append(dict(flat(known)))
    names = dict.fromkeys(name for run in fields for name in run)
    rows = []
    for name in names:
        values = [run.get(name, "none") for run in fields]
        if len(set(values)) > 1:
            rows.append((name, *values))
    if not rows:
        return "<p>Recipe, execution, data and environment are the same in all of them.</p>"
    letters = [one.letter for one in compared]
    return table("differences", "By field", ("field", *letters), rows, texts=range(1 + len(letters)))
