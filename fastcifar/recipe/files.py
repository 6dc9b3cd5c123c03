"""Recipes as TOML files: those that ship (`fastcifar/recipes/`), and reading and writing one."""

import itertools
import os
import re
import tomllib
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from fastcifar.errors import InputError, perhaps, short
from fastcifar.files import read_regular
from fastcifar.recipe import DATASETS, KINDS, Recipe
from fastcifar.recipe.changes import merged

LARGEST = 2**18  # bytes of a recipe file, which has a few thousand
_BASES = 16  # a recipe may be based on one that is based on one


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package: name to file, by name."""
    folder = Path(str(resources.files("fastcifar") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_recipe(name_or_file: str, prefix: str = "--recipe ") -> Path:
    """The file of a shipped recipe's name, or the TOML file itself. Raises `InputError` if there is neither, its line
    beginning with `prefix`."""
    shipped = shipped_recipes()
    if name_or_file in shipped:
        return shipped[name_or_file]
    path = Path(name_or_file)
    if path.suffix == ".toml" or os.path.exists(path):  # noqa: PTH110 (Path.exists raises at a name that is too long)
        return path
    hint = perhaps(name_or_file, shipped)
    raise InputError(f"{prefix}{name_or_file}: neither a TOML file nor one of {', '.join(shipped)}{hint}")


def load_recipe(name_or_file: str | Path) -> Recipe:
    """Read and check a recipe: a shipped name or a TOML file.

    >>> fastcifar.load_recipe("laptop").target
    0.9

    A field left out has the value it has in the file's `base`, another recipe, by default `seed`. Files that the recipe
    names (custom code, images, a base) lie relative to its own. Raises `InputError`.
    """
    return _load(find_recipe(str(name_or_file)), ())


def _load(path: Path, above: tuple[Path, ...]) -> Recipe:
    if path.absolute() in above or len(above) > _BASES:
        raise InputError(f"{path}: base: leads back to this file")
    try:
        values = tomllib.loads(read_regular(path, LARGEST).decode("utf-8-sig").replace("\r\n", "\n"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # of bytes, of TOML, of a number of too many digits
        said = "nested too deeply" if isinstance(error, RecursionError) else str(error).partition(";")[0]
        raise InputError(f"{path}: not a TOML file: {said}") from error
    named = values.pop("base", None)
    if named is not None and not isinstance(named, str):
        raise InputError(f"{path}: base: the name of a recipe or a TOML file is needed, got {short(named)}")
    base = Recipe()
    if named:
        beside = path.parent / named
        found = beside if beside.suffix == ".toml" else find_recipe(named, f"{path}: base: ")
        base = _load(found, (*above, path.absolute()))
    return merged(base, from_folder(path.parent, values), f"{path}: ")


def seen_from(folder: Path, recipe: Recipe) -> Recipe:
    """The recipe with the files it names, which lie relative to `folder`, named from the present one."""
    return merged(recipe, from_folder(folder, asdict(recipe)))


def from_folder(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The values with the files they name, which lie relative to `folder`."""
    values = dict(values)
    for table, field in (*((table, "name") for table in KINDS), ("augmentation", "own")):
        inner = values.get(table)
        if isinstance(inner, dict) and isinstance(name := inner.get(field), str) and ":" in name:
            values[table] = {**inner, field: str(folder / name)}
    images = values.get("dataset")
    if isinstance(images, str) and images and images not in DATASETS:
        values["dataset"] = str(folder / images)
    return values


def header(path: Path) -> tuple[str, str]:
    """What a recipe is and what was measured, a sentence each: how the comment at the top of its file begins."""
    lines = itertools.takewhile(lambda line: line.startswith("# "), path.read_text(encoding="utf-8").splitlines())
    summary, _, measured = " ".join(line.removeprefix("# ") for line in lines).partition(" Measured: ")
    return _first_sentence(summary), _first_sentence(measured)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def to_toml(recipe: Recipe) -> str:
    """The recipe, with all its fields, as the text of a TOML file that `load_recipe` reads back to an equal recipe."""
    values = _said(asdict(recipe))
    for table in KINDS:
        values[table] |= values[table].pop("arguments", {})
    return tomli_w.dumps(values)


def _said(values: dict[str, Any]) -> dict[str, Any]:
    """TOML has no word for none: such a field is left out, which means the same."""
    return {
        key: _said(value) if isinstance(value, dict) else value for key, value in values.items() if value is not None
    }
