"""What a trained network says of the test images, and what follows from it: by class, by mistake, by confidence.

All but `predict_logits` are pure functions of arrays: probabilities (n, 10) float32 and labels (n,) int64 in 0..9.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastcifar.model import CLASSES
from fastcifar.training.evaluate import BATCH_SIZE, normalise
from fastcifar.training.step import DTYPES

BINS = 15


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


@torch.inference_mode()
def predict_logits(model: nn.Module, images_nhwc: NDArray[np.uint8], *, precision: str) -> NDArray[np.float32]:
    """Logits (n, 10) float32 of images (n, 32, 32, 3) uint8, in batches as the trainer tests them.

    Runs on the device of `model`, in evaluation mode, which is put back afterwards; `precision` is float32, bfloat16 or
    float16.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    logits = np.empty((len(images_nhwc), CLASSES), np.float32)
    for start in range(0, len(images_nhwc), BATCH_SIZE):
        images = torch.from_numpy(images_nhwc[start : start + BATCH_SIZE]).to(device)
        with torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "float32"):
            batch = model(normalise(images))
        logits[start : start + BATCH_SIZE] = batch.float().cpu().numpy()
    model.train(was_training)
    return logits


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Class probabilities (n, 10) of logits (n, 10)."""
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def confusion_matrix(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of images (10, 10): the row is the true class, the column the predicted one."""
    pairs = labels * CLASSES + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def accuracy_by_class(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of right answers (10,) among the images of each class, 0 to 1; NaN for a class without images."""
    return _share(confusion.diagonal(), confusion.sum(axis=1))


def precision_by_class(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of right answers (10,) among the images predicted to be of each class; NaN where there are none."""
    return _share(confusion.diagonal(), confusion.sum(axis=0))


def wilson(right: NDArray[np.int64], images: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the 95 % score interval (Wilson 1927) of a share `right` / `images`, elementwise; NaN for no images."""
    z = 1.959964
    share, weight = _share(right, images), z**2 / np.maximum(images, 1)
    middle = (share + weight / 2) / (1 + weight)
    half = np.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return middle - half, middle + half


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
