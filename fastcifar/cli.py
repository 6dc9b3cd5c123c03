"""The command line: one short function per subcommand, which parses, calls and prints."""

import contextlib
import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import arg

import fastcifar
from fastcifar.errors import InputError, RunError, Stopped
from fastcifar.execution import Execution, resolve
from fastcifar.recipe import Model, Recipe, header, load_recipe, shipped_recipes, validated

# torch is imported where it is first needed: it takes seconds, and --help must not.


@dataclass(frozen=True)
class Train:
    """Train the recipe's network on CIFAR-10, test it after every epoch, and keep the run in a folder."""

    name: Annotated[str, arg(name="recipe", metavar="NAME|FILE.toml")]
    """A recipe that ships (see `fastcifar recipes`) or a TOML file; auto: seed on a GPU, laptop on a CPU."""
    recipe: Annotated[Recipe, arg(name="")]
    execution: Annotated[Execution, arg(name="")] = field(default_factory=Execution)
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder that holds cifar-10-batches-py; else $FASTCIFAR_DATA, else the user's cache, with a download at need."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Run directory, new or empty; default runs/<utc time>-<recipe>-seed<seed>."""


@dataclass(frozen=True)
class Summary:
    """Print the network's layers, their output shapes and parameters."""

    name: Annotated[str, arg(name="recipe", metavar="NAME|FILE.toml")]
    """A recipe that ships (see `fastcifar recipes`) or a TOML file; auto: seed on a GPU, laptop on a CPU."""
    recipe: Annotated[Recipe, arg(name="")]


@dataclass(frozen=True)
class Data:
    """Find or download CIFAR-10 and check its seven MD5s."""

    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder that holds cifar-10-batches-py; else $FASTCIFAR_DATA, else the user's cache, with a download at need."""


@dataclass(frozen=True)
class Recipes:
    """List the recipes that ship and what each was measured to reach."""


@dataclass(frozen=True)
class Env:
    """Print what a bug report needs: GPU, driver, versions, CPU, compiler, where the data is."""


@dataclass(frozen=True)
class Bench:
    """Measure images/s: of the loaders, of one training step, of training with each loader; without a name, all three
    shortened."""

    what: tyro.conf.Positional[Literal["all", "loaders", "step", "train"]] = "all"
    """Which benchmark."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """CUDA if there is a GPU, else the CPU; or the one named."""
    batch_size: int = 512
    """Images a batch."""
    width: int | None = None
    """Width of the network of step and train; by default 64 on a GPU and 16 on a CPU."""
    blocks: int | None = None
    """Blocks after warm-up whose median and quartiles are given; by default 7, and 3 for all."""
    dataset: Literal["cifar10", "synthetic"] = "cifar10"
    """The images; their speed is the same, and synthetic needs no download."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder that holds cifar-10-batches-py; see `fastcifar train --help`."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write what was measured to this file (schema: fastcifar/measure/bench.schema.json)."""
    figure: Annotated[Path | None, arg(metavar="FILE.png|svg")] = None
    """Draw what was measured."""


AUTO = "auto"
Command = Train | Bench | Summary | Data | Recipes | Env


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 for a failed run, 2 for bad input, 130 for Ctrl-C (128 + signal)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"] or ["--help"]
    try:
        if arguments == ["--version"]:
            print(f"fastcifar {fastcifar.__version__}", flush=True)
        else:
            run(parse(arguments), _Console())
        return 0
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "interrupted", stop.exit_code if isinstance(stop, Stopped) else 130, debug)
    except InputError as error:
        return _fail(str(error), 2, debug)
    except RunError as error:
        return _fail(str(error), 1, debug)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}", 1, debug)
    except Exception as error:
        summary = (str(error).splitlines() or [""])[0]
        return _fail(f"{type(error).__name__}: {summary} (--debug prints the traceback)", 1, debug)


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"fastcifar: {' '.join(message.split())}", file=sys.stderr)
    return code


class _Console(Console):
    """rich's console, which says so when the reader of its output has gone."""

    def on_broken_pipe(self) -> None:
        """Called by rich where a write fails; the text still held is dropped, lest the exit fails on it too."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise BrokenPipeError(errno.EPIPE, "stopped, since the reader of the output has gone") from None


def parse(arguments: list[str]) -> Command:
    """The command that `arguments` ask for. Raises `InputError` with one line where they make no sense."""
    name = _recipe_argument(arguments)
    base = load_recipe(_default_recipe(arguments) if name == AUTO else name)
    commands: dict[str, Command] = {
        "train": Train(name, base),
        "summary": Summary(name, base),
        "bench": Bench(),
        "data": Data(),
        "recipes": Recipes(),
        "env": Env(),
    }
    types = tyro.extras.subcommand_type_from_defaults(
        commands,
        {name: type(command).__doc__ or "" for name, command in commands.items()},
        prefix_names=False,
    )
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            command: Command = tyro.cli(types, args=arguments, prog="fastcifar", description=fastcifar.__doc__)
    except SystemExit as exit_:
        if exit_.code:
            raise InputError(_first_complaint(complaint.getvalue())) from None
        raise
    if isinstance(command, Train | Summary):
        recipe = command.recipe
        peak_given = any(re.match(r"--schedule\.peak[-_]epoch", argument) for argument in arguments)
        if recipe.epochs != base.epochs and not peak_given:
            peak = base.with_epochs(recipe.epochs).schedule.peak_epoch
            recipe = replace(recipe, schedule=replace(recipe.schedule, peak_epoch=peak))
        command = replace(command, recipe=validated(asdict(recipe), prefix="--"))
    return command


def _recipe_argument(arguments: list[str]) -> str:
    """What follows --recipe: its values are the defaults of all other flags, so it is read before them."""
    name = AUTO
    for position, argument in enumerate(arguments):
        if argument == "--recipe" and position + 1 < len(arguments):
            name = arguments[position + 1]
        elif argument.startswith("--recipe="):
            name = argument.removeprefix("--recipe=")
    return name


def _default_recipe(arguments: list[str]) -> str:
    if arguments[0] not in ("train", "summary"):
        return "seed"  # the other commands have no recipe: spare them the import of torch
    import torch

    return "seed" if torch.cuda.is_available() else "laptop"


def _first_complaint(box: str) -> str:
    """What tyro says in a box (drawn with lines, or with dashes where the output is not UTF-8), as one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m|[│╰╯]", "", box).splitlines()
    # The first line is the title: "╭─ title ─╮", or " title" above a line of dashes.
    sections: list[list[str]] = [[]]
    for line in (line.strip() for line in plain[1:]):
        if line and set(line) <= {"─", "-"}:
            sections.append([])
        elif line:
            sections[-1].append(line)
    sections = [section for section in sections if section]
    complaint = " ".join(sections[0])
    hint = sections[1] if len(sections) > 1 else [""]
    if hint[0].startswith("Available"):
        complaint += f" ({' '.join(hint)})"
    elif hint[0].startswith("Perhaps you meant") and len(hint) > 1:
        complaint += f" (perhaps you meant {hint[1]})"
    return complaint


def run(command: Command, console: Console) -> None:
    """Execute a parsed command."""
    match command:
        case Train():
            train(command, console)
        case Bench():
            bench(command, console)
        case Summary():
            summary(command)
        case Data():
            data(command, console)
        case Recipes():
            recipes(console)
        case Env():
            env(console)


def train(command: Train, console: Console) -> None:
    """`fastcifar train`"""
    from fastcifar.data.load import load_dataset
    from fastcifar.measure.environment import environment, wall_seconds
    from fastcifar.report.console import TrainingConsole, print_result, print_start
    from fastcifar.training.run_directory import RunDirectory, default_path
    from fastcifar.training.trainer import Trainer

    execution, notes = resolve(command.execution)
    name, recipe = Path(command.name).stem, command.recipe
    if command.name == AUTO:
        name = _default_recipe(["train"])
        why = "there is a CUDA device" if name == "seed" else "no CUDA device, and seed takes hours on a CPU"
        notes = [f"recipe {name}, since {why}; --recipe names another", *notes]
    with RunDirectory(command.out or default_path(name, recipe)) as directory:
        dataset = load_dataset(recipe, command.data)
        trainer = Trainer(recipe, dataset, execution)
        print_start(console, name, trainer, dataset, execution, notes)
        directory.start(
            recipe_name=name, recipe=recipe, execution=execution, dataset=dataset, environment=environment()
        )
        with TrainingConsole(console, trainer) as table:
            result = trainer.run([directory, table])
        directory.finish(result, trainer.model, wall_seconds())
    print_result(console, result, recipe.target)
    console.print(f"kept in {directory.path}", highlight=False, markup=False, soft_wrap=True)


def bench(command: Bench, console: Console) -> None:
    """`fastcifar bench`"""
    import torch

    from fastcifar.data.load import load_dataset
    from fastcifar.measure.bench import run_benches, to_json
    from fastcifar.report.bench import draw, print_tables
    from fastcifar.training.run_directory import write_whole

    if command.figure and command.figure.suffix not in (".png", ".svg"):
        raise InputError(f"--figure {command.figure}: the name must end in .png or .svg")
    for file in filter(None, (command.json, command.figure)):
        if not file.absolute().parent.is_dir():
            raise InputError(f"{file}: there is no folder {file.parent}")
    execution, _ = resolve(Execution(device=command.device))
    device = torch.device(execution.device)
    short = command.what == "all"
    width = (64 if device.type == "cuda" else 16) if command.width is None else command.width
    blocks = (3 if short else 7) if command.blocks is None else command.blocks
    if blocks < 1:
        raise InputError(f"--blocks {blocks}: at least one is needed")
    recipe = Recipe(dataset=command.dataset, batch_size=command.batch_size, model=Model(width=width))
    recipe = validated(asdict(recipe), prefix="--")
    dataset = load_dataset(recipe, command.data)
    if 8 * recipe.batch_size > len(dataset.train_images):
        raise InputError(f"--batch-size {recipe.batch_size}: 8 batches are more than the {dataset.name} images")
    console.print(f"{device.type}, {dataset.describe()}", highlight=False, markup=False, soft_wrap=True)
    with console.status("setting up") as status:
        measured = run_benches(
            command.what,
            dataset,
            recipe.model,
            device=device,
            batch_size=recipe.batch_size,
            blocks=blocks,
            short=short,
            progress=status.update,
        )
    print_tables(console, measured)
    if command.json:
        write_whole(command.json, to_json(measured, dataset, recipe.model, recipe.batch_size).encode())
    if command.figure:
        draw(measured, command.figure)


def summary(command: Summary) -> None:
    """`fastcifar summary`"""
    from fastcifar.model import describe

    print(describe(command.recipe.model))


def data(command: Data, console: Console) -> None:
    """`fastcifar data`"""
    from fastcifar.data.cifar10 import find_cifar10, verify

    root = find_cifar10(command.data)
    md5s = verify(root)
    for file, md5 in md5s.items():
        console.print(f"{md5}  {file}", highlight=False)
    said = f"CIFAR-10 is in {root}; the MD5s of all {len(md5s)} files hold"
    console.print(said, highlight=False, markup=False, soft_wrap=True)


def recipes(console: Console) -> None:
    """`fastcifar recipes`"""
    table = Table("recipe", "what it is, and what it was measured to reach", box=None, pad_edge=False)
    for name, path in shipped_recipes().items():
        table.add_row(name, Text("\n".join(header(path))))
    console.print(table)


def env(console: Console) -> None:
    """`fastcifar env`"""
    from fastcifar.data.cifar10 import locate_cifar10, verify
    from fastcifar.measure.environment import environment

    try:
        root = locate_cifar10()
        place = f"{root}, {len(verify(root))} MD5s hold" if root else "not here yet; `fastcifar data` downloads it"
    except InputError as error:
        place = str(error)
    for key, value in {**environment(), "data": place}.items():
        console.print(f"{key:<15} {'none' if value is None else value}", highlight=False, markup=False, soft_wrap=True)
