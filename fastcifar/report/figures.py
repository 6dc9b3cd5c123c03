"""The pictures of a run: each function draws one and gives its figure (`fastcifar.report.drawing`)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fastcifar.report.drawing import GROUND, QUIET, SERIES, TEXT, in_style, line, new_figure
from fastcifar.report.text import certainty
from fastcifar.runs.predictions import Calibration, accuracy_by_class, wilson
from fastcifar.training.log import EpochLog

MISTAKES = (5, 5)


@in_style
def loss(log: Sequence[EpochLog]) -> Figure:
    """Training and test loss by epoch."""
    figure = new_figure(2.35)
    axis = figure.subplots()
    _train_and_test(axis, log, [one.train_loss for one in log], [one.test_loss for one in log])
    axis.set(ylabel="cross-entropy", ylim=(0, None))
    return figure


@in_style
def accuracy(log: Sequence[EpochLog], target: float) -> Figure:
    """Training and test accuracy by epoch, in per cent, and the target (0 to 1) as a line."""
    figure = new_figure(2.35)
    axis = figure.subplots()
    train, test = [100 * one.train_accuracy for one in log], [100 * one.test_accuracy for one in log]
    axis.axhline(100 * target, color=QUIET, linewidth=0.9, linestyle=":", label=f"target {100 * target:g} %")
    _train_and_test(axis, log, train, test)
    axis.set(ylabel="accuracy, %")
    return figure


@in_style
def learning_rate(log: Sequence[EpochLog]) -> Figure:
    """Learning rate at the end of each epoch."""
    figure = new_figure(2.35)
    axis = figure.subplots()
    line(axis, _epochs(log), [one.learning_rate for one in log], SERIES[0])
    axis.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    axis.ticklabel_format(axis="y", scilimits=(-3, 4))
    return figure


@in_style
def throughput(log: Sequence[EpochLog]) -> Figure:
    """Images trained on a second, by epoch, with their median as a line."""
    figure = new_figure(2.35)
    axis = figure.subplots()
    rates = [one.images_per_second for one in log]
    median = float(np.median(rates))
    axis.axhline(median, color=QUIET, linewidth=0.9, linestyle=":", label=f"median {median:,.0f}")
    line(axis, _epochs(log), rates, SERIES[0])
    axis.set(xlabel="epoch", ylabel="images/s", ylim=(0, 1.12 * max(rates)))
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.legend(loc="lower right")
    return figure


@in_style
def confusion_matrix(confusion: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Numbers of images (10, 10), true classes in rows; a cell's colour is its share of the row."""
    figure = new_figure(3.45)
    axis = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # The root lets mistakes of a few per cent be seen beside a diagonal of ninety.
    cells = [[to_rgba(SERIES[0], share) for share in row] for row in shares**0.5]
    edges = np.arange(len(classes) + 1) - 0.5
    axis.pcolormesh(edges, edges, np.array(cells))
    for (row, column), count in np.ndenumerate(confusion):
        if count:
            full = shares[row, column] ** 0.5 > 0.55
            colour = GROUND if full else TEXT
            axis.text(column, row, str(count), ha="center", va="center", fontsize=6.5, color=colour)
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel="predicted", ylabel="true", aspect="equal")
    axis.invert_yaxis()
    axis.grid(visible=False)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


@in_style
def class_bars(confusion: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Accuracy of each class in per cent, the best on top, with its 95 % interval; the line is the whole test set's."""
    figure = new_figure(3.45)
    axis = figure.subplots()
    images = confusion.sum(axis=1)
    present = np.flatnonzero(images)
    shares = accuracy_by_class(confusion)
    order = present[np.argsort(shares[present], kind="stable")]
    low, high = wilson(confusion.diagonal(), images)
    spread = 100 * np.stack((shares - low, high - shares))[:, order].clip(0)
    names = [classes[k] for k in order]
    axis.barh(names, 100 * shares[order], height=0.66, color=SERIES[0])
    axis.errorbar(100 * shares[order], names, xerr=spread, fmt="none", color=TEXT, elinewidth=0.9, capsize=1.5)
    for name, share in zip(names, 100 * shares[order], strict=True):
        axis.text(102, name, f"{share:.1f}", va="center")  # in a column, which no bar or line comes near
    whole = 100 * confusion.trace() / max(images.sum(), 1)
    axis.axvline(whole, color=SERIES[1], linewidth=1.1, linestyle="--", label=f"all classes {whole:.2f} %")
    axis.set(xlabel="accuracy, %", xlim=(0, 100))
    axis.set_xticks(range(0, 101, 20))
    axis.grid(visible=False, axis="y")
    axis.grid(visible=True, axis="x")
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper right")
    return figure


@in_style
def reliability(calibration: Calibration) -> Figure:
    """Accuracy by confidence with the gap to the diagonal hatched, above the share of images in each bin."""
    figure = new_figure(3.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    bins = len(calibration.count)
    middle, width = (np.arange(bins) + 0.5) / bins, 1 / bins
    filled = calibration.count > 0
    light = {"color": SERIES[0], "alpha": 0.45, "linewidth": 0}  # so that the hatching is seen on it
    upper.bar(middle[filled], calibration.accuracy[filled], 0.92 * width, label="accuracy", **light)
    upper.bar(
        middle[filled],
        (calibration.confidence - calibration.accuracy)[filled],
        0.92 * width,
        bottom=calibration.accuracy[filled],
        label="gap to confidence",
        linewidth=0.7,
        facecolor="none",
        edgecolor=SERIES[1],
        hatch="//////",
    )
    upper.plot([0, 1], [0, 1], color=TEXT, linewidth=0.9, linestyle="--", label="calibrated")
    upper.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1))
    upper.legend(loc="upper left", title=f"ECE {100 * calibration.error:.2f} %", alignment="left")
    lower.bar(middle, 100 * calibration.count / max(calibration.count.sum(), 1), 0.92 * width, color=SERIES[0])
    lower.set(ylabel="images, %", xlabel="confidence (highest probability)")
    return figure


@in_style
def mistakes(
    images_nhwc: NDArray[np.uint8],
    true: Sequence[str],
    predicted: Sequence[str],
    confidence: Sequence[float],
) -> Figure:
    """At most 25 wrongly predicted images (k, 32, 32, 3); below each its class, the one predicted and its probability
    (0 to 1)."""
    rows, columns = MISTAKES
    rows = max(min(rows, -(-len(images_nhwc) // columns)), 1)
    figure = new_figure(1.02 * rows)
    axis = figure.subplots()
    for k, (x, y) in enumerate(_tiles(axis, images_nhwc, columns, rows, pitch=(37, 53))):
        lines = ((true[k], TEXT), (f"→ {predicted[k]}", SERIES[1]), (certainty(confidence[k]), QUIET))
        for line_number, (text, colour) in enumerate(lines):
            axis.text(x + 16, y + 33.5 + 5.3 * line_number, text, fontsize=6.5, color=colour, ha="center", va="top")
    return figure


@in_style
def transforms(images_nhwc: NDArray[np.uint8], captions: Sequence[str]) -> Figure:
    """Nine images (9, 32, 32, 3), the first one the original, with what was done to each written below it."""
    figure = new_figure(4.2)
    axis = figure.subplots()
    for k, (x, y) in enumerate(_tiles(axis, images_nhwc, 3, 3, pitch=(35, 42))):
        axis.text(x + 16, y + 33, captions[k], fontsize=7, ha="center", va="top", linespacing=1.15)
    return figure


def _train_and_test(axis: Axes, log: Sequence[EpochLog], train: Sequence[float], test: Sequence[float]) -> None:
    line(axis, _epochs(log), train, SERIES[1], label="train", linestyle="--", marker="s")
    line(axis, _epochs(log), test, SERIES[0], label="test")
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
        # Its own pixels, in the SVG too.
        axis.imshow(image, interpolation="none", extent=(x, x + 32, y + 32, y))
    axis.set(xlim=(0, across * (columns - 1) + 32), ylim=(down * rows, 0), aspect="equal")
    axis.axis("off")
    return corners
