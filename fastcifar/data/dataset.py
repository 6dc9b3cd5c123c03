"""What a data set is to the rest of fastcifar: uint8 images and their labels, in memory."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastcifar.errors import InputError, short
from fastcifar.recipe import DATASETS, Recipe

Channels: TypeAlias = tuple[float, float, float]

MOST_CLASSES = 10_000
ARRAYS = "arrays"  # the name of a data set that was given none

# Mean and standard deviation of each channel (R, G, B) over CIFAR-10's 50,000 training images, in pixel values 0..255.
MEAN: Channels = (125.307, 122.950, 113.865)
STD: Channels = (62.993, 62.089, 66.705)


@dataclass(frozen=True)
class Dataset:
    """Training and test images (n, 32, 32, 3) uint8 RGB, labels (n,) int64 that count `classes` from 0, and where they
    came from. `mean` and `std` of each channel (R, G, B), in pixel values 0..255, normalise the images.

    >>> images, labels = np.zeros((4, 32, 32, 3), np.uint8), np.array([0, 1, 0, 1])
    >>> mine = fastcifar.Dataset.from_arrays(images, labels, images, labels, classes=["cat", "dog"])
    >>> len(mine.train_images), mine.classes
    (4, ('cat', 'dog'))
    """

    name: str
    source: str
    classes: tuple[str, ...]
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    mean: Channels = MEAN
    std: Channels = STD
    held_out: bool = False
    """The test images are training images that are not trained on."""

    def __repr__(self) -> str:
        return f"Dataset({self.describe()}; {len(self.classes)} classes)"

    @cached_property
    def sha256(self) -> str:
        """Of the shapes and bytes of images and labels, training before test."""
        found = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            found.update(f"{array.dtype}{array.shape}".encode())
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    @classmethod
    def from_arrays(
        cls,
        train_images: Any,
        train_labels: Any,
        test_images: Any,
        test_labels: Any,
        *,
        classes: Sequence[str] | None = None,
        name: str = ARRAYS,
        source: str = "arrays in memory",
        mean: Channels | None = None,
        std: Channels | None = None,
    ) -> Self:
        """A data set of NumPy arrays or torch tensors, which are copied: images (n, 32, 32, 3) uint8 RGB, labels (n,)
        of whole numbers.

        `classes` are named "class-0" and so on by default; `mean` and `std` are those of the training images. Raises
        `InputError` at arrays of other shapes or types, labels out of range, and a name that is another data set's.
        """
        if name in DATASETS:
            raise InputError(f"name: {name} is the name of other images; choose one for these")
        images = {"train_images": _array(train_images), "test_images": _array(test_images)}
        labels = {"train_labels": _array(train_labels), "test_labels": _array(test_labels)}
        for (field, array), (of, pictures) in zip(labels.items(), images.items(), strict=True):
            if pictures.dtype != np.uint8 or pictures.shape[1:] != (32, 32, 3) or not len(pictures):
                raise InputError(
                    f"{of}: {pictures.dtype} {pictures.shape}; uint8 (n, 32, 32, 3) is needed, n at least 1"
                )
            if not np.issubdtype(array.dtype, np.integer) or array.shape != (len(pictures),):
                raise InputError(f"{field}: {array.dtype} {array.shape}; whole numbers ({len(pictures)},) are needed")
        if classes is None:
            top = min(max(int(array.max()) for array in labels.values()), MOST_CLASSES - 1)
            classes = [f"class-{label}" for label in range(max(top + 1, 2))]
        if not 2 <= len(classes) <= MOST_CLASSES:
            raise InputError(f"classes: {len(classes):,}; there can be 2 to {MOST_CLASSES:,}")
        if twice := next((one for one, times in Counter(classes).items() if times > 1), None):
            raise InputError(f"classes: {short(twice)} is the name of more than one")
        for field, array in labels.items():
            if array.min() < 0 or array.max() >= len(classes):
                raise InputError(f"{field}: {array.min()} to {array.max()}; labels count {len(classes)} classes from 0")
        if mean is None or std is None:
            found = statistics_of(images["train_images"])
            mean, std = found[0] if mean is None else mean, found[1] if std is None else std
        return cls(
            name=name,
            source=source,
            classes=tuple(classes),
            train_images=images["train_images"],
            train_labels=labels["train_labels"].astype(np.int64),
            test_images=images["test_images"],
            test_labels=labels["test_labels"].astype(np.int64),
            mean=_channels("mean", mean, -math.inf),
            std=_channels("std", std, 0),
        )

    def selected(self, recipe: Recipe) -> Self:
        """What `recipe` trains and tests on: see its validation, limit_train and limit_test. Raises `InputError`."""
        held_out = self if recipe.validation is None else self.validating(recipe.validation)
        return held_out.limited(recipe.limit_train, recipe.limit_test)

    def validating(self, number: int) -> Self:
        """The last `number` training images in place of the test images. Raises `InputError` where none are left."""
        if not 0 < number < len(self.train_images):
            raise InputError(f"validation: {number:,} of the {len(self.train_images):,} training images of {self.name}")
        return replace(
            self,
            train_images=self.train_images[:-number],
            train_labels=self.train_labels[:-number],
            test_images=self.train_images[-number:],
            test_labels=self.train_labels[-number:],
            held_out=True,
        )

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
        sizes = f"{len(self.train_images):,} training and {len(self.test_images):,} "
        sizes += "held-out training images to test on" if self.held_out else "test images"
        return f"{self.name}, {sizes} ({self.source})"


def statistics_of(images: NDArray[np.uint8]) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel over images (n, h, w, 3), in pixel values; 1 for one that is flat."""
    counts = np.zeros((3, 256), np.int64)  # pixels of each channel and value
    for start in range(0, len(images), 1000):  # in pieces: bincount makes eight bytes of each
        for count, channel in zip(counts, images[start : start + 1000].reshape(-1, 3).T, strict=True):
            count += np.bincount(channel, minlength=256)
    values = np.arange(256)
    means = counts @ values / counts[0].sum()
    squares = (counts * (values - means[:, None]) ** 2).sum(axis=1) / counts[0].sum()
    stds = np.where(squares, np.sqrt(squares), 1)
    return _channels("mean", means, -math.inf), _channels("std", stds, 0)


def _array(values: Any) -> NDArray[Any]:
    """A copy of an array or a tensor, on whatever device, one row after the other in memory."""
    try:
        return np.array(np.asarray(values.cpu() if hasattr(values, "cpu") else values), order="C")
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: of a tensor that needs its gradient
        raise InputError(f"no array can be made of {short(values)}: {short(str(error))}") from error


def _channels(field: str, values: Any, above: float) -> Channels:
    found = tuple(float(value) for value in values)
    if len(found) != 3 or not all(math.isfinite(value) and value > above for value in found):
        raise InputError(f"{field}: {short(found)}; three finite numbers{' above 0' * (above == 0)} are needed")
    return found[0], found[1], found[2]
