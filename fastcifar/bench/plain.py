"""The yardstick: CIFAR-10 through torchvision as people write it today."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms

from fastcifar.data.dataset import Dataset


class PlainLoader:
    """DataLoader workers over PIL images: RandomCrop(32, padding=4), RandomHorizontalFlip, ToTensor, Normalize,
    RandomErasing. It draws its own random numbers, batch after batch, and knows of no plan."""

    def __init__(self, dataset: Dataset, *, batch_size: int, batches: int, workers: int, device: torch.device) -> None:
        steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), normalised(dataset)]
        transform = transforms.Compose([*steps, transforms.RandomErasing()])
        images = PilImages(dataset.train_images, dataset.train_labels, transform)
        self._device = device
        self._loader = DataLoader(
            images,
            batch_size,
            sampler=RandomSampler(images, num_samples=batches * batch_size, replacement=False),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, 3, 32, 32) float32, contiguous, and labels (B,) int64."""
        for images, labels in self._loader:
            yield images.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)


class PilImages(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """What torchvision.datasets.CIFAR10 does with an item, over any images (n, 32, 32, 3) uint8 and labels (n,)."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: transforms.Compose) -> None:
        self._images, self._labels, self._transform = images, labels.tolist(), transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), self._labels[index]


def normalised(dataset: Dataset) -> transforms.Compose:
    """ToTensor and Normalize, by the mean and standard deviation of `dataset`."""
    mean, std = ([value / 255 for value in values] for values in (dataset.mean, dataset.std))
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
