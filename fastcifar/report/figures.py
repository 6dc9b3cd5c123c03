"""The pictures of a run: each function draws one and gives it as the bytes of a PNG file.

All are 3.5 inches wide, a column of a paper, at 300 dots an inch; their letters are 7 to 8 points there. Colours are
told apart by the colour-blind, and line style or order says the same. `LIGHT` is for paper, `DARK` for dark pages.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fastcifar.training.log import EpochLog
from fastcifar.training.predictions import Calibration, accuracy_by_class, wilson

WIDTH, DPI = 3.5, 300
MISTAKES = (5, 5)


@dataclass(frozen=True)
class Theme:
    """Colours: the ground, letters, letters and lines of less weight, and those for data, the main one first."""

    ground: str
    text: str
    quiet: str
    line: str
    series: tuple[str, ...]


LIGHT = Theme(
    ground="#ffffff",
    text="#1c2024",
    quiet="#596169",
    line="#dfe2e0",
    series=("#0069b4", "#c94f00", "#00805c", "#b23a86", "#8a6500", "#2b3138"),
)
DARK = Theme(
    ground="#1d2125",
    text="#e7e9eb",
    quiet="#a3abb3",
    line="#3a4149",
    series=("#5fb2f2", "#ff8a57", "#35c79b", "#ec8fc6", "#e0bd3a", "#eef0f2"),
)


def loss(log: Sequence[EpochLog], theme: Theme = LIGHT) -> bytes:
    """Training and test loss by epoch."""
    with drawing(theme, 2.35) as (figure, png):
        axis = figure.subplots()
        _train_and_test(axis, log, [one.train_loss for one in log], [one.test_loss for one in log], theme)
        axis.set(ylabel="cross-entropy", ylim=(0, None))
    return png.getvalue()


def accuracy(log: Sequence[EpochLog], target: float, theme: Theme = LIGHT) -> bytes:
    """Training and test accuracy by epoch, in per cent, and the target (0 to 1) as a line."""
    with drawing(theme, 2.35) as (figure, png):
        axis = figure.subplots()
        train, test = [100 * one.train_accuracy for one in log], [100 * one.test_accuracy for one in log]
        axis.axhline(100 * target, color=theme.quiet, linewidth=0.9, linestyle=":", label=f"target {100 * target:g} %")
        _train_and_test(axis, log, train, test, theme)
        axis.set(ylabel="accuracy, %")
    return png.getvalue()


def learning_rate(log: Sequence[EpochLog], theme: Theme = LIGHT) -> bytes:
    """Learning rate at the end of each epoch."""
    with drawing(theme, 2.35) as (figure, png):
        axis = figure.subplots()
        line(axis, _epochs(log), [one.learning_rate for one in log], theme.series[0])
        axis.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
        axis.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=True)
    return png.getvalue()


def throughput(log: Sequence[EpochLog], theme: Theme = LIGHT) -> bytes:
    """Images trained on a second, by epoch, with their median as a line."""
    with drawing(theme, 2.35) as (figure, png):
        axis = figure.subplots()
        rates = [one.images_per_second for one in log]
        axis.axhline(
            float(np.median(rates)),
            color=theme.quiet,
            linewidth=0.9,
            linestyle=":",
            label=f"median {np.median(rates):,.0f}",
        )
        line(axis, _epochs(log), rates, theme.series[0])
        axis.set(xlabel="epoch", ylabel="images/s", ylim=(0, 1.12 * max(rates)))
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.legend(loc="lower right")
    return png.getvalue()


def confusion_matrix(confusion: NDArray[np.int64], classes: Sequence[str], theme: Theme = LIGHT) -> bytes:
    """Numbers of images (10, 10), true classes in rows; a cell's colour is its share of the row."""
    with drawing(theme, 3.45) as (figure, png):
        axis = figure.subplots()
        shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        colours = LinearSegmentedColormap.from_list("ground to first", [theme.ground, theme.series[0]])
        # The root lets mistakes of a few per cent be seen beside a diagonal of ninety.
        axis.imshow(shares, cmap=colours, norm=PowerNorm(0.5, 0, 1))
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                full = shares[row, column] ** 0.5 > 0.55
                axis.text(
                    column,
                    row,
                    str(count),
                    ha="center",
                    va="center",
                    fontsize=6.5,
                    color=theme.ground if full else theme.text,
                )
        axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(classes)), classes)
        axis.set(xlabel="predicted", ylabel="true")
        axis.grid(visible=False)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    return png.getvalue()


def class_bars(confusion: NDArray[np.int64], classes: Sequence[str], theme: Theme = LIGHT) -> bytes:
    """Accuracy of each class in per cent, the best on top, with its 95 % interval; the line is the whole test set's."""
    with drawing(theme, 3.45) as (figure, png):
        axis = figure.subplots()
        images = confusion.sum(axis=1)
        present = np.flatnonzero(images)
        shares = accuracy_by_class(confusion)
        order = present[np.argsort(shares[present], kind="stable")]
        low, high = wilson(confusion.diagonal(), images)
        spread = 100 * np.stack((shares - low, high - shares))[:, order].clip(0)
        names = [classes[k] for k in order]
        axis.barh(names, 100 * shares[order], height=0.66, color=theme.series[0])
        axis.errorbar(
            100 * shares[order], names, xerr=spread, fmt="none", ecolor=theme.text, elinewidth=0.9, capsize=1.5
        )
        for name, share in zip(names, 100 * shares[order], strict=True):
            axis.text(102, name, f"{share:.1f}", va="center")  # in a column, which no bar or line comes near
        whole = 100 * confusion.trace() / max(images.sum(), 1)
        axis.axvline(whole, color=theme.series[1], linewidth=1.1, linestyle="--", label=f"all classes {whole:.2f} %")
        axis.set(xlabel="accuracy, %", xlim=(0, 100))
        axis.set_xticks(range(0, 101, 20))
        axis.grid(visible=False, axis="y")
        axis.grid(visible=True, axis="x")
        axis.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper right")
    return png.getvalue()


def reliability(calibration: Calibration, theme: Theme = LIGHT) -> bytes:
    """Accuracy by confidence with the gap to the diagonal hatched, above the share of images in each bin."""
    with drawing(theme, 3.6) as (figure, png):
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        bins = len(calibration.count)
        middle, width = (np.arange(bins) + 0.5) / bins, 1 / bins
        filled = calibration.count > 0
        light = {"color": theme.series[0], "alpha": 0.45, "linewidth": 0}  # so that the hatching is seen on it
        upper.bar(middle[filled], calibration.accuracy[filled], 0.92 * width, label="accuracy", **light)
        upper.bar(
            middle[filled],
            (calibration.confidence - calibration.accuracy)[filled],
            0.92 * width,
            bottom=calibration.accuracy[filled],
            label="gap to confidence",
            linewidth=0.7,
            facecolor="none",
            edgecolor=theme.series[1],
            hatch="//////",
        )
        upper.plot([0, 1], [0, 1], color=theme.text, linewidth=0.9, linestyle="--", label="calibrated")
        upper.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1))
        upper.legend(loc="upper left", title=f"ECE {100 * calibration.error:.2f} %", alignment="left")
        lower.bar(
            middle, 100 * calibration.count / max(calibration.count.sum(), 1), 0.92 * width, color=theme.series[0]
        )
        lower.set(ylabel="images, %", xlabel="confidence (highest probability)")
    return png.getvalue()


def mistakes(
    images_nhwc: NDArray[np.uint8],
    true: Sequence[str],
    predicted: Sequence[str],
    confidence: Sequence[float],
    theme: Theme = LIGHT,
) -> bytes:
    """At most 25 wrongly predicted images (k, 32, 32, 3); below each its class, the one predicted and its probability
    (0 to 1)."""
    rows, columns = MISTAKES
    rows = max(min(rows, -(-len(images_nhwc) // columns)), 1)
    with drawing(theme, 1.02 * rows) as (figure, png):
        axis = figure.subplots()
        for k, (x, y) in enumerate(_tiles(axis, images_nhwc, columns, rows, pitch=(37, 53))):
            lines = (
                (true[k], theme.text),
                (f"→ {predicted[k]}", theme.series[1]),
                (certainty(confidence[k]), theme.quiet),
            )
            for line_number, (text, colour) in enumerate(lines):
                axis.text(x + 16, y + 33.5 + 5.3 * line_number, text, fontsize=6.5, color=colour, ha="center", va="top")
    return png.getvalue()


def transforms(images_nhwc: NDArray[np.uint8], captions: Sequence[str], theme: Theme = LIGHT) -> bytes:
    """Nine images (9, 32, 32, 3), the first one the original, with what was done to each written below it."""
    with drawing(theme, 4.2) as (figure, png):
        axis = figure.subplots()
        for k, (x, y) in enumerate(_tiles(axis, images_nhwc, 3, 3, pitch=(35, 42))):
            axis.text(x + 16, y + 33, captions[k], fontsize=7, ha="center", va="top", linespacing=1.15)
    return png.getvalue()


def percent(share: float, digits: int = 2) -> str:
    """A share (0 to 1) in per cent."""
    return f"{100 * share:.{digits}f} %"


def certainty(probability: float) -> str:
    """A probability in per cent, of which none is said to be 100 %."""
    return "> 99.99 %" if probability > 0.9999 else percent(probability)


@contextmanager
def drawing(theme: Theme, height: float) -> Iterator[tuple[Figure, io.BytesIO]]:
    """A figure in the shared style, `height` inches high, and where its PNG is written when the drawing is done."""
    png = io.BytesIO()
    style = {
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
        "font.size": 7.5,
        "axes.labelsize": 8,
        "text.color": theme.text,
        "axes.labelcolor": theme.text,
        "axes.edgecolor": theme.quiet,
        "axes.facecolor": theme.ground,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": theme.line,
        "grid.linewidth": 0.5,
        "xtick.color": theme.quiet,
        "ytick.color": theme.quiet,
        "xtick.labelcolor": theme.text,
        "ytick.labelcolor": theme.text,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "lines.linewidth": 1.4,
        "lines.markersize": 3.5,
        "legend.frameon": False,
        "legend.handlelength": 2.6,
        "hatch.color": theme.series[1],
        "hatch.linewidth": 0.6,
        "figure.facecolor": theme.ground,
    }
    with matplotlib.style.context(["default", style]):  # whatever the user's matplotlibrc says
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
        yield figure, png
        figure.savefig(png, format="png")


def line(
    axis: Axes,
    places: Sequence[float],
    values: Sequence[float],
    colour: str,
    *,
    label: str | None = None,
    linestyle: str = "-",
    marker: str = "o",
) -> None:
    """A line of one value an epoch, with marks where they are few enough not to hide it."""
    mark = marker if len(values) <= 30 else None
    axis.plot(places, values, linestyle, marker=mark, color=colour, label=label, clip_on=False)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _train_and_test(
    axis: Axes, log: Sequence[EpochLog], train: Sequence[float], test: Sequence[float], theme: Theme
) -> None:
    line(axis, _epochs(log), train, theme.series[1], label="train", linestyle="--", marker="s")
    line(axis, _epochs(log), test, theme.series[0], label="test")
    axis.set_xlabel("epoch")
    axis.legend()


def _epochs(log: Sequence[EpochLog]) -> list[float]:
    return [one.epoch for one in log]


def _tiles(
    axis: Axes, images_nhwc: NDArray[np.uint8], columns: int, rows: int, *, pitch: tuple[int, int]
) -> list[tuple[int, int]]:
    """Images 32 units wide and high in rows, `pitch` units apart (x, y); where the upper left corner of each is."""
    across, down = pitch
    corners = [(across * (k % columns), down * (k // columns)) for k in range(len(images_nhwc))]
    for image, (x, y) in zip(images_nhwc, corners, strict=True):
        axis.imshow(image, interpolation="nearest", extent=(x, x + 32, y + 32, y))
    axis.set(xlim=(0, across * (columns - 1) + 32), ylim=(down * rows, 0), aspect="equal")
    axis.axis("off")
    return corners
