"""What a loader is: it executes a plan."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from fastcifar.data.dataset import Dataset
from fastcifar.data.plan import EpochPlan
from fastcifar.errors import InputError
from fastcifar.recipe import Augmentation


class Loader(Protocol):
    """Turns plans into batches on the training device."""

    def batches(self, plan: EpochPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Execute `plan`, in batches of the loader's size; the last may be shorter.

        Yields normalised images (B, 3, 32, 32) float32, channels_last in memory, and labels (B,) int64, both on the
        training device. Leaving the iteration early is fine; a new call starts afresh.
        """
        ...


def open_loader(
    name: str,
    dataset: Dataset,
    augmentation: Augmentation,
    *,
    batch_size: int,
    device: torch.device,
) -> Loader:
    """The loader `name` over the training images of `dataset`. Raises `InputError` where it is not installed."""
    if name != "dali":
        raise InputError(f"--loader {name}: no such loader; there is dali")
    try:
        from fastcifar.data.dali import DaliLoader
    except ImportError as error:
        raise InputError(
            f"--loader dali: NVIDIA DALI cannot be imported ({error}); on Linux x86-64: pip install nvidia-dali-cuda120"
        ) from error
    return DaliLoader(dataset.train_images, dataset.train_labels, augmentation, batch_size=batch_size, device=device)
