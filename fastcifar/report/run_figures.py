"""Which pictures a run's page has, and what stands below and instead of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from fastcifar.data.dataset import MEAN, STD, Dataset
from fastcifar.data.fused import FusedLoader
from fastcifar.data.plan import EpochPlan, draw_plan
from fastcifar.recipe import Recipe
from fastcifar.report import figures
from fastcifar.report.figures import percent
from fastcifar.training.log import EpochLog
from fastcifar.training.predictions import (
    Calibration,
    accuracy_by_class,
    calibrate,
    confident_mistakes,
    confusion_matrix,
    predict_logits,
    softmax,
)
from fastcifar.training.saved import Saved

PLANS = 8


@dataclass(frozen=True)
class Picture:
    """How a picture is drawn (`draw(theme=...)` gives a PNG), what it shows to who cannot see it, and its caption."""

    draw: Callable[..., bytes]
    alt: str
    caption: str


@dataclass(frozen=True)
class Tested:
    """What the network says of the test images in `precision`, by `fastcifar.training.predictions`; mistakes in falling
    confidence."""

    precision: str
    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    calibration: Calibration
    wrong: NDArray[np.int64]
    true: tuple[str, ...]
    predicted: tuple[str, ...]
    confidence: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return int(self.confusion.trace()) / int(self.confusion.sum())


@dataclass(frozen=True)
class Transformed:
    """A training image and what plans make of it (1 + PLANS, 32, 32, 3) uint8, its class, and those plans."""

    images_nhwc: NDArray[np.uint8]
    name: str
    plans: EpochPlan


def tested(saved: Saved, dataset: Dataset) -> Tested:
    """What the weights of a finished run say of the test images of `dataset`; `saved.model` moves to its device."""
    # On the device of the run where that is here: a wide network takes minutes on a CPU.
    on_cuda = saved.run["execution"].get("device") == "cuda" and torch.cuda.is_available()
    model = saved.model.to("cuda" if on_cuda else "cpu")
    # float16 does not run on every CPU.
    precision = "float32" if saved.precision == "float16" and not on_cuda else saved.precision
    probabilities = softmax(predict_logits(model, dataset.test_images, precision=precision))
    labels, names = dataset.test_labels, dataset.classes
    wrong = confident_mistakes(probabilities, labels)
    return Tested(
        precision=precision,
        classes=names,
        confusion=confusion_matrix(probabilities, labels),
        calibration=calibrate(probabilities, labels),
        wrong=wrong,
        true=tuple(names[k] for k in labels[wrong]),
        predicted=tuple(names[k] for k in probabilities[wrong].argmax(axis=1)),
        confidence=tuple(probabilities[wrong].max(axis=1).tolist()),
    )


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
    # Every loader gives these pixels; this one, uncompiled, starts at once and needs nothing installed.
    loader = FusedLoader(image, label, augmentation, batch_size=PLANS, device=torch.device("cpu"), compiled=False)
    normalised, _ = next(iter(loader.batches(plans)))
    pixels = normalised.permute(0, 2, 3, 1).numpy() * np.array(STD) + np.array(MEAN)
    shown = np.concatenate((image, pixels.round().clip(0, 255).astype(np.uint8)))
    return Transformed(shown, dataset.classes[int(label[0])], plans)


def pictures(
    recipe: Recipe, log: Sequence[EpochLog], dataset: Dataset, found: Tested, seen: Transformed
) -> dict[str, Picture]:
    """Every picture of a run by its file's name, in the order of the page."""
    return {**_curves(recipe, log), **answers(found, dataset), "transforms": _transforms(recipe, seen)}


def _curves(recipe: Recipe, log: Sequence[EpochLog]) -> dict[str, Picture]:
    first, last, smoothing = log[0], log[-1], recipe.label_smoothing
    rates = [one.images_per_second for one in log]
    return {
        "loss": Picture(
            partial(figures.loss, log),
            f"Line chart of the loss by epoch: training from {first.train_loss:.3f} to {last.train_loss:.3f}, test "
            f"from {first.test_loss:.3f} to {last.test_loss:.3f}.",
            "Loss by epoch; in training a running mean over the epoch"
            + (f", with label smoothing {smoothing:g}, which the test loss is without." if smoothing else "."),
        ),
        "accuracy": Picture(
            partial(figures.accuracy, log, recipe.target),
            f"Line chart of the accuracy by epoch: training from {percent(first.train_accuracy)} to "
            f"{percent(last.train_accuracy)}, test from {percent(first.test_accuracy)} to "
            f"{percent(last.test_accuracy)}.",
            "Accuracy by epoch; in training on transformed images, while the weights change.",
        ),
        "learning-rate": Picture(
            partial(figures.learning_rate, log),
            f"Line chart of the learning rate by epoch, at most {max(one.learning_rate for one in log):.3g}.",
            "Learning rate of the last step of each epoch.",
        ),
        "throughput": Picture(
            partial(figures.throughput, log),
            f"Line chart of images a second by epoch, from {min(rates):,.0f} to {max(rates):,.0f}.",
            "Images trained on a second, loading and transforms included.",
        ),
    }


def answers(found: Tested, dataset: Dataset) -> dict[str, Picture]:
    """The pictures of what the network says of the test images, by name."""
    confusion, names, shares = found.confusion, found.classes, accuracy_by_class(found.confusion)
    best, worst = int(np.nanargmax(shares)), int(np.nanargmin(shares))
    return {
        "confusion": Picture(
            partial(figures.confusion_matrix, confusion, names),
            f"Confusion matrix of {len(names)} classes: {confusion.trace():,} of {confusion.sum():,} images are on "
            "its diagonal. The table by class names the chief confusions.",
            "Test images by true class (row) and predicted class (column); colour: share of the row, on a root scale.",
        ),
        "classes": Picture(
            partial(figures.class_bars, confusion, names),
            f"Bars of the accuracy of each class, from {names[worst]} with {percent(shares[worst], 1)} to "
            f"{names[best]} with {percent(shares[best], 1)}.",
            "Accuracy by class, with 95 % score intervals.",
        ),
        "calibration": Picture(
            partial(figures.reliability, found.calibration),
            f"Reliability diagram: accuracy by confidence in {len(found.calibration.count)} bins beside the diagonal, "
            "above the share of images in each bin. The table has the same figures.",
            f"Reliability of the highest probability; expected calibration error {percent(found.calibration.error)}.",
        ),
        "mistakes": Picture(
            partial(figures.mistakes, dataset.test_images[found.wrong], found.true, found.predicted, found.confidence),
            f"Grid of {len(found.wrong)} small test images that the network is surest of and wrong about; the table "
            "names each.",
            "Below each image: its class, the class predicted, and the probability given to that.",
        ),
    }


def _transforms(recipe: Recipe, seen: Transformed) -> Picture:
    captions = ["original"]
    for k in range(PLANS):
        done = [f"crop {seen.plans.crop[k, 0]}, {seen.plans.crop[k, 1]}"] if recipe.augmentation.pad else []
        done += ["mirrored"] if seen.plans.flip[k] else []
        captions.append(f"epoch {k + 1}\n{'; '.join(done) or 'as it is'}")
    return Picture(
        partial(figures.transforms, seen.images_nhwc, captions),
        f"Grid of nine images: a training image of class {seen.name}, and what the plans of {PLANS} epochs make of it.",
        "The first image of the run as it is, and as the plans of its epochs transform it.",
    )
