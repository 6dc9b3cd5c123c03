"""A trained network on labelled images, class by class, and on images without labels."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fastcifar.model import CLASSES, ResNet
from fastcifar.training.clock import Clock
from fastcifar.training.evaluate import BATCH_SIZE, normalise
from fastcifar.training.predictions import predict_logits, softmax
from fastcifar.training.step import DTYPES
from fastcifar.training.tta import TTA, Averaged


@dataclass(frozen=True)
class Scores:
    """Mean cross-entropy; `answers[label, answer]` (10, 10) counts the images; seconds, warm and all in memory."""

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


@torch.inference_mode()
def score(
    model: ResNet,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    precision: str = "float32",
    tta: TTA = "none",
) -> Scores:
    """Test `model`, on its device and in evaluation mode, on images (n, 32, 32, 3) and labels (n,), n at least 1.

    `precision` is float32, bfloat16 or float16. Without `tta`, loss and accuracy are those of the test after each epoch
    of training (`TestSet.evaluate`), bit for bit.
    """
    device = next(model.parameters()).device
    autocast = torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "float32")
    network = Averaged(model, tta).eval()
    all_images, all_labels = torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device)
    with autocast:
        network(normalise(all_images[:BATCH_SIZE]))  # the first call allocates and, on a GPU, chooses kernels
    clock = Clock(device)
    loss = torch.zeros((), device=device)
    answers = []
    for batch, truth in zip(all_images.split(BATCH_SIZE), all_labels.split(BATCH_SIZE), strict=True):
        with autocast:
            logits = network(normalise(batch)).float()
        loss += F.cross_entropy(logits, truth, reduction="sum")
        answers.append(logits.argmax(dim=1))
    seconds = clock.seconds()
    counts = torch.bincount(CLASSES * all_labels + torch.cat(answers), minlength=CLASSES**2)
    return Scores(loss.item() / len(labels), counts.view(CLASSES, CLASSES).cpu().numpy(), seconds)


def probabilities(model: ResNet, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Class probabilities (n, 10) of images (n, 32, 32, 3), in float32."""
    return softmax(predict_logits(model, images, precision="float32"))
