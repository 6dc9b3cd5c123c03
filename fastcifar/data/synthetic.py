"""CIFAR-shaped images whose classes can be learned, made from a seed: for machines without CIFAR-10."""

import numpy as np
from numpy.typing import NDArray

from fastcifar.data.dataset import Dataset


def synthetic(
    train: int = 50_000,
    test: int = 10_000,
    seed: int = 0,
    *,
    limit_train: int | None = None,
    limit_test: int | None = None,
) -> Dataset:
    """Ten classes, each a smooth colour pattern, shifted by up to 4 pixels and hidden under another pattern and noise.

    The same seed gives the same images, whatever their number of the other split. With limits only the first so many
    are made, which saves time. Never CIFAR-10: its name, source and class names say so in every output.
    """
    patterns = _smooth(np.random.default_rng([seed, 0]), 10)
    train_images, train_labels = _split(patterns, train, limit_train, [seed, 1])
    test_images, test_labels = _split(patterns, test, limit_test, [seed, 2])
    return Dataset(
        name="synthetic",
        source=f"made-up images from seed {seed}, NOT CIFAR-10",
        classes=tuple(f"pattern-{k}" for k in range(10)),
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )


def _smooth(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Random patterns (n, 32, 32, 3): 5x5 colours, interpolated linearly, one axis after the other."""
    coarse = rng.standard_normal((n, 5, 5, 3), np.float32)
    weights = np.maximum(0, 1 - np.abs(np.linspace(0, 4, 32)[:, None] - np.arange(5))).astype(np.float32)
    return np.einsum("yi,xj,kijc->kyxc", weights, weights, coarse, optimize=True)


def _split(
    patterns: NDArray[np.float32], n: int, limit: int | None, seed: list[int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    shifts = rng.integers(-4, 5, (n, 2))
    wanted = n if limit is None else min(limit, n)
    images = np.empty((n, 32, 32, 3), np.uint8)
    for start in range(0, wanted, 1000):  # in pieces: the noise of 50,000 images at once would take gigabytes
        part = slice(start, start + 1000)
        count = len(labels[part])
        rows = (np.arange(32)[None, :] - shifts[part, :1]) % 32
        columns = (np.arange(32)[None, :] - shifts[part, 1:]) % 32
        seen = 0.6 * patterns[labels[part, None, None], rows[:, :, None], columns[:, None, :]]
        seen += 0.8 * _smooth(rng, count) + 0.5 * rng.standard_normal((count, 32, 32, 3), np.float32)
        images[part] = np.clip(128 + 50 * seen, 0, 255)
    return images[:wanted], labels[:wanted]
