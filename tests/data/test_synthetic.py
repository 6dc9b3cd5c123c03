"""Made-up images: CIFAR-shaped, from a seed, learnable, and never mistaken for CIFAR-10."""

import numpy as np
import pytest

from fastcifar.data.load import load_dataset
from fastcifar.data.synthetic import synthetic
from fastcifar.errors import InputError
from fastcifar.recipe import Recipe


def test_shapes_and_kinds() -> None:
    dataset = synthetic(300, 100)
    assert dataset.train_images.shape == (300, 32, 32, 3)
    assert dataset.train_images.dtype == np.uint8
    assert dataset.test_labels.shape == (100,)
    assert dataset.test_labels.dtype == np.int64
    assert set(dataset.train_labels) == set(range(10))


def test_the_seed_decides() -> None:
    one, same, other = synthetic(50, 20, seed=1), synthetic(50, 10, seed=1), synthetic(50, 20, seed=2)
    np.testing.assert_array_equal(one.train_images, same.train_images)
    assert not np.array_equal(one.train_images, other.train_images)
    assert not np.array_equal(one.train_images[:20], one.test_images)


def test_the_nearest_training_image_tells_the_class() -> None:
    """Far above chance (10 %), so there is something to learn, and below 100 %, so there is something left."""
    dataset = synthetic(2000, 200)
    train = dataset.train_images.reshape(2000, -1).astype(np.float32)
    test = dataset.test_images.reshape(200, -1).astype(np.float32)
    distances = (train**2).sum(1) - 2 * test @ train.T
    right = (dataset.train_labels[distances.argmin(1)] == dataset.test_labels).mean()
    assert 0.5 < right < 1


def test_with_limits_the_first_are_made() -> None:
    whole, part = synthetic(2500, 1200, seed=4), synthetic(2500, 1200, seed=4, limit_train=1300, limit_test=1)
    np.testing.assert_array_equal(part.train_images, whole.train_images[:1300])
    np.testing.assert_array_equal(part.train_labels, whole.train_labels[:1300])
    np.testing.assert_array_equal(part.test_images, whole.test_images[:1])
    assert len(part.test_labels) == 1
    with pytest.raises(InputError, match="limit_train: 50,001 images asked for, synthetic has 50,000"):
        load_dataset(Recipe(dataset="synthetic", limit_train=50_001, limit_test=1))


def test_every_name_says_so() -> None:
    dataset = load_dataset(Recipe(dataset="synthetic", limit_train=50, limit_test=10))
    assert dataset.name == "synthetic"
    assert "NOT CIFAR-10" in dataset.describe()
    assert "50 training and 10 test images" in dataset.describe()
