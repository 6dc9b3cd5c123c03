"""The flags of every subcommand, and how a command line becomes a checked command."""

import contextlib
import io
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import arg

import fastcifar
from fastcifar.arguments_records import Accuracy, Check, Export, Page, Peers, Profile, Show
from fastcifar.arguments_runs import Compare, Eval, ExportModel, Predict, Report
from fastcifar.errors import InputError
from fastcifar.execution import Execution
from fastcifar.recipe import Recipe, load_recipe, validated


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
    report: bool = True
    """Write the report (see `fastcifar report`) into the run directory at the end."""
    tensorboard: bool = False
    """Write event files for TensorBoard into the run directory, as the run goes; needs the extra tensorboard."""


@dataclass(frozen=True)
class FindLr:
    """Find the learning rate of a recipe by a range test: LRMIN, LRMAX, the picture and the values."""

    name: Annotated[str, arg(name="recipe", metavar="NAME|FILE.toml")]
    """A recipe that ships (see `fastcifar recipes`) or a TOML file; auto: seed on a GPU, laptop on a CPU."""
    recipe: Annotated[Recipe, arg(name="")]
    execution: Annotated[Execution, arg(name="")] = field(default_factory=Execution)
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder that holds cifar-10-batches-py; see `fastcifar train --help`."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of the picture and the values; default runs/<utc time>-<recipe>-find-lr-seed<seed>."""


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
    """Measure images/s, beside the machine's limit and plain PyTorch."""

    what: tyro.conf.Suppress[Literal["all", "loaders", "step", "train"]] = "all"
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """CUDA if there is a GPU, else the CPU; or the one named."""
    batch_size: int = 512
    """Images a batch."""
    width: int | None = None
    """Width of the network of step and train; by default 64 on a GPU and 16 on a CPU."""
    blocks: int | None = None
    """Blocks after warm-up whose median and quartiles are given; by default 7, and 3 where short."""
    short: bool = False
    """Smaller blocks and fewer combinations, as all has them."""
    dataset: Literal["cifar10", "synthetic"] = "cifar10"
    """The images; their speed is the same, and synthetic needs no download."""
    limit_train: int | None = None
    """Only the first so many training images."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder that holds cifar-10-batches-py; see `fastcifar train --help`."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write what was measured to this file (schema: fastcifar/measure/bench.schema.json)."""
    figure: Annotated[Path | None, arg(metavar="FILE.png|svg")] = None
    """Draw what was measured."""


@dataclass(frozen=True)
class Benches:
    """Measure images/s, time to accuracy, and rivals beside it: see `fastcifar bench --help`."""


@dataclass(frozen=True)
class Leaderboard:
    """Check, rank and publish records: see `fastcifar leaderboard --help`."""


AUTO = "auto"
BenchCommand = Bench | Accuracy | Peers | Profile
LeaderboardCommand = Check | Show | Page | Export
RunCommand = FindLr | Report | Compare | Eval | Predict | ExportModel
_WorkCommand = Train | RunCommand | BenchCommand | Summary
Command = _WorkCommand | LeaderboardCommand | Data | Recipes | Env | Benches | Leaderboard
WITH_RECIPE = (Train, FindLr, Accuracy, Peers, Profile, Summary)
_OF_A_RECIPE = {("", name) for name in ("train", "find-lr", "summary")}
_OF_A_RECIPE |= {("bench", name) for name in ("accuracy", "peers", "profile")}
_WHAT = {
    "all": "loaders, step and train, shortened: what `fastcifar bench` alone does.",
    "loaders": "Images/s of every loader that can run here.",
    "step": "Images/s of one training step, in every combination of layout, precision and compilation.",
    "train": "Images/s of training with each loader, and how long the device waits for data.",
}


def parse(arguments: list[str]) -> Command:
    """The command that `arguments` ask for. Raises `InputError` with one line where they make no sense."""
    group = arguments[0] if arguments[0] in ("bench", "leaderboard") else ""
    rest = arguments[1:] if group else arguments
    if group == "bench" and (not rest or (rest[0].startswith("-") and rest[0] not in ("-h", "--help"))):
        rest = ["all", *rest]
    rest = rest or ["--help"]
    name = _recipe_argument(arguments)
    if name != AUTO:
        base = load_recipe(name)
    elif (group, rest[0]) in _OF_A_RECIPE:
        base = load_recipe(default_recipe())
    else:
        base = Recipe()  # the other commands have no recipe: spare them the import of torch
    commands = _commands(group, name, base)
    about = {name: type(one).__doc__ or "" for name, one in commands.items()} | (_WHAT if group == "bench" else {})
    types = tyro.extras.subcommand_type_from_defaults(
        commands,
        about,
        prefix_names=False,
    )
    program = f"fastcifar {group}".rstrip()
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            command: Command = tyro.cli(types, args=rest, prog=program, description=fastcifar.__doc__)
    except SystemExit as exit_:
        if exit_.code:
            raise InputError(_first_complaint(complaint.getvalue())) from None
        raise
    if isinstance(command, WITH_RECIPE):
        recipe = command.recipe
        peak_given = any(re.match(r"--schedule\.peak[-_]epoch", argument) for argument in arguments)
        if recipe.epochs != base.epochs and not peak_given:
            peak = base.with_epochs(recipe.epochs).schedule.peak_epoch
            recipe = replace(recipe, schedule=replace(recipe.schedule, peak_epoch=peak))
        may_find = isinstance(command, Train | FindLr)
        command = replace(command, recipe=validated(asdict(recipe), prefix="--", may_find=may_find))
    return command


def _commands(group: str, name: str, base: Recipe) -> dict[str, Command]:
    """The subcommands of `fastcifar`, or of one of its groups, with their defaults."""
    missing: Any = tyro.MISSING
    if group == "bench":
        return {
            **{what: Bench(what) for what in _WHAT},  # type: ignore[arg-type]
            "accuracy": Accuracy(name, base),
            "peers": Peers(name, base),
            "profile": Profile(name, base),
        }
    if group == "leaderboard":
        return {
            "show": Show(),
            "page": Page(missing),
            "check": Check(missing),
            "export": Export(*[missing] * 5),
        }
    return {
        "train": Train(name, base),
        "find-lr": FindLr(name, base),
        "report": Report(missing),
        "compare": Compare(missing, missing),
        "eval": Eval(missing),
        "predict": Predict(missing, missing),
        "export": ExportModel(missing, missing, missing),
        "bench": Benches(),
        "leaderboard": Leaderboard(),
        "summary": Summary(name, base),
        "data": Data(),
        "recipes": Recipes(),
        "env": Env(),
    }


def _recipe_argument(arguments: list[str]) -> str:
    """What follows --recipe: its values are the defaults of all other flags, so it is read before them."""
    name = AUTO
    for position, argument in enumerate(arguments):
        if argument == "--recipe" and position + 1 < len(arguments):
            name = arguments[position + 1]
        elif argument.startswith("--recipe="):
            name = argument.removeprefix("--recipe=")
    return name


def default_recipe() -> str:
    """What --recipe auto is on this machine."""
    import torch

    return "seed" if torch.cuda.is_available() else "laptop"


def recipe_name(name: str, notes: list[str]) -> str:
    """What a run is called after `--recipe`; why auto chose it goes to `notes`."""
    if name != AUTO:
        return Path(name).stem
    name = default_recipe()
    why = "there is a CUDA device" if name == "seed" else "no CUDA device, and seed takes hours on a CPU"
    notes.insert(0, f"recipe {name}, since {why}; --recipe names another")
    return name


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
