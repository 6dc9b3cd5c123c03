"""A run that was interrupted, as its folder says: what was asked for, to go on with it. Without torch."""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fastcifar.errors import InputError, complaint, short
from fastcifar.execution import Execution
from fastcifar.files import expanded, read_regular
from fastcifar.own import PARTS, OwnCode, located, own_files
from fastcifar.recipe import DATASETS, Recipe, validated
from fastcifar.source import digest, read_source

LARGEST = 2**20  # bytes of run.json, which has a few thousand
CHECKPOINTS = "checkpoints"
"""The folder of them in a run directory."""


@dataclass(frozen=True)
class Asked:
    """What was asked for beside recipe and execution: a range test, the folder of the images, where a folder of one's
    own images is, where the custom files are; absolute paths."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    find_lr: bool
    data: str | None
    dataset: str
    files: dict[str, str]


@dataclass(frozen=True)
class Paused:
    """A run that is not finished. `recipe` names images and code by where they are, `written` as run.json has it."""

    path: Path
    name: str
    recipe: Recipe
    written: Recipe
    execution: Execution
    asked: Asked
    run: dict[str, Any]


def read_paused(path: str | Path, *, trust_code: bool = False, given: Collection[str] = ()) -> Paused | None:
    """What the run directory `path` says of its run; None if it is finished.

    Custom code is the file that was trained with, where that still is, as its sha256 says; else, with
    `trust_code`, the copy in `path`; for the parts that are `given`, nothing is looked for. Raises `InputError`, one
    line, where `path` is no run directory, its run.json is broken, or its code is not to be had.
    """
    path = Path(path)
    file = path / "run.json"
    run = read_json(path)
    if run.get("status") == "finished":
        return None
    try:
        # By way of JSON because pydantic's strict mode takes no dict for a dataclass in Python mode.
        asked = TypeAdapter(Asked).validate_json(json.dumps(run.get("asked")))
        execution = TypeAdapter(Execution).validate_json(json.dumps(run.get("execution")), strict=True)
    except ValidationError as error:
        raise InputError(f"{file}: not a run that can be continued: {complaint(error)}") from error
    name = run.get("recipe_name")
    if not isinstance(name, str) or Path(name).name != name or not isinstance(values := run.get("recipe"), dict):
        raise InputError(f"{file}: recipe_name: the name of a recipe is needed, got {short(name)}")
    written = validated(values, prefix=f"{file}: recipe.")
    recipe = located(written, _code(path, written, asked, trust_code, given))
    if written.dataset not in DATASETS:
        recipe = replace(recipe, dataset=asked.dataset)
    return Paused(path, name, recipe, written, execution, asked, run)


def asked_of(recipe: Recipe, own: OwnCode, *, find_lr: bool, data: str | Path | None) -> Asked:
    """Of a run that begins."""
    return Asked(
        find_lr=find_lr,
        data=None if data is None else str(expanded(data).absolute()),
        dataset=recipe.dataset if recipe.dataset in DATASETS else str(expanded(recipe.dataset).absolute()),
        files={name: str(place) for name, place in own.places.items()},
    )


def read_json(path: Path) -> dict[str, Any]:
    """run.json of the run directory `path`. Raises `InputError`."""
    file = path / "run.json"
    try:
        if not path.is_dir():
            raise InputError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}; name a run directory")
        if not file.is_file():
            raise InputError(f"{path}: not a run directory: there is no run.json in it")
        return TypeAdapter(dict[str, Any]).validate_json(read_regular(file, LARGEST))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(f"{file}: {complaint(error)}") from error


def _code(path: Path, recipe: Recipe, asked: Asked, trust_code: bool, given: Collection[str]) -> dict[str, Path]:
    """Where each custom file is that the recipe names, as it was when it was trained with."""
    places = {}
    for name, wanted in own_files(recipe, [part for part in PARTS if part not in given]).items():
        if name.startswith("python"):
            raise InputError(f"{path}: {name} had no source when it was trained: it cannot be continued")
        place = Path(asked.files.get(name, name))
        if not place.is_file() or digest(read_source(place)) != wanted:
            if not trust_code:
                said = "--trust-code (trust_code=True) runs the copy in the run"
                raise InputError(f"{path}: {place} is not there as it was; {said}")
            place = path / name
        places[name] = place
    return places
