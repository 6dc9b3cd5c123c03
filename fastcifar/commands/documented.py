"""`python -m fastcifar.commands.documented` prints docs/reference/commands.md: every subcommand and its flags, from the
docstrings that are also its --help."""

import inspect
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import tyro

import fastcifar.commands  # noqa: F401 (fills COMMANDS)
from fastcifar.commands.command import COMMANDS, GROUPS, Command, OfRecipe, Trains
from fastcifar.execution import Execution
from fastcifar.recipe.documented import docstrings

WHOLE = ("recipe", "execution", "model")
"""Fields whose own fields are flags, described once for all commands."""


def markdown() -> str:
    """docs/reference/commands.md."""
    lines = [
        "# The command line",
        "",
        "Written by `python -m fastcifar.commands.documented`. `fastcifar COMMAND --help` says the same, with the",
        "present defaults; `python -m fastcifar` is the same program. Errors are one line; `--debug` adds the",
        "traceback; `--version` says what this is. Exit codes: 0 done, 1 a run that failed, 2 bad input, 130 Ctrl-C,",
        "128 + signal for others.",
        "",
        "Where *a recipe's flags* are named, every field of [a recipe](recipe.md) is one, by its dotted name",
        "(`--schedule.max-lr 0.01`; `--model` and `--optimizer` name what ships or `FILE.py:NAME`, `--width` is",
        "`--model.width`), beside `--recipe NAME|FILE.toml`. Of values in a row (`--image-sizes 24 32`) the last time",
        "a flag is given counts. *Execution's flags* say how it is run, at the end of this page.",
    ]
    shown: dict[type[Command], str] = {}
    for name, kind in COMMANDS.items():
        if kind not in shown:
            shown[kind] = name
            lines += _section(name, kind)
    lines += ["", "## Execution's flags", "", *_table(_flags(Execution))]
    return "\n".join(lines) + "\n"


def _section(name: str, kind: type[Command]) -> list[str]:
    others = [other for other, same in COMMANDS.items() if same is kind and other != name]
    group = GROUPS.get(name.partition(" ")[0])
    words = " ".join(
        ["fastcifar", name, *(place.replace("\\|", "|") for place, default, _ in _flags(kind) if default is None)]
    )
    lines = ["", f"## `fastcifar {name}`", "", *inspect.cleandoc(kind.__doc__ or "").splitlines(), ""]
    if group and others:
        lines += [f"`fastcifar {others[0]}` is the same.", ""]
    taken = [
        what for what, of in (("a recipe's flags", OfRecipe), ("execution's flags", Trains)) if issubclass(kind, of)
    ]
    if not taken and "model" in get_type_hints(kind):
        taken = ["`--model` and its table's flags"]
    lines += [f"    {words} [FLAGS]", ""]
    if taken:
        lines += [f"Takes {' and '.join(taken)}.", ""]
    flags = _flags(kind)
    return [*lines, *_table(flags)] if flags else lines[:-1]


def _table(flags: list[tuple[str, str | None, str]]) -> list[str]:
    return [
        "| flag | default | what it is |",
        "| --- | --- | --- |",
        *(f"| `{flag}` | {default or ''} | {said} |" for flag, default, said in flags),
    ]


def _flags(kind: type) -> list[tuple[str, str | None, str]]:
    """Of each field a flag, its default and what it is; of a positional one its name, None and what it is."""
    hints = get_type_hints(kind, include_extras=True)
    said: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if is_dataclass(base):
            said |= docstrings(base)
    rows: list[tuple[str, str | None, str]] = []
    for one in fields(kind):
        of, *about = get_args(hints[one.name]) if hasattr(hints[one.name], "__metadata__") else (hints[one.name],)
        if tyro.conf.Suppress in about or one.name in WHOLE:
            continue
        named = next((name for mark in about if (name := getattr(mark, "name", None))), one.name).replace("_", "-")
        place = next((name for mark in about if (name := getattr(mark, "metavar", None))), "")
        text = next((text for mark in about if (text := getattr(mark, "help", None))), "") or said.get(one.name, "")
        text = text.replace("|", "\\|").replace("<", "&lt;")
        if tyro.conf.Positional in about:
            several = "..." if "tuple" in str(of) else ""
            rows.append((f"{place or named.upper()}{several}".replace("|", "\\|"), None, text))
        else:
            flag = f"--{named} {place or _choices(of)}".rstrip() if of is not bool else _switch(named, one)
            rows.append((flag.replace("|", "\\|"), _default(one), text))
    return rows


def _switch(named: str, one: "Field[Any]") -> str:
    return f"--{named}, --no-{named}" if one.default is True else f"--{named}"


def _choices(of: Any) -> str:
    """What a flag's value is: its choices, or the kind of value."""
    parts = [part for part in get_args(of) if part is not type(None)]
    if parts and all(isinstance(part, str) for part in parts):
        return "|".join(parts)
    kinds = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
    if of in kinds:
        return kinds[of]
    return _choices(parts[0]) if parts and parts[0] is not Ellipsis else ""


def _default(one: "Field[Any]") -> str:
    value = one.default if one.default_factory is MISSING else one.default_factory()
    if value is MISSING:
        return "needed"
    if value is True:
        return f"`--{one.name}`"
    return "" if value in (None, (), False) else f"`{value}`"


if __name__ == "__main__":
    print(markdown(), end="")
