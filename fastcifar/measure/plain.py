"""The yardstick: CIFAR-10 through torchvision as people write it today."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from fastcifar.data.dataset import MEAN, STD


class PlainLoader:
    """DataLoader workers over PIL images: RandomCrop(32, padding=4), RandomHorizontalFlip, ToTensor, Normalize,
    RandomErasing. It draws its own random numbers, batch after batch, and knows of no plan."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        *,
        batch_size: int,
        batches: int,
        workers: int,
        device: torch.device,
    ) -> None:
        dataset = _PilImages(images, labels)
        self._device = device
        self._loader = DataLoader(
            dataset,
            batch_size,
            sampler=RandomSampler(dataset, num_samples=batches * batch_size, replacement=False),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, 3, 32, 32) float32, contiguous, and labels (B,) int64."""
        for images, labels in self._loader:
            yield images.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)


class _PilImages(Dataset[tuple[Tensor, int]]):
    """What torchvision.datasets.CIFAR10 does with an item, over any images (n, 32, 32, 3) uint8."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self._images, self._labels = images, labels.tolist()
        mean, std = [value / 255 for value in MEAN], [value / 255 for value in STD]
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
                transforms.RandomErasing(),
            ]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), self._labels[index]
