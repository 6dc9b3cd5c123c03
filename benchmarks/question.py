"""A question of `python -m benchmarks search`: its file (see `benchmarks.searching`), and what a trial tries."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from optuna.trial import Trial
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastcifar.errors import InputError, complaint
from fastcifar.recipe import Recipe
from fastcifar.recipe.changes import merged
from fastcifar.recipe.files import from_folder, load_recipe


class Range(BaseModel):
    """Numbers between two, whole ones where both are."""

    model_config = ConfigDict(extra="forbid", strict=True)
    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None


class Question(BaseModel):
    """What a file asks: see `benchmarks.searching`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    recipe: str
    set: dict[str, Any] = {}
    fields: Annotated[dict[str, list[Any] | Range], Field(min_length=1)]
    validation: Annotated[int, Field(ge=1)] = 5000
    seeds: Annotated[list[int], Field(min_length=1)] = [1000, 1001]
    trials: Annotated[int, Field(ge=1)] = 20
    sampler: Literal["tpe", "grid"] = "tpe"
    sampler_seed: int = 0
    points_per_doubling: float = 0.0


def read_question(path: Path) -> tuple[Question, Recipe]:
    """The question in a file, and the recipe it is about. Raises `InputError`, one line."""
    try:
        asked = Question.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(f"{path}: {complaint(error)}") from error
    except ValueError as error:
        raise InputError(f"{path}: not a TOML file: {error}") from error
    if asked.sampler == "grid" and not all(isinstance(one, list) for one in asked.fields.values()):
        raise InputError(f"{path}: sampler: a grid is of choices, and a field has a range")
    beside = path.parent / asked.recipe
    base = load_recipe(str(beside if beside.suffix == ".toml" else asked.recipe))
    changes = from_folder(path.parent, {**asked.set, "validation": asked.validation})
    recipe = merged(base, changes, f"{path}: set.")
    for name, values in asked.fields.items():  # a name that is none is told now, and not after hours
        first = values[0] if isinstance(values, list) else values.low
        varied(recipe, {name: first}, f"{path}: fields.")
    return asked, recipe


def varied(recipe: Recipe, values: dict[str, Any], prefix: str = "") -> Recipe:
    """`recipe` with fields changed by their dotted names. Raises `InputError`."""
    changes: dict[str, Any] = {}
    for name, value in values.items():
        *tables, field = name.split(".")
        place = changes
        for table in tables:
            place = place.setdefault(table, {})
        place[field] = value
    return merged(recipe, changes, prefix)


def drawn(trial: Trial, fields: dict[str, list[Any] | Range]) -> dict[str, Any]:
    """What `trial` tries; Optuna keeps choices as JSON, since one may be a list."""
    found: dict[str, Any] = {}
    for name, one in fields.items():
        if isinstance(one, list):
            found[name] = json.loads(str(trial.suggest_categorical(name, [json.dumps(value) for value in one])))
        elif isinstance(one.low, int) and isinstance(one.high, int):
            found[name] = trial.suggest_int(name, one.low, one.high, log=one.log, step=int(one.step or 1))
        else:
            found[name] = trial.suggest_float(name, one.low, one.high, log=one.log, step=one.step)
    return found
