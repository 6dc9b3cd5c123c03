"""What a data set is to the rest of fastcifar: uint8 images and their labels, in memory."""

from dataclasses import dataclass, replace
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastcifar.errors import InputError
from fastcifar.recipe import Augmentation

Channels: TypeAlias = tuple[float, float, float]

# Mean and standard deviation of each channel (R, G, B) over CIFAR-10's 50,000 training images, in pixel values 0..255.
MEAN: Channels = (125.307, 122.950, 113.865)
STD: Channels = (62.993, 62.089, 66.705)


@dataclass(frozen=True)
class Dataset:
    """Training and test images (n, 32, 32, 3) uint8 RGB, labels (n,) int64 that count `classes` from 0, and where they
    came from. `mean` and `std` of each channel (R, G, B), in pixel values 0..255, normalise the images."""

    name: str
    source: str
    classes: tuple[str, ...]
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    mean: Channels = MEAN
    std: Channels = STD

    def limited(self, train: int | None = None, test: int | None = None) -> Self:
        """The first `train` training and `test` test images; None keeps all. Raises `InputError` past the end."""
        for flag, limit, images in (
            ("limit_train", train, self.train_images),
            ("limit_test", test, self.test_images),
        ):
            if limit is not None and limit > len(images):
                raise InputError(f"{flag}: {limit:,} images asked for, {self.name} has {len(images):,}")
        return replace(
            self,
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
        )

    def describe(self) -> str:
        """One line: the name, the numbers of images and the source; synthetic images are said to be so."""
        sizes = f"{len(self.train_images):,} training and {len(self.test_images):,} test images"
        return f"{self.name}, {sizes} ({self.source})"


def padded(images: NDArray[np.uint8], augmentation: Augmentation) -> NDArray[np.uint8]:
    """Images (n, 32, 32, 3) with `pad` pixels on each side, once for all epochs: (n, 32 + 2 * pad, 32 + 2 * pad, 3)."""
    pad = augmentation.pad
    widths = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    return np.pad(images, widths, mode="reflect") if augmentation.pad_mode == "reflect" else np.pad(images, widths)
