"""What a trained network says of images, and what follows from it: scores, by class, by mistake, by confidence.

But for `score`, `tested` and `probabilities`, which run the network, all are pure functions of arrays: probabilities
(n, classes) float32 and labels (n,) int64 that count the classes from 0.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError
from fastcifar.own import called
from fastcifar.runs.saved import Saved
from fastcifar.training.clock import Clock
from fastcifar.training.evaluate import BATCH_SIZE, TTA, OnBytes, evaluate, logits_of

BINS = 15


@dataclass(frozen=True)
class Scores:
    """Mean cross-entropy; `answers[label, answer]` (classes, classes) counts the images; seconds, warm and all in
    memory."""

    loss: float
    answers: NDArray[np.int64]
    seconds: float

    @property
    def images(self) -> int:
        """How many there were."""
        return int(self.answers.sum())

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return int(self.answers.trace()) / self.images

    @property
    def images_per_second(self) -> float:
        """Answers a second, every one of them the mean of as many views as `tta` has."""
        return self.images / self.seconds


@dataclass(frozen=True)
class Calibration:
    """How far confidence can be taken for accuracy, in bins of equal width over 0..1, closed on the right.

    `count` (bins,) int64: images whose highest probability lies in the bin; `confidence` and `accuracy` (bins,)
    float64, 0 to 1: their means, NaN in an empty bin. `error`: the expected calibration error (ECE), 0 to 1, the mean
    over all images of |accuracy - confidence| of their bins; after Guo et al. 2017, "On Calibration of Modern Neural
    Networks", arXiv 1706.04599.
    """

    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    error: float


@dataclass(frozen=True)
class Tested:
    """What the network says of the test images in `precision`; mistakes in falling confidence."""

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


def score(
    network: OnBytes, images: NDArray[np.uint8], labels: NDArray[np.int64], *, precision: str = "float32"
) -> Scores:
    """Test `network`, on its device, on images (n, 32, 32, 3) and labels (n,), n at least 1.

    `precision` is float32, bfloat16 or float16. Without test-time augmentation, loss and accuracy are those of the test
    after each epoch of training, bit for bit.
    """
    seen, truth = torch.from_numpy(images).to(network.mean.device), torch.from_numpy(labels).to(network.mean.device)
    logits_of(network, seen[:BATCH_SIZE], precision=precision)  # allocates and, on a GPU, chooses kernels
    clock = Clock(network.mean.device)
    found = evaluate(network, seen, truth, precision=precision)
    _require_numbers(found.logits)
    return Scores(found.loss, confusion_matrix(found.logits.cpu().numpy(), labels), clock.seconds())


def tested(saved: Saved, dataset: Dataset) -> Tested:
    """What the weights of a finished run say of the test images of `dataset`; `saved.model` moves to its device.

    Raises `InputError` where its classes are not the run's.
    """
    if dataset.classes != saved.classes:
        here, there = (f"{len(names):,} ({', '.join(names[:3])}, ...)" for names in (dataset.classes, saved.classes))
        raise InputError(f"{saved.path}: dataset: its classes are {here}; the run's are {there}")
    return _tested(*answers(saved, dataset), dataset)


def tested_network(network: nn.Module, dataset: Dataset, tta: TTA) -> Tested:
    """What a network says of the test images of `dataset`, on its device, in float32, with views of each as `tta` says;
    it stays as it is. Raises `InputError` where it is of another precision, or does not give a logit for each class."""
    if {one.dtype for one in network.parameters() if one.is_floating_point()} != {torch.float32}:
        raise InputError("a network whose parameters are float32 is needed")
    modes = {module: module.training for module in network.modules()}
    try:
        on_bytes = OnBytes(network, dataset.mean, dataset.std, tta)
        found = called("the network", lambda: probabilities(on_bytes, dataset.test_images))
    finally:
        for module, training in modes.items():
            module.training = training
    if found.shape != (wanted := (len(dataset.test_images), len(dataset.classes))):
        raise InputError(f"the network gives {found.shape}; logits {wanted} are needed")
    return _tested(found, "float32", dataset)


def _tested(found: NDArray[np.float32], precision: str, dataset: Dataset) -> Tested:
    labels, names = dataset.test_labels, dataset.classes
    wrong = confident_mistakes(found, labels)
    return Tested(
        precision=precision,
        classes=names,
        confusion=confusion_matrix(found, labels),
        calibration=calibrate(found, labels),
        wrong=wrong,
        true=tuple(names[k] for k in labels[wrong]),
        predicted=tuple(names[k] for k in found[wrong].argmax(axis=1)),
        confidence=tuple(found[wrong].max(axis=1).tolist()),
    )


def answers(saved: Saved, dataset: Dataset) -> tuple[NDArray[np.float32], str]:
    """The class probabilities (n, classes) that a finished run gives the test images of `dataset`, as it was tested,
    and in which precision; `saved.model` moves to its device."""
    # On the device of the run where that is here: a wide network takes minutes on a CPU.
    on_cuda = saved.run["execution"].get("device") == "cuda" and torch.cuda.is_available()
    network = saved.on_bytes(saved.recipe.evaluation.tta).to("cuda" if on_cuda else "cpu")
    # float16 does not run on every CPU.
    precision = "float32" if saved.precision == "float16" and not on_cuda else saved.precision
    return probabilities(network, dataset.test_images, precision=precision), precision


def probabilities(network: OnBytes, images: NDArray[np.uint8], *, precision: str = "float32") -> NDArray[np.float32]:
    """Class probabilities (n, classes) of images (n, 32, 32, 3), n at least 1, on the device of `network`.

    Raises `InputError` where its answer to an image is no number.
    """
    logits = logits_of(network, torch.from_numpy(images).to(network.mean.device), precision=precision)
    _require_numbers(logits)
    return logits.double().softmax(dim=1).float().cpu().numpy()


def _require_numbers(logits: Tensor) -> None:
    """Finite weights may overflow, or have a variance below 0: what comes of it is no probability."""
    wrong = int((~logits.isfinite().all(dim=1)).sum())
    if wrong:
        raise InputError(
            f"the network outputs NaN or infinity for {wrong:,} of {len(logits):,} images; its weights, although "
            "finite, cannot be those of a trained network"
        )


def confusion_matrix(answers: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of images (classes, classes): the row is the true class, the column the predicted one.

    `answers` (n, classes) are probabilities or logits.
    """
    classes = answers.shape[1]
    pairs = labels * classes + answers.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def accuracy_by_class(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of right answers (classes,) among the images of each class, 0 to 1; NaN for a class without images."""
    return _share(confusion.diagonal(), confusion.sum(axis=1))


def precision_by_class(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of right answers (classes,) among the images predicted to be of each class; NaN where there are none."""
    return _share(confusion.diagonal(), confusion.sum(axis=0))


def wilson(right: NDArray[np.int64], images: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the 95 % score interval (Wilson 1927) of a share `right` / `images`, elementwise; NaN for no images."""
    from scipy import stats  # whose import takes a second, here and below

    ends = np.full((2, len(images)), np.nan)
    for k in np.flatnonzero(images):
        ends[:, k] = stats.binomtest(int(right[k]), int(images[k])).proportion_ci(method="wilson")
    return ends[0], ends[1]


def p_of_equals(right: NDArray[np.bool_]) -> float:
    """How often networks of equal accuracy would differ at least as much as these, which were right or not of the same
    images: `right` (networks, images), two networks or more.

    Of two McNemar's test (1947), exact; of more Cochran's Q (1950), by the chi-squared distribution. 1 where all are
    right of the same images.
    """
    from scipy import stats

    split = right[:, right.any(axis=0) & ~right.all(axis=0)]
    runs, images = split.shape
    if not images:
        return 1.0
    if runs == 2:
        return float(stats.binomtest(int(split[0].sum()), images).pvalue)
    by_run, by_image = split.sum(axis=1, dtype=np.float64), split.sum(axis=0, dtype=np.float64)
    q = runs * (runs - 1) * ((by_run - by_run.mean()) ** 2).sum() / (by_image * (runs - by_image)).sum()
    return float(stats.chi2.sf(q, runs - 1))


def confident_mistakes(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], count: int = 25
) -> NDArray[np.int64]:
    """Indices of wrongly predicted images, the most confident first, at most `count`; equals in their order."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:count]


def calibrate(probabilities: NDArray[np.float32], labels: NDArray[np.int64], bins: int = BINS) -> Calibration:
    """Reliability of the highest probability of each image, in `bins` bins of equal width."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    # Bin m is ((m - 1) / bins, m / bins], as in the paper.
    number = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(number, minlength=bins)
    confident, correct = (np.bincount(number, weights=one, minlength=bins) for one in (confidence, right))
    error = float(np.abs(correct - confident).sum() / max(len(labels), 1))
    return Calibration(count, _share(confident, count), _share(correct, count), error)


def _share(part: NDArray, whole: NDArray) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
