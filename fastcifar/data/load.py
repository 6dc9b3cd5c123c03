"""The data set that a recipe names."""

from pathlib import Path

from fastcifar.data.cifar import load_cifar10
from fastcifar.data.dataset import Dataset
from fastcifar.data.synthetic import synthetic
from fastcifar.recipe import Recipe


def load_dataset(recipe: Recipe, folder: Path | None = None) -> Dataset:
    """The images of `recipe`, as many as it asks for; CIFAR-10 from `folder` (see `load_cifar10`)."""
    if recipe.dataset == "synthetic":
        dataset = synthetic(limit_train=recipe.limit_train, limit_test=recipe.limit_test)
    else:
        dataset = load_cifar10(folder)
    return dataset.limited(recipe.limit_train, recipe.limit_test)
