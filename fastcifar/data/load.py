"""The data set that a recipe names."""

from pathlib import Path

from fastcifar.data.cifar10 import load_cifar10
from fastcifar.data.dataset import Dataset
from fastcifar.data.synthetic import synthetic
from fastcifar.recipe import Recipe


def load_dataset(recipe: Recipe, folder: Path | None = None) -> Dataset:
    """The images of `recipe`, as many as it asks for; CIFAR-10 from `folder` (see `load_cifar10`)."""
    dataset = synthetic() if recipe.dataset == "synthetic" else load_cifar10(folder)
    return dataset.limited(recipe.limit_train, recipe.limit_test)
