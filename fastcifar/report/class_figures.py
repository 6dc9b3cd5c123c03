"""The pictures of how a network does class by class, each with what it shows in words (`fastcifar.report.drawing`)."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from fastcifar.report.drawing import (
    GROUND,
    LETTER,
    POINTS,
    QUIET,
    ROWS,
    SERIES,
    TEXT,
    WIDTH,
    Picture,
    in_style,
    new_figure,
    outermost,
    outermost_of,
)
from fastcifar.report.text import brief, percent
from fastcifar.runs.predictions import Tested, accuracy_by_class, wilson

FEW = 30  # classes up to which a matrix has numbers in its cells, where they can be read
MOST = 1000  # classes of a matrix: of more, a cell would be less than a dot of the picture
NAME, LEAST_NAME = 7.5, 5.5  # points of the letters beside the matrix
NUMBER, LEAST_NUMBER = 6.5, 4.0  # and of those in its cells


@in_style
def confusion_matrix(found: Tested) -> Picture:
    """Numbers of images, true classes in rows; a cell's colour is its share of the row. At most `MOST` classes.

    It is a square as wide as the picture allows, so with more classes the cells become smaller: of more than `FEW` it
    is an image of the colours alone, and names stand beside as many rows and columns as have room for one.
    """
    confusion, count = found.confusion, len(found.classes)
    # The root lets mistakes of a few per cent be seen beside a diagonal of ninety.
    shades = (confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)) ** 0.5
    cell = (WIDTH * POINTS - 22 - LETTER * NAME * max(len(brief(name)) for name in found.classes)) / count
    every = math.ceil(1.25 * LEAST_NAME / cell)
    size = min(NAME, 0.8 * every * cell)
    slanted = every * cell > 1.7 * size  # else upright, which takes less of a row
    figure, axis = new_figure(3.45 if slanted else WIDTH)
    _cells(axis, shades)
    if count <= FEW:
        _numbers(axis, confusion, shades, cell)
    places = range(0, count, every)
    names = [brief(found.classes[place]) for place in places]
    turned = {"rotation": 45 if slanted else 90, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticks(places, names, fontsize=size, **turned, **({} if slanted else {"va": "center"}))
    axis.set_yticks(places, names, fontsize=size)
    axis.set(xlabel="predicted", ylabel="true", aspect="equal", ylim=(count - 0.5, -0.5))
    axis.grid(visible=False)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(count > FEW)
    return Picture(
        "confusion",
        figure,
        f"Confusion matrix of {count} classes: {confusion.trace():,} of {confusion.sum():,} images are on "
        "its diagonal. The table by class names the chief confusions.",
        "Test images by true class (row) and predicted class (column); colour: share of the row, on a root scale."
        + (f" One class in {every} is named." if every > 1 else ""),
    )


def _cells(axis: Axes, shades: NDArray[np.float64]) -> None:
    """The colours, by their opacity (classes, classes), 0 to 1: each a path, or of more than `FEW` classes an image."""
    count = len(shades)
    if count > FEW:
        colours = np.empty((count, count, 4), np.uint8)
        colours[..., :3] = np.round(255 * np.array(to_rgb(SERIES[0])))
        colours[..., 3] = np.round(255 * shades)
        axis.imshow(colours)
    else:
        edges = np.arange(count + 1) - 0.5
        flat = np.full((count, count, 3), to_rgb(SERIES[0]))
        axis.pcolormesh(edges, edges, np.concatenate((flat, shades[..., None]), axis=2))


def _numbers(axis: Axes, confusion: NDArray[np.int64], shades: NDArray[np.float64], cell: float) -> None:
    """The numbers of images, where there are any, unless they would be too small to be read in cells of `cell` points
    a side."""
    size = min(NUMBER, 0.95 * cell / (0.64 * len(str(confusion.max()))))
    if size < LEAST_NUMBER:
        return
    for (row, column), images in np.ndenumerate(confusion):
        if images:
            colour = GROUND if shades[row, column] > 0.55 else TEXT
            axis.text(column, row, str(images), ha="center", va="center", fontsize=size, color=colour)


@in_style
def class_bars(found: Tested) -> Picture:
    """Accuracy of each class in per cent, the best on top, with its 95 % interval; the line is the whole test set's.

    Of more than `ROWS` classes the best and the worst.
    """
    confusion, shares = found.confusion, accuracy_by_class(found.confusion)
    images = confusion.sum(axis=1)
    present = np.flatnonzero(images)
    ranked = present[np.argsort(shares[present], kind="stable")].tolist()
    shown = outermost(ranked)
    figure, axis = new_figure(max(3.45, 0.8 + 0.16 * len(shown)))
    places, accuracies = np.arange(len(shown)), shares[shown]
    low, high = wilson(confusion.diagonal()[shown], images[shown])
    spread = 100 * np.stack((accuracies - low, high - accuracies)).clip(0)
    axis.barh(places, 100 * accuracies, height=0.66, color=SERIES[0])
    axis.errorbar(100 * accuracies, places, xerr=spread, fmt="none", color=TEXT, elinewidth=0.9, capsize=1.5)
    for place, share in zip(places, 100 * accuracies, strict=True):
        axis.text(102, place, f"{share:.1f}", va="center")  # in a column, which no bar or line comes near
    whole = 100 * confusion.trace() / max(images.sum(), 1)
    axis.axvline(whole, color=SERIES[1], linewidth=1.1, linestyle="--", label=f"all classes {whole:.2f} %")
    if len(shown) < len(ranked):
        axis.axhline(ROWS // 2 - 0.5, color=QUIET, linewidth=0.9)
    axis.set(xlabel="accuracy, %", xlim=(0, 100))
    axis.margins(y=min(0.05, 0.5 / len(shown)))
    axis.set_xticks(range(0, 101, 20))
    axis.set_yticks(places, [brief(found.classes[k]) for k in shown])
    axis.grid(visible=False, axis="y")
    axis.grid(visible=True, axis="x")
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper right")
    worst, best = (f"{found.classes[k]} with {percent(shares[k], 1)}" for k in (ranked[0], ranked[-1]))
    return Picture(
        "classes",
        figure,
        f"Bars of the accuracy of each class, from {worst} to {best}.",
        f"Accuracy by class, with 95 % score intervals{outermost_of(len(ranked))}.",
    )
