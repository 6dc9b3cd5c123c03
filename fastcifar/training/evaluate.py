"""The network on the test images."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fastcifar.data.dataset import MEAN, STD
from fastcifar.errors import InputError

BATCH_SIZE = 1000


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy and share of right answers (0 to 1)."""

    loss: float
    accuracy: float


def normalise(images_nhwc: Tensor) -> Tensor:
    """uint8 images (B, 32, 32, 3) to float32 (B, 3, 32, 32), channels_last, as the loaders normalise them.

    Raises `InputError` at a tensor of another type or shape, images of 0 to 1 for one, which would give wrong answers.
    """
    if images_nhwc.dtype != torch.uint8 or images_nhwc.ndim != 4 or images_nhwc.shape[-1] != 3:
        found = f"{images_nhwc.dtype} of shape {tuple(images_nhwc.shape)}"
        raise InputError(f"normalise takes torch.uint8 images (B, 32, 32, 3), not {found}")
    mean, std = (
        images_nhwc.new_tensor(MEAN, dtype=torch.float32),
        images_nhwc.new_tensor(STD, dtype=torch.float32),
    )
    return ((images_nhwc.float() - mean) / std).permute(0, 3, 1, 2)


class TestSet:
    """Test images (n, 32, 32, 3) uint8 and labels (n,) int64, kept on the device."""

    __test__ = False  # no test, whatever pytest makes of the name

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], device: torch.device) -> None:
        self._images = torch.from_numpy(images).to(device)
        self._labels = torch.from_numpy(labels).to(device)

    @torch.inference_mode()
    def evaluate(self, model: nn.Module, autocast: torch.autocast) -> Evaluation:
        """Loss and accuracy of `model` in evaluation mode; puts it back into its mode afterwards."""
        was_training = model.training
        model.eval()
        loss = torch.zeros((), device=self._images.device)
        correct = torch.zeros((), device=self._images.device, dtype=torch.int64)
        for images, labels in zip(self._images.split(BATCH_SIZE), self._labels.split(BATCH_SIZE), strict=True):
            with autocast:
                logits = model(normalise(images)).float()
            loss += F.cross_entropy(logits, labels, reduction="sum")
            correct += (logits.argmax(dim=1) == labels).sum()
        model.train(was_training)
        return Evaluation(loss.item() / len(self._labels), correct.item() / len(self._labels))
