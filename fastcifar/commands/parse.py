"""How a command line becomes a subcommand with its values checked."""

import argparse
import difflib
import tomllib
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, get_args, get_type_hints

import tyro

import fastcifar
from fastcifar.commands.command import AUTO, COMMANDS, GROUPS, C, Command, OfModel, OfRecipe
from fastcifar.errors import InputError
from fastcifar.recipe import KINDS, SCALED, Recipe, kind_of, kinds_with, scaled
from fastcifar.recipe.changes import merged
from fastcifar.recipe.files import shipped_recipes
from fastcifar.report.console import Console

HELP = ("-h", "--help")


@dataclass(frozen=True)
class Listing(Command):
    """`fastcifar --help`, and that of a group: what subcommands there are."""

    group: str = ""

    def run(self, console: Console) -> None:
        """Print them."""
        from rich.table import Table

        program = f"fastcifar {self.group}".rstrip()
        table = Table.grid(padding=(0, 2))
        for name, about in _names(self.group).items():
            table.add_row(f"  {name}", about)
        console.say(GROUPS.get(self.group) or fastcifar.__doc__ or "", "", f"usage: {program} COMMAND [FLAGS]", "")
        console.print(table, highlight=False, markup=False)
        console.say(
            "",
            f"{program} COMMAND --help lists the flags of one. --debug prints the traceback of an error, --version what"
            " this is.",
        )


def early() -> argparse.ArgumentParser:
    """A parser for the few flags that decide how the others are read. Raises `argparse.ArgumentError`."""
    return argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)


def parse(arguments: Sequence[str]) -> Command:
    """The subcommand that `arguments` ask for. Raises `InputError` with one line where they make no sense.

    The --help of a subcommand is printed at once and ends in `SystemExit`.
    """
    group = arguments[0] if arguments and arguments[0] in GROUPS else ""
    rest = arguments[1:] if group else arguments
    word = rest[0] if rest else ""
    if group in COMMANDS and word not in HELP and (not word or word.startswith("-")):
        return _with_flags(group, rest)
    if word in ("", *HELP):
        return Listing(group)
    name = f"{group} {word}".lstrip()
    if name not in COMMANDS:
        names = list(_names(group))
        hint = _similar(word, names)
        raise InputError(f"{word}: no such command{hint}; fastcifar {group and f'{group} '}has {', '.join(names)}")
    return _with_flags(name, rest[1:])


def _names(group: str) -> dict[str, str]:
    """The subcommands of a group, or of `fastcifar` with its groups, and what each does."""
    if group:
        named = {name.removeprefix(f"{group} "): name for name in COMMANDS if name.startswith(f"{group} ")}
    else:
        named = {name.partition(" ")[0]: name for name in COMMANDS}
    about = {word: GROUPS.get(word) or COMMANDS[name].__doc__ or "" for word, name in named.items()}
    return {word: said.partition("\n")[0] for word, said in about.items()}


def _with_flags(name: str, arguments: Sequence[str]) -> Command:
    kind, given = COMMANDS[name], _read_first(arguments)
    about: dict[str, Any] = {"prog": f"fastcifar {name}"}
    named = {table: {"name": found} for table in KINDS if (found := getattr(given, table))}
    if issubclass(kind, OfModel):
        recipe = merged(Recipe(model=kind.default_model(given)), named, prefix="--")
        arguments, own = _own_arguments(arguments, recipe)
        made = _read(kind, arguments, about | {"default": kind(model=recipe.model)})
        return replace(made, model=merged(replace(recipe, model=made.model), own, prefix="--").model)
    if not issubclass(kind, OfRecipe):
        return _read(kind, arguments, about)
    defaults = kind.defaults(given)
    base = defaults["recipe"]
    start = merged(base, named, prefix="--")
    arguments, own = _own_arguments(arguments, start)
    command = _read(kind, arguments, about | {"default": kind(**defaults | {"recipe": start})})
    recipe = command.recipe
    if recipe.epochs != base.epochs:
        own |= scaled(base, recipe.epochs, [name for name in SCALED if getattr(given, name)], prefix="--")
    return replace(command, recipe=merged(recipe, own, prefix="--"))


def _read_first(arguments: Sequence[str]) -> argparse.Namespace:
    """`recipe`, `model` and `optimizer`: they decide what the other flags are, and their defaults; `device`; and
    whether what scales with the epochs is given."""
    parser = early()
    # A missing value is left to tyro's complaint.
    parser.add_argument("--recipe", nargs="?", default=AUTO, const=AUTO)
    for table in KINDS:
        parser.add_argument(f"--{table}", f"--{table}.name", nargs="?", dest=table)
    parser.add_argument("--device", nargs="?", default=AUTO, const=AUTO)
    parser.add_argument("--resume", nargs="?")
    for name in SCALED:
        parser.add_argument(f"--{name.replace('_', '-')}", f"--{name}", nargs="?", const=True, dest=name)
    found, rest = parser.parse_known_args(arguments)
    found.rest = rest
    return found


def _own_arguments(arguments: Sequence[str], recipe: Recipe) -> tuple[list[str], dict[str, Any]]:
    """The arguments without those of custom code, `--model.KEY VALUE`, and these as changes to a recipe.

    A value is what it is in TOML, else a string; a key without one is true.
    """
    tables = [table for table in KINDS if kind_of(table, getattr(recipe, table)) == "own"]
    rest: list[str] = []
    own: dict[str, dict[str, Any]] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        table, _, key = flag.removeprefix("--").partition(".")
        if not flag.startswith("--") or table not in tables or not key or key == "name":
            rest.append(word)
            continue
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else "true"
        own.setdefault(table, {})[key.replace("-", "_")] = _as_toml(value)
    return rest, {table: {"arguments": {**getattr(recipe, table).arguments, **found}} for table, found in own.items()}


def _as_toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # no TOML, or more of it than Python reads
        return text


def _read(kind: type[C], arguments: Sequence[str], about: dict[str, Any]) -> C:
    """`kind` with its flags read by tyro. Raises `InputError` at the first that is wrong."""

    asked = getattr(about.get("default"), "recipe", about.get("default"))
    chosen = {type(getattr(asked, table, None)) for table in KINDS}

    def refuse(event: Any) -> None:
        if complaint := _complaint(event, kind, chosen):
            raise InputError(complaint)

    # tyro's hook for its complaints is not public: where a version has none, or an event that `_complaint` does not
    # know, what is printed is tyro's own box of several lines.
    hook = getattr(getattr(tyro, "_errors", None), "on_parse_error", None)
    with hook(refuse) if hook else nullcontext():
        return tyro.cli(kind, args=arguments, **about)


def _complaint(event: Any, kind: type[Command], chosen: Collection[type]) -> str | None:
    match type(event).__name__:
        case "UnrecognizedArgs":
            unknown = next((token.partition("=")[0] for token in event.tokens if token.startswith("--")), "")
            flags = [flag for flag, _ in flags_of(kind, chosen=chosen)]
            hint = _similar(unknown, flags, 0.8) or _of_another_kind(unknown) or _similar(unknown, flags)
            hint = hint or _ending(unknown, flags)
            if event.tokens[0] in shipped_recipes() and "--recipe" in flags:
                hint = f" (perhaps you meant --recipe {event.tokens[0]})"
            return f"Unrecognized options: {', '.join(event.tokens)}{hint}"
        case "MissingArgs":
            return f"Missing: {', '.join(_shown(one.arg) for one in event.missing_arguments)}"
        case "BadValue":
            return f"Missing value for argument '{_shown(event.argument)}'"
        case "InvalidChoice":
            choices = ", ".join(event.choices)
            return f"invalid choice '{event.value}' for argument '{_shown(event.argument)}': one of {choices}"
        case "InstantiationFailure" if event.argument:
            return f"Error parsing {_shown(event.argument)}: {event.message.splitlines()[0]}"
    return None


def _shown(argument: Any) -> str:
    """RUN of a positional argument, --width/--model.width of a flag."""
    return str(argument.lowered.metavar) if argument.is_positional() else "/".join(argument.lowered.name_or_flags)


def flags_of(kind: type, prefix: str = "--", chosen: Collection[type] = ()) -> Iterator[tuple[str, Any]]:
    """The flags of a dataclass, those of the dataclasses in it too, as tyro names them, and the type of each; of a
    table that has several kinds those of the one that is `chosen`, if any is."""
    hints = get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        hint, name = hints[one.name], one.name
        of, *about = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        if tyro.conf.Suppress in about or tyro.conf.Positional in about:
            continue
        for argument in about:
            for alias in getattr(argument, "aliases", None) or ():
                yield alias, of
            if (named := getattr(argument, "name", None)) is not None:
                name = named
        flag = f"{prefix}{name}".replace("_", "-")
        tables = [bare for choice in (of, *get_args(of)) if is_dataclass(bare := (get_args(choice) or [choice])[0])]
        for table in [table for table in tables if table in chosen] or tables:  # of one kind or another
            yield from flags_of(table, f"{flag}." if name else prefix, chosen)  # type: ignore[arg-type]
        if not tables:
            yield flag, of


def _of_another_kind(flag: str) -> str:
    """Which network or optimizer has this flag, where another one is chosen: --model.depth is of --model speednet."""
    table, _, name = flag.removeprefix("--").partition(".")
    kinds = kinds_with(table, name.replace("-", "_"))
    return f" (a flag of --{table} {' or '.join(kinds)})" if kinds else ""


def _similar(word: str, names: Sequence[str], cutoff: float = 0.6) -> str:
    """The name most like `word`, by their last parts: --schedule.max-lr for --maxlr."""
    last = {name.rpartition(".")[2].removeprefix("--"): name for name in reversed(names) if name != word}
    found = difflib.get_close_matches(word.rpartition(".")[2].removeprefix("--"), last, 1, cutoff)
    return f" (perhaps you meant {last[found[0]]})" if found else ""


def _ending(flag: str, flags: Sequence[str]) -> str:
    """The flags of tables that end in this one: --schedule.min-lr and --schedule.max-lr for --lr."""
    end = f"-{flag.removeprefix('--')}"
    found = [one for one in flags if "." in one and one.endswith(end)] if flag else []
    return f" (perhaps you meant {' or '.join(found[:3])})" if found else ""
