"""The pictures of many runs and of the benchmarks: curves side by side, the range test, bars."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from fastcifar.bench.throughput import Measurement
from fastcifar.files import write_whole
from fastcifar.report.bench_tables import TITLES
from fastcifar.report.drawing import (
    PUBLISHED,
    QUIET,
    SERIES,
    TEXT,
    WIDTH,
    Values,
    as_svg,
    in_style,
    line,
    new_figure,
)
from fastcifar.report.text import brief, four_digits, percent
from fastcifar.training.lr_finder import LrRange

DASHES, MARKERS = ("-", "--", ":", "-."), "os^Dv"
MANY = 12  # curves from which on marks would blacken a chart, but for each curve's last


@in_style
def compared(names: Sequence[str], places: Sequence[Values], values: Sequence[Values], x: str, y: str) -> Figure:
    """A line for each run; colour, dashes and marks change from one to the next. `x` and `y` name the axes."""
    columns = _columns(names)
    figure, axis = new_figure(2.3 + 0.15 * math.ceil(len(names) / columns))
    for k, (name, along, up) in enumerate(zip(names, places, values, strict=True)):
        colour, dashes = SERIES[k % len(SERIES)], DASHES[k % len(DASHES)]
        line(axis, along, up, colour, label=name, linestyle=dashes, marker=MARKERS[k % len(MARKERS)])
    axis.set(xlabel=x, ylabel=y)
    axis.xaxis.set_major_formatter("{x:,g}")
    if y == "images/s":
        axis.yaxis.set_major_formatter("{x:,g}")
    figure.legend(loc="outside upper center", ncols=columns)
    return figure


def _columns(names: Sequence[str]) -> int:
    """Of a legend above a chart, which has room for so many of these names in a row."""
    return max(1, min(len(names), int(WIDTH / (0.5 + 0.058 * max(map(len, names))))))  # inches: a line, a letter


@in_style
def by_class(names: Sequence[str], classes: Sequence[str], accuracies: Sequence[Values]) -> Figure:
    """A row for each class, in their order from the top, with a mark for each run at its accuracy there (0 to 1)."""
    columns = _columns(names)
    figure, axis = new_figure(0.8 + 0.24 * len(classes) + 0.15 * math.ceil(len(names) / columns))
    places = range(len(classes))  # not the names, of which two may be one
    for k, (name, shares) in enumerate(zip(names, accuracies, strict=True)):
        mark = {"marker": MARKERS[k % len(MARKERS)], "linestyle": "none", "markersize": 4.5, "alpha": 0.85}
        axis.plot([100 * one for one in shares], places, color=SERIES[k % len(SERIES)], label=name, **mark)
    axis.set(xlabel="accuracy, %")
    axis.set_yticks(places, map(brief, classes))
    axis.margins(y=min(0.05, 0.5 / len(classes)))
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.grid(visible=True, axis="both")
    figure.legend(loc="outside upper center", ncols=columns)
    return figure


@dataclass(frozen=True)
class Timed:
    """A curve of the leaderboard's chart: seconds of training and test accuracy (0 to 1) after each epoch. `index`
    counts records and published logs apart."""

    id: str
    name: str
    index: int
    published: bool
    points: Sequence[tuple[float, float]]

    @property
    def colour(self) -> str:
        """In hexadecimal, for paper; `PROPERTIES` has its name in the page's CSS."""
        return PUBLISHED if self.published else SERIES[self.index % len(SERIES)]

    @property
    def mark(self) -> str:
        """Of matplotlib's names; with the colour it tells 24 curves apart, though the pairs of 4 and 6 repeat at 12."""
        return "" if self.published else "os^D"[(self.index + self.index // 12) % 4]

    @property
    def dashes(self) -> tuple[float, ...]:
        """Lengths in points; none for a record."""
        return ((4, 2.7), (1.3, 2), (6, 2, 1.3, 2))[self.index % 3] if self.published else ()

    def title(self) -> str:
        """The name, and where the curve ends."""
        seconds, accuracy = self.points[-1]
        remark = " (published, not measured here)" if self.published else ""
        return f"{self.name}{remark}: {percent(accuracy)} after {four_digits(seconds)} s"


@in_style
def accuracy_over_time(curves: Sequence[Timed], targets: Sequence[float]) -> Markup:
    """Test accuracy against seconds of training, on a log scale, with the targets (0 to 1) as lines: SVG for a page."""
    figure, axis = new_figure(3.1)
    seconds = [seconds for curve in curves for seconds, _ in curve.points]
    for target in targets:
        axis.axhline(100 * target, color=QUIET, linewidth=0.8, linestyle=":")
        axis.annotate(
            f"target {100 * target:g} %",
            (0, 100 * target),
            (3, 2.5),
            ("axes fraction", "data"),
            textcoords="offset points",
            fontsize=6.5,
            color=QUIET,
        )
    for curve in curves:
        from_last = curve.points[::-1]  # which is marked, whatever is left out
        axis.plot(
            [seconds for seconds, _ in from_last],
            [100 * accuracy for _, accuracy in from_last],
            color=curve.colour,
            dashes=curve.dashes,
            marker=curve.mark,
            markevery=0.03 if len(curves) < MANY else [0],
            clip_on=False,
            gid=curve.id,
        )
    axis.set(xscale="log", xlabel="seconds of training, log scale", ylabel="test accuracy, %")
    axis.grid(visible=True, axis="x")
    _label_ticks(axis, min(seconds), max(seconds))
    alt = (
        f"Test accuracy against seconds of training, {len(curves)} curves, one for each record and published log. "
        "The same figures are in the records' logs."
    )
    return as_svg(figure, "chart", alt, {curve.id: curve.title() for curve in curves})


def _label_ticks(axis: Axes, low: float, high: float) -> None:
    """Few labels on a logarithmic x axis that goes from about `low` to about `high`, and none with a power."""
    span = high / low
    few = (1.0, 2.0, 5.0) if span < 100 else (1.0, 3.0) if span < 1000 else (1.0,)
    axis.xaxis.set_major_locator(LogLocator(subs=few) if span > 5 else MaxNLocator(5))
    axis.xaxis.set_major_formatter("{x:,.10g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


def values_json(found: LrRange) -> str:
    """What was found, and each step's learning rate, loss and smoothed loss (null where it is not finite), as JSON."""
    steps = [
        {"learning_rate": rate, "loss": _finite(loss), "smoothed": _finite(smoothed)}
        for rate, loss, smoothed in zip(found.learning_rates, found.losses, found.smoothed, strict=True)
    ]
    return json.dumps({"format": 1, **found.note(), "values": steps}, indent=2, allow_nan=False) + "\n"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def keep_lr(found: LrRange, folder: Path) -> tuple[Path, Path]:
    """Write the picture (lr_range.png) and the values (lr_range.json) into `folder`, which is there; their paths."""
    picture, values = folder / "lr_range.png", folder / "lr_range.json"
    draw_lr(found, picture)
    write_whole(values, values_json(found).encode())
    return picture, values


@in_style
def draw_lr(found: LrRange, path: Path) -> None:
    """Loss against the learning rate (log scale), with LRMIN and LRMAX marked; PNG or SVG by the name of `path`."""
    figure, axis = new_figure(3.2, 5.5)
    axis.plot(found.learning_rates, found.losses, color=SERIES[0], alpha=0.35, linewidth=0.7, label="loss of each step")
    axis.plot(found.learning_rates, found.smoothed, color=SERIES[0], label="smoothed")
    lowest = found.learning_rates[found.lowest], found.smoothed[found.lowest]
    axis.plot(*lowest, "o", color=SERIES[0], markersize=5, label=f"lowest, at {lowest[0]:.2g}")
    # A diverged loss would press all that matters to the floor.
    bottom = min(loss for loss in found.losses if math.isfinite(loss))
    top = max(found.smoothed[: found.lowest + 1])
    axis.set_ylim(bottom - 0.1 * (top - bottom), top + 0.35 * (top - bottom))
    axis.axvspan(found.min_lr, found.max_lr, color=SERIES[1], alpha=0.06, linewidth=0)
    for name, rate in (("LRMIN", found.min_lr), ("LRMAX", found.max_lr)):
        axis.axvline(rate, color=SERIES[1], linewidth=1.1)
        axis.annotate(
            f"{name} {rate:g}",
            (rate, 1.0),
            (-4, -4),
            ("data", "axes fraction"),
            textcoords="offset points",
            ha="right",
            va="top",
            color=SERIES[1],
            rotation=90,
        )
    axis.set(xscale="log", xlabel="learning rate (log scale)", ylabel="training loss")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_title(f"learning-rate range test, seed {found.seed}\n{found.rule}", loc="left")
    axis.legend(loc="lower left")
    figure.savefig(path)


@in_style
def draw_bench(measurements: Sequence[Measurement], path: Path) -> None:
    """Bars of the medians with their quartiles, the limit as a mark, the ratio to the yardstick as text; PNG or SVG."""
    shown = [one for one in measurements if one.unit == "images/s"]
    benches = [bench for bench in TITLES if any(one.bench == bench for one in shown)]
    counts = [sum(one.bench == bench for one in shown) for bench in benches]
    height = 0.8 * len(benches) + 0.25 * sum(counts)
    figure, axes = new_figure(height, 7, nrows=len(benches), height_ratios=counts, squeeze=False)
    for bench, axis in zip(benches, axes[:, 0], strict=True):
        rows = sorted((one for one in shown if one.bench == bench), key=lambda one: one.median)
        names, medians = [one.name for one in rows], [one.median for one in rows]
        spread = [[one.median - one.q1 for one in rows], [one.q3 - one.median for one in rows]]
        axis.barh(names, medians, xerr=spread, color=SERIES[0], ecolor=TEXT, height=0.65)
        for one in rows:
            if one.limit is not None:
                axis.scatter(one.limit, one.name, marker="|", s=120, linewidths=1.5, color=SERIES[1], zorder=3)
            if one.ratio_to_plain is not None:
                end, apart = (max(one.q3, one.median), one.name), (4, 0)
                axis.annotate(f"{one.ratio_to_plain:,.3g} x", end, apart, textcoords="offset points", va="center")
        axis.set(xscale="log")
        axis.margins(x=0.18)
        axis.grid(visible=False)
        _label_ticks(axis, min(one.q1 for one in rows), max(one.limit or one.q3 for one in rows))
        axis.set_title(TITLES[bench], loc="left")
    axes[-1, 0].set_xlabel("images/s (log scale); the mark is the limit, the text the ratio to plain PyTorch")
    figure.savefig(path)
