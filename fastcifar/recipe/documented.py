"""`python -m fastcifar.recipe.documented` prints docs/reference/recipe.md: a recipe's fields, from their docstrings."""

import ast
import inspect
import itertools
import json
import textwrap
from dataclasses import MISSING, fields, is_dataclass

from fastcifar.recipe import KINDS, Recipe


def documented() -> list[tuple[str, str, str]]:
    """Every field of a recipe: its dotted name (of one kind: `model.width (resnet)`), its default, and what it is."""
    rows = _rows(Recipe, "", "")
    for table, kinds in KINDS.items():
        rows = [row for row in rows if not row[0].startswith(f"{table}.")]
        for name, kind in kinds.items():
            of_kind = _rows(kind, f"{table}.", f" ({name})")
            rows += of_kind if kind is next(iter(kinds.values())) else of_kind[1:]  # `name` once
    return sorted(rows, key=lambda row: "." in row[0])


def markdown() -> str:
    """docs/reference/recipe.md."""
    lines = [
        "# The fields of a recipe",
        "",
        "Written by `python -m fastcifar.recipe.documented`. In a TOML file `model.width` is `width` of the table",
        "`[model]`; on the command line it is `--model.width`. A file may have `base = NAME|FILE.toml` too, a recipe",
        "whose values the fields have that are left out; without it they have those below, the recipe `seed`'s.",
        "",
        "| field | default | what it is |",
        "| --- | --- | --- |",
        *(f"| `{name}` | `{default}` | {said} |" for name, default, said in documented()),
    ]
    return "\n".join(lines).replace("FILE.py:NAME", "`FILE.py:NAME`") + "\n"


def docstrings(kind: type) -> dict[str, str]:
    """What is written below each field of a dataclass, on one line, by the field's name."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        one.target.id: " ".join(text.value.value.split())
        for one, text in itertools.pairwise(body.body)
        if isinstance(one, ast.AnnAssign)
        and isinstance(one.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _rows(kind: type, prefix: str, suffix: str) -> list[tuple[str, str, str]]:
    said = docstrings(kind)
    rows = []
    for one in fields(kind):
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if is_dataclass(default):
            rows += _rows(type(default), f"{one.name}.", "")
        else:
            shown = "none" if default is None else json.dumps(default)
            rows.append((f"{prefix}{one.name}{suffix if one.name != 'name' else ''}", shown, said[one.name]))
    return rows


if __name__ == "__main__":
    print(markdown(), end="")
