"""The loader on torchvision: DataLoader workers and transforms v2, what people use today, and the yardstick."""

import os
from collections.abc import Generator, Iterator
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms.v2 import functional as F

from fastcifar.data.dataset import MEAN, STD
from fastcifar.data.plan import IMAGE_SIZE, EpochPlan
from fastcifar.recipe import Augmentation

# An image of a plan: index, crop y and x, flip, cutout y and x.
Item: TypeAlias = tuple[int, int, int, bool, int, int]


class TorchvisionLoader:
    """Executes plans image by image in `workers` processes, by default one a core: see `fastcifar.data.loader`."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        augmentation: Augmentation,
        *,
        batch_size: int,
        device: torch.device,
        workers: int | None = None,
    ) -> None:
        self._device = device
        self._sampler = _PlanSampler(batch_size)
        workers = len(os.sched_getaffinity(0)) if workers is None else workers
        self._loader = DataLoader(
            _Images(images, labels, augmentation),
            batch_sampler=self._sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )

    def batches(self, plan: EpochPlan) -> Generator[tuple[Tensor, Tensor]]:
        """Yield images (B, 3, 32, 32) float32 channels_last and labels (B,) int64; see `Loader`."""
        self._sampler.plan = plan
        for images, labels in self._loader:
            yield (
                images.to(self._device, non_blocking=True, memory_format=torch.channels_last),
                labels.to(self._device, non_blocking=True),
            )


class _PlanSampler(Sampler[list[Item]]):
    """Gives the workers their items: the plan itself, cut into batches."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self.plan: EpochPlan | None = None

    def __iter__(self) -> Iterator[list[Item]]:
        for part in self.plan.batches(self._batch_size) if self.plan else ():
            columns = (part.indices, *part.crop.T, part.flip, *part.cutout.T)
            yield list(zip(*(column.tolist() for column in columns), strict=True))


class _Images(Dataset[tuple[Tensor, int]]):
    """One image of the plan: what a worker does."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], augmentation: Augmentation) -> None:
        self._images = torch.from_numpy(images).permute(0, 3, 1, 2)
        self._labels: list[int] = labels.tolist()
        self._augmentation = augmentation
        self._padding_mode = "constant" if augmentation.pad_mode == "zero" else "reflect"
        self._mean, self._std = [value / 255 for value in MEAN], [value / 255 for value in STD]

    def __getitem__(self, item: Item) -> tuple[Tensor, int]:
        index, y, x, flip, top, left = item
        pad, size = self._augmentation.pad, self._augmentation.cutout
        image = self._images[index]
        if pad:
            image = F.pad(image, [pad], padding_mode=self._padding_mode)
            image = F.crop(image, y, x, IMAGE_SIZE, IMAGE_SIZE)
        if flip:
            image = F.horizontal_flip(image)
        image = F.normalize(F.to_dtype(image, torch.float32, scale=True), self._mean, self._std)
        if size:
            image = F.erase(image, top, left, size, size, torch.zeros(()), inplace=True)
        return image, self._labels[index]
