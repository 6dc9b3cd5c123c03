"""Which pictures a run's page has, and what stands below and instead of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fastcifar.data.dataset import Dataset
from fastcifar.data.fused import FusedLoader
from fastcifar.data.plan import EpochPlan, draw_plan
from fastcifar.recipe import Recipe
from fastcifar.report import figures
from fastcifar.report.drawing import Picture
from fastcifar.report.text import percent
from fastcifar.runs.predictions import Tested, accuracy_by_class
from fastcifar.training.log import EpochLog

PLANS = 8


@dataclass(frozen=True)
class Transformed:
    """A training image and what plans make of it (1 + PLANS, 32, 32, 3) uint8, its class, and those plans."""

    images_nhwc: NDArray[np.uint8]
    name: str
    plans: EpochPlan


def transformed(recipe: Recipe, dataset: Dataset) -> Transformed:
    """The first image a run of `recipe` trains on, and what the plans of its first epochs make of it."""
    augmentation, parts, first = recipe.augmentation, [], 0
    for epoch in range(PLANS):
        plan = draw_plan(len(dataset.train_images), augmentation, seed=recipe.seed, epoch=epoch)
        first = int(plan.indices[0]) if epoch == 0 else first
        place = int(np.flatnonzero(plan.indices == first)[0])
        parts.append(plan[place : place + 1])
    crop, flip, cutout = (np.concatenate([getattr(part, of) for part in parts]) for of in ("crop", "flip", "cutout"))
    plans = EpochPlan(np.zeros(PLANS, np.int64), crop, flip, cutout)
    image, label = dataset.train_images[first : first + 1], dataset.train_labels[first : first + 1]
    alone = replace(dataset, train_images=image, train_labels=label)
    # Every loader gives these pixels; this one, uncompiled, starts at once and needs nothing installed.
    loader = FusedLoader(alone, augmentation, batch_size=PLANS, device=torch.device("cpu"), compiled=False)
    normalised, _ = next(iter(loader.batches(plans)))
    pixels = normalised.permute(0, 2, 3, 1).numpy() * np.array(dataset.std) + np.array(dataset.mean)
    shown = np.concatenate((image, pixels.round().clip(0, 255).astype(np.uint8)))
    return Transformed(shown, dataset.classes[int(label[0])], plans)


def pictures(
    recipe: Recipe, log: Sequence[EpochLog], dataset: Dataset, found: Tested, seen: Transformed
) -> dict[str, Picture]:
    """Every picture of a run by its file's name, in the order of the page."""
    return _curves(recipe, log) | answers(found, dataset) | _by_name(_transforms(recipe, seen))


def _curves(recipe: Recipe, log: Sequence[EpochLog]) -> dict[str, Picture]:
    first, last, smoothing = log[0], log[-1], recipe.label_smoothing
    rates = [one.images_per_second for one in log]
    return _by_name(
        Picture(
            "loss",
            figures.loss(log),
            f"Line chart of the loss by epoch: training from {first.train_loss:.3f} to {last.train_loss:.3f}, test "
            f"from {first.test_loss:.3f} to {last.test_loss:.3f}.",
            "Loss by epoch; in training a running mean over the epoch"
            + (f", with label smoothing {smoothing:g}, which the test loss is without." if smoothing else "."),
        ),
        Picture(
            "accuracy",
            figures.accuracy(log, recipe.target),
            f"Line chart of the accuracy by epoch: training from {percent(first.train_accuracy)} to "
            f"{percent(last.train_accuracy)}, test from {percent(first.test_accuracy)} to "
            f"{percent(last.test_accuracy)}.",
            "Accuracy by epoch; in training on transformed images, while the weights change.",
        ),
        Picture(
            "learning-rate",
            figures.learning_rate(log),
            f"Line chart of the learning rate by epoch, at most {max(one.learning_rate for one in log):.3g}.",
            "Learning rate of the last step of each epoch.",
        ),
        Picture(
            "throughput",
            figures.throughput(log),
            f"Line chart of images a second by epoch, from {min(rates):,.0f} to {max(rates):,.0f}.",
            "Images trained on a second, loading and transforms included.",
        ),
    )


def answers(found: Tested, dataset: Dataset) -> dict[str, Picture]:
    """The pictures of what the network says of the test images, by name."""
    confusion, names, shares = found.confusion, found.classes, accuracy_by_class(found.confusion)
    best, worst = int(np.nanargmax(shares)), int(np.nanargmin(shares))
    return _by_name(
        Picture(
            "confusion",
            figures.confusion_matrix(confusion, names),
            f"Confusion matrix of {len(names)} classes: {confusion.trace():,} of {confusion.sum():,} images are on "
            "its diagonal. The table by class names the chief confusions.",
            "Test images by true class (row) and predicted class (column); colour: share of the row, on a root scale.",
        ),
        Picture(
            "classes",
            figures.class_bars(confusion, names),
            f"Bars of the accuracy of each class, from {names[worst]} with {percent(shares[worst], 1)} to "
            f"{names[best]} with {percent(shares[best], 1)}.",
            "Accuracy by class, with 95 % score intervals.",
        ),
        Picture(
            "calibration",
            figures.reliability(found.calibration),
            f"Reliability diagram: accuracy by confidence in {len(found.calibration.count)} bins beside the diagonal, "
            "above the share of images in each bin. The table has the same figures.",
            f"Reliability of the highest probability; expected calibration error {percent(found.calibration.error)}.",
        ),
        Picture(
            "mistakes",
            figures.mistakes(dataset.test_images[found.wrong], found.true, found.predicted, found.confidence),
            f"Grid of {len(found.wrong)} small test images that the network is surest of and wrong about; the table "
            "names each.",
            "Below each image: its class, the class predicted, and the probability given to that.",
        ),
    )


def _transforms(recipe: Recipe, seen: Transformed) -> Picture:
    captions = ["original"]
    for k in range(PLANS):
        done = [f"crop {seen.plans.crop[k, 0]}, {seen.plans.crop[k, 1]}"] if recipe.augmentation.pad else []
        done += ["mirrored"] if seen.plans.flip[k] else []
        captions.append(f"epoch {k + 1}\n{'; '.join(done) or 'as it is'}")
    return Picture(
        "transforms",
        figures.transforms(seen.images_nhwc, captions),
        f"Grid of nine images: a training image of class {seen.name}, and what the plans of {PLANS} epochs make of it.",
        "The first image of the run as it is, and as the plans of its epochs transform it.",
    )


def _by_name(*pictures: Picture) -> dict[str, Picture]:
    return {one.name: one for one in pictures}
