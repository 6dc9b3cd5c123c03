"""The pictures of a run's network and of its images, each with what it shows in words (`fastcifar.report.drawing`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fastcifar.data.dataset import Dataset
from fastcifar.data.fused import FusedLoader
from fastcifar.data.plan import IMAGE_SIZE, EpochPlan, draw_plan
from fastcifar.recipe import Augmentation, Recipe
from fastcifar.report import class_figures
from fastcifar.report.drawing import POINTS, QUIET, SERIES, TEXT, WIDTH, Picture, in_style, new_figure
from fastcifar.report.text import brief, certainty, percent
from fastcifar.runs.predictions import Tested

IMAGES, PLANS = 3, 6
MISTAKES = 5  # a row


@dataclass(frozen=True)
class Transformed:
    """Training images and what plans make of each, (images, 1 + epochs, 32, 32, 3) uint8, their classes, their plans,
    and `of` how many training images they are."""

    images_nhwc: NDArray[np.uint8]
    names: list[str]
    plans: list[EpochPlan]
    of: int

    @property
    def epochs(self) -> int:
        """Of how many there are plans, the first ones."""
        return self.images_nhwc.shape[1] - 1

    def told(self, image: int, plan: int, augmentation: Augmentation) -> list[str]:
        """What plan `plan`, from 0, does with image `image`."""
        of = self.plans[image]
        done = [f"crop {of.crop[plan, 0]}, {of.crop[plan, 1]}"] if augmentation.pad else []
        done += ["mirrored"] if of.flip[plan] else []
        return done or ["as it is"]


def transformed(recipe: Recipe, dataset: Dataset, epochs: int) -> Transformed:
    """The first images that a run of `recipe` over `epochs` epochs trained on, and what the plans of the first epochs
    made of them."""
    augmentation, total, epochs = recipe.augmentation, len(dataset.train_images), min(PLANS, epochs)
    drawn = [draw_plan(total, augmentation, seed=recipe.seed, epoch=epoch) for epoch in range(epochs)]
    chosen = drawn[0].indices[:IMAGES]
    parts = []
    for index in chosen:
        places = [int(np.flatnonzero(plan.indices == index)[0]) for plan in drawn]
        parts.append(_joined([plan[place : place + 1] for plan, place in zip(drawn, places, strict=True)]))
    plans = replace(_joined(parts), indices=np.repeat(np.arange(len(chosen)), epochs))
    alone = replace(dataset, train_images=dataset.train_images[chosen], train_labels=dataset.train_labels[chosen])
    # Every loader gives these pixels; this one, uncompiled, starts at once and needs nothing installed.
    loader = FusedLoader(alone, augmentation, batch_size=len(plans), device=torch.device("cpu"), compiled=False)
    normalised, _ = next(iter(loader.batches(plans)))
    pixels = normalised.permute(0, 2, 3, 1).numpy() * np.array(dataset.std) + np.array(dataset.mean)
    made = pixels.round().clip(0, 255).astype(np.uint8).reshape(len(chosen), epochs, 32, 32, 3)
    shown = np.concatenate((alone.train_images[:, None], made), axis=1)
    return Transformed(shown, [dataset.classes[int(label)] for label in alone.train_labels], parts, total)


def _joined(parts: Sequence[EpochPlan]) -> EpochPlan:
    return EpochPlan(**{of.name: np.concatenate([getattr(one, of.name) for one in parts]) for of in fields(EpochPlan)})


@in_style
def transforms(recipe: Recipe, seen: Transformed) -> Picture:
    """Of each image a row: as it is, and what was made of it, with what was done written below."""
    rows, columns = seen.images_nhwc.shape[:2]
    figure, axis = new_figure(0.74 * rows + 0.1)
    corners = _tiles(axis, seen.images_nhwc.reshape(-1, 32, 32, 3), columns, rows, pitch=(35, 52))
    names = [brief(name) for name in seen.names]
    size = _size(5, names, WIDTH / (1 + PLANS))
    for number, (x, y) in enumerate(corners):
        row, column = divmod(number, columns)
        said = [f"epoch {column}", *seen.told(row, column - 1, recipe.augmentation)] if column else [names[row]]
        points = 5 if column else size
        axis.text(x + 16, y + 33, "\n".join(said), fontsize=points, ha="center", va="top", linespacing=1.1)
    caption = f"The first {rows} images of the run as they are, and as the plans of its epochs transform them."
    return Picture(
        "transforms",
        figure,
        f"Grid of images: in each row a training image, of class {', '.join(seen.names)}, and what the plans of "
        f"{seen.epochs} epochs make of it. The table has what they do in words.",
        " ".join([caption, *_not_shown(recipe, seen)]),
    )


def _not_shown(recipe: Recipe, seen: Transformed) -> Iterator[str]:
    """What the run did in those epochs that is in no plan, a sentence each."""
    sides = [recipe.image_size_of(epoch) for epoch in range(seen.epochs)]
    if recipe.augmentation.own:
        yield f"What {recipe.augmentation.own} then made of them is not shown."
    if set(sides) != {IMAGE_SIZE}:
        yield f"In the run they were then resized to the epoch's size: {', '.join(map(str, sides))} pixels a side."
    if any(recipe.images_of(epoch, seen.of) < seen.of for epoch in range(1, seen.epochs)):
        yield "In later epochs the run left some images out, which may be among these."


def answers(found: Tested, dataset: Dataset) -> dict[str, Picture]:
    """The pictures of what the network says of the test images, by name; no confusion matrix of too many classes."""
    drawn = [class_figures.class_bars(found), reliability(found), mistakes(found, dataset)]
    if len(found.classes) <= class_figures.MOST:
        drawn.insert(0, class_figures.confusion_matrix(found))
    return {one.name: one for one in drawn}


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
    true, predicted = ([brief(name, 14) for name in names] for names in (found.true, found.predicted))
    predicted = [f"→ {name}" for name in predicted]
    size = _size(6.5, (*true, *predicted), WIDTH / MISTAKES)
    for k, (x, y) in enumerate(_tiles(axis, dataset.test_images[found.wrong], MISTAKES, rows, pitch=(37, 53))):
        lines = ((true[k], TEXT), (predicted[k], SERIES[1]), (certainty(found.confidence[k]), QUIET))
        for line_number, (text, colour) in enumerate(lines):
            axis.text(x + 16, y + 33.5 + 5.3 * line_number, text, fontsize=size, color=colour, ha="center", va="top")
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


def _size(most: float, names: Sequence[str], room: float) -> float:
    """Points, at most `most`, in which each of the names has room in so many inches."""
    return min(most, room * POINTS / (0.64 * max(map(len, names), default=1)))  # a letter may be as wide as that
