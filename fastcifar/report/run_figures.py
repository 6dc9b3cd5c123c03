"""The pictures of a run's network and of its images, each with what it shows in words (`fastcifar.report.drawing`)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from numpy.typing import NDArray

from fastcifar.data.dataset import Dataset
from fastcifar.data.fused import FusedLoader
from fastcifar.data.plan import EpochPlan, draw_plan
from fastcifar.recipe import Augmentation, Recipe
from fastcifar.report.drawing import GROUND, QUIET, SERIES, TEXT, Picture, in_style, new_figure
from fastcifar.report.text import certainty, percent
from fastcifar.runs.predictions import Tested, accuracy_by_class, wilson

IMAGES, PLANS = 3, 6
MISTAKES = 5  # a row


@dataclass(frozen=True)
class Transformed:
    """Training images and what plans make of each, (images, 1 + PLANS, 32, 32, 3) uint8, their classes, their plans."""

    images_nhwc: NDArray[np.uint8]
    names: list[str]
    plans: list[EpochPlan]

    def told(self, image: int, plan: int, augmentation: Augmentation) -> list[str]:
        """What plan `plan`, from 0, does with image `image`."""
        of = self.plans[image]
        done = [f"crop {of.crop[plan, 0]}, {of.crop[plan, 1]}"] if augmentation.pad else []
        done += ["mirrored"] if of.flip[plan] else []
        return done or ["as it is"]


def transformed(recipe: Recipe, dataset: Dataset) -> Transformed:
    """The first images a run of `recipe` trains on, and what the plans of its first epochs make of them."""
    augmentation, total = recipe.augmentation, len(dataset.train_images)
    drawn = [draw_plan(total, augmentation, seed=recipe.seed, epoch=epoch) for epoch in range(PLANS)]
    chosen = drawn[0].indices[:IMAGES]
    parts = []
    for index in chosen:
        places = [int(np.flatnonzero(plan.indices == index)[0]) for plan in drawn]
        parts.append(_joined([plan[place : place + 1] for plan, place in zip(drawn, places, strict=True)]))
    plans = replace(_joined(parts), indices=np.repeat(np.arange(len(chosen)), PLANS))
    alone = replace(dataset, train_images=dataset.train_images[chosen], train_labels=dataset.train_labels[chosen])
    # Every loader gives these pixels; this one, uncompiled, starts at once and needs nothing installed.
    loader = FusedLoader(alone, augmentation, batch_size=len(plans), device=torch.device("cpu"), compiled=False)
    normalised, _ = next(iter(loader.batches(plans)))
    pixels = normalised.permute(0, 2, 3, 1).numpy() * np.array(dataset.std) + np.array(dataset.mean)
    made = pixels.round().clip(0, 255).astype(np.uint8).reshape(len(chosen), PLANS, 32, 32, 3)
    shown = np.concatenate((alone.train_images[:, None], made), axis=1)
    return Transformed(shown, [dataset.classes[int(label)] for label in alone.train_labels], parts)


def _joined(parts: Sequence[EpochPlan]) -> EpochPlan:
    return EpochPlan(**{of.name: np.concatenate([getattr(one, of.name) for one in parts]) for of in fields(EpochPlan)})


@in_style
def transforms(recipe: Recipe, seen: Transformed) -> Picture:
    """Of each image a row: as it is, and what was made of it, with what was done written below."""
    rows, columns = seen.images_nhwc.shape[:2]
    figure, axis = new_figure(0.74 * rows + 0.1)
    corners = _tiles(axis, seen.images_nhwc.reshape(-1, 32, 32, 3), columns, rows, pitch=(35, 52))
    for number, (x, y) in enumerate(corners):
        row, column = divmod(number, columns)
        said = [f"epoch {column}", *seen.told(row, column - 1, recipe.augmentation)] if column else [seen.names[row]]
        axis.text(x + 16, y + 33, "\n".join(said), fontsize=5, ha="center", va="top", linespacing=1.1)
    return Picture(
        "transforms",
        figure,
        f"Grid of images: in each row a training image, of class {', '.join(seen.names)}, and what the plans of "
        f"{PLANS} epochs make of it. The table has what they do in words.",
        f"The first {rows} images of the run as they are, and as the plans of its epochs transform them.",
    )


def answers(found: Tested, dataset: Dataset) -> dict[str, Picture]:
    """The pictures of what the network says of the test images, by name."""
    drawn = confusion_matrix(found), class_bars(found), reliability(found), mistakes(found, dataset)
    return {one.name: one for one in drawn}


@in_style
def confusion_matrix(found: Tested) -> Picture:
    """Numbers of images, true classes in rows; a cell's colour is its share of the row."""
    confusion, names = found.confusion, found.classes
    figure, axis = new_figure(3.45)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # The root lets mistakes of a few per cent be seen beside a diagonal of ninety.
    cells = [[to_rgba(SERIES[0], share) for share in row] for row in shares**0.5]
    edges = np.arange(len(names) + 1) - 0.5
    axis.pcolormesh(edges, edges, np.array(cells))
    for (row, column), count in np.ndenumerate(confusion):
        if count:
            full = shares[row, column] ** 0.5 > 0.55
            colour = GROUND if full else TEXT
            axis.text(column, row, str(count), ha="center", va="center", fontsize=6.5, color=colour)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="predicted", ylabel="true", aspect="equal")
    axis.invert_yaxis()
    axis.grid(visible=False)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return Picture(
        "confusion",
        figure,
        f"Confusion matrix of {len(names)} classes: {confusion.trace():,} of {confusion.sum():,} images are on "
        "its diagonal. The table by class names the chief confusions.",
        "Test images by true class (row) and predicted class (column); colour: share of the row, on a root scale.",
    )


@in_style
def class_bars(found: Tested) -> Picture:
    """Accuracy of each class in per cent, the best on top, with its 95 % interval; the line is the whole test set's."""
    confusion, names, shares = found.confusion, found.classes, accuracy_by_class(found.confusion)
    figure, axis = new_figure(3.45)
    images = confusion.sum(axis=1)
    present = np.flatnonzero(images)
    order = present[np.argsort(shares[present], kind="stable")]
    low, high = wilson(confusion.diagonal(), images)
    spread = 100 * np.stack((shares - low, high - shares))[:, order].clip(0)
    named = [names[k] for k in order]
    axis.barh(named, 100 * shares[order], height=0.66, color=SERIES[0])
    axis.errorbar(100 * shares[order], named, xerr=spread, fmt="none", color=TEXT, elinewidth=0.9, capsize=1.5)
    for name, share in zip(named, 100 * shares[order], strict=True):
        axis.text(102, name, f"{share:.1f}", va="center")  # in a column, which no bar or line comes near
    whole = 100 * confusion.trace() / max(images.sum(), 1)
    axis.axvline(whole, color=SERIES[1], linewidth=1.1, linestyle="--", label=f"all classes {whole:.2f} %")
    axis.set(xlabel="accuracy, %", xlim=(0, 100))
    axis.set_xticks(range(0, 101, 20))
    axis.grid(visible=False, axis="y")
    axis.grid(visible=True, axis="x")
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper right")
    best, worst = int(np.nanargmax(shares)), int(np.nanargmin(shares))
    return Picture(
        "classes",
        figure,
        f"Bars of the accuracy of each class, from {names[worst]} with {percent(shares[worst], 1)} to "
        f"{names[best]} with {percent(shares[best], 1)}.",
        "Accuracy by class, with 95 % score intervals.",
    )


@in_style
def reliability(found: Tested) -> Picture:
    """Accuracy by confidence with the gap to the diagonal hatched, above the share of images in each bin."""
    calibration = found.calibration
    figure, (upper, lower) = new_figure(3.6, nrows=2, sharex=True, height_ratios=(3.2, 1))
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
    return Picture(
        "calibration",
        figure,
        f"Reliability diagram: accuracy by confidence in {bins} bins beside the diagonal, "
        "above the share of images in each bin. The table has the same figures.",
        f"Reliability of the highest probability; expected calibration error {percent(calibration.error)}.",
    )


@in_style
def mistakes(found: Tested, dataset: Dataset) -> Picture:
    """The surest mistakes; below each image its class, the one predicted and its probability."""
    rows = max(-(-len(found.wrong) // MISTAKES), 1)
    figure, axis = new_figure(1.02 * rows)
    for k, (x, y) in enumerate(_tiles(axis, dataset.test_images[found.wrong], MISTAKES, rows, pitch=(37, 53))):
        lines = ((found.true[k], TEXT), (f"→ {found.predicted[k]}", SERIES[1]), (certainty(found.confidence[k]), QUIET))
        for line_number, (text, colour) in enumerate(lines):
            axis.text(x + 16, y + 33.5 + 5.3 * line_number, text, fontsize=6.5, color=colour, ha="center", va="top")
    return Picture(
        "mistakes",
        figure,
        f"Grid of {len(found.wrong)} small test images that the network is surest of and wrong about; the table "
        "names each.",
        "Below each image: its class, the class predicted, and the probability given to that.",
    )


def _tiles(
    axis: Axes, images_nhwc: NDArray[np.uint8], columns: int, rows: int, *, pitch: tuple[int, int]
) -> list[tuple[int, int]]:
    """Images 32 units wide and high in rows, `pitch` units apart (x, y); where the upper left corner of each is."""
    across, down = pitch
    corners = [(across * (k % columns), down * (k // columns)) for k in range(len(images_nhwc))]
    for image, (x, y) in zip(images_nhwc, corners, strict=True):
        axis.imshow(image, interpolation="none", extent=(x, x + 32, y + 32, y))  # its own pixels, in the SVG too
    axis.set(xlim=(0, across * (columns - 1) + 32), ylim=(down * rows, 0), aspect="equal")
    axis.axis("off")
    return corners
