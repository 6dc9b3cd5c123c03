"""The data set that a recipe names."""

import os
from dataclasses import replace
from pathlib import Path

from fastcifar.data.cifar import load_cifar10, load_cifar100
from fastcifar.data.dataset import ARRAYS, Dataset
from fastcifar.data.folder import load_folder
from fastcifar.data.synthetic import synthetic
from fastcifar.errors import InputError, perhaps, printable, short
from fastcifar.files import expanded
from fastcifar.recipe import DATASETS, Recipe


def load_dataset(recipe: Recipe, folder: Path | None = None) -> Dataset:
    """The images of `recipe`, as many as it asks for: CIFAR-10 or CIFAR-100 from `folder` (see `load_cifar10`); those
    of a custom folder from `folder`, or from where the recipe says it is.

    Raises `InputError` where they are not to be had, or are not those whose sha256 the recipe has.
    """
    if recipe.dataset == "synthetic":
        if recipe.validation:
            dataset = synthetic()
        else:
            dataset = synthetic(limit_train=recipe.limit_train, limit_test=recipe.limit_test)
    elif recipe.dataset == "cifar10":
        dataset = load_cifar10(folder)
    elif recipe.dataset == "cifar100":
        dataset = load_cifar100(folder)
    else:
        dataset = load_folder(_place(recipe.dataset, folder), None if folder is None else Path(recipe.dataset).name)
    dataset = dataset.selected(recipe)
    if recipe.dataset_sha256 not in (None, dataset.sha256):
        raise InputError(
            f"dataset: {dataset.name} here ({dataset.source}) has other images than the recipe's (their sha256 is "
            f"{dataset.sha256}, not {recipe.dataset_sha256})"
        )
    return dataset


def given_or_loaded(given: str | Path | Dataset | None, recipe: Recipe, folder: str | Path | None) -> Dataset:
    """`given` where it is in memory, as it is; else `load_dataset` of the one `given` by its name or folder, or of the
    recipe's. Raises `InputError`."""
    if isinstance(given, Dataset):
        return given
    if given is not None:
        if not isinstance(given, str | Path):
            raise InputError(f"dataset: a {type(given).__name__}; Dataset.from_arrays makes a data set of arrays")
        recipe = replace(recipe, dataset=str(given))
    return load_dataset(recipe, None if folder is None else Path(folder))


def _place(name: str, folder: Path | None) -> Path:
    """The folder that is the data set `name`: `folder` where one is given."""
    place = expanded(name if folder is None else folder)
    # A name mistyped is no folder's, even where --data names one.
    wanted = place / "train" if folder is not None and perhaps(Path(name).name, DATASETS) else place
    if os.path.isdir(wanted):  # noqa: PTH112 (Path.is_dir raises at a name that is too long)
        return place
    where = "" if folder is None else f" ({printable(folder)})"
    hint = perhaps(Path(name).name, DATASETS, "; --data DIR says where it is")
    if name == ARRAYS:
        hint = "; it was made of arrays: in Python, give it as dataset=..."
    raise InputError(f"dataset: {short(name)}{where}: neither {', '.join(DATASETS)} nor a folder{hint}")
