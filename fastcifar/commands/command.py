"""What a subcommand is: a class whose fields are its flags, with a `run` that calls and prints.

To add one, write its class in the module of its group, under `@command("name")` or `@command("group name")`, which
makes it a frozen dataclass; the docstrings of the class and its fields are the help. torch and all that is slow is
imported in `run`: a subcommand's --help and a wrong flag do not wait for it.
"""

import os
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, dataclass_transform

from tyro.conf import AvoidSubcommands, arg

from fastcifar.errors import InputError
from fastcifar.execution import NO_CUDA, Execution, has_gpu, may_have_cuda, resolve
from fastcifar.files import expanded, require_folder_of
from fastcifar.recipe import Model, Recipe, Resnet
from fastcifar.recipe.files import load_recipe
from fastcifar.recipe.tables import optional
from fastcifar.report.console import Console

if TYPE_CHECKING:
    from fastcifar.data.dataset import Dataset
    from fastcifar.own import OwnCode

AUTO = "auto"


class Command(ABC):
    """A subcommand with the values of its flags."""

    in_processes: ClassVar[bool] = False
    """Whether several processes that torchrun started may do it together."""

    @abstractmethod
    def run(self, console: Console) -> None:
        """Do it. Raises `InputError` or `RunError`, one line."""

    def check(self) -> None:
        """Before torch is imported, which takes seconds: raises `InputError` for what will surely be refused then."""
        device = getattr(self, "device", None) or getattr(getattr(self, "execution", None), "device", None)
        if device == "cuda" and not may_have_cuda():
            raise InputError(NO_CUDA)
        folder: Path | None = getattr(self, "data", None)
        if folder is not None:
            try:
                os.listdir(expanded(folder))  # noqa: PTH208 (unlike is_dir, says why a folder is unreadable)
            except OSError as error:
                raise InputError(f"--data {folder}: {error.strerror}; name the folder of the images") from error


C = TypeVar("C", bound=Command)
COMMANDS: dict[str, type[Command]] = {}
"""The subcommands by name ("train", "bench accuracy"), in the order of --help; filled by `command`."""
GROUPS: dict[str, str] = {}
"""The groups of subcommands by name, and what each is for; filled by the modules that define them."""


@dataclass_transform(frozen_default=True)
def command(*names: str) -> Callable[[type[C]], type[C]]:
    """Make a class a frozen dataclass and the subcommand `names`: its own name, and another that it answers to."""

    def register(kind: type[C]) -> type[C]:
        COMMANDS.update(dict.fromkeys(names, dataclass(frozen=True)(kind)))
        return kind

    return register


DataFolder = Annotated[
    Path | None,
    optional(
        "DIR",
        help="Folder with cifar-10-batches-py or cifar-100-python; default: $FASTCIFAR_DATA, else the user's cache, "
        "with a download if needed. For other images, the folder with train/ and test/.",
    ),
]
TrustCode = Annotated[
    bool, arg(help="Execute the custom code that came with the run; without this flag it is never executed.")
]
Device = Annotated[
    Literal["auto", "cuda", "cpu"],
    arg(help="Device to run on; auto: the GPU if there is one (the first in $CUDA_VISIBLE_DEVICES), else the CPU."),
]


@dataclass(frozen=True, kw_only=True)
class OfModel(Command):
    """What every subcommand about a network alone has: the flags of one."""

    model: AvoidSubcommands[Model] = field(default_factory=Resnet)

    @classmethod
    @abstractmethod
    def default_model(cls, given: Namespace) -> Model:
        """What it is where no flag says otherwise; `given` are the flags that decide it (`commands.parse`)."""


RecipeName = Annotated[
    str,
    arg(
        name="recipe",
        metavar="NAME|FILE.toml",
        help="A recipe that ships (see `fastcifar recipes`) or a TOML file; auto: seed on a GPU, laptop on a CPU.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class OfRecipe(Command):
    """What every subcommand about a recipe has: its name, and a flag for each of its fields."""

    name: RecipeName = AUTO
    recipe: Annotated[Recipe, arg(name="")] = field(default_factory=Recipe)

    @classmethod
    def defaults(cls, given: Namespace) -> dict[str, Any]:
        """What the fields are where no flag says otherwise; `given` are the flags that decide it (`commands.parse`)."""
        return {"name": given.recipe, "recipe": recipe_named(given.recipe)}

    def named(self, console: Console) -> str:
        """What a run is called after --recipe; says why, where auto chose it.

        Raises `InputError` where auto chose for a GPU that torch cannot use.
        """
        if self.name != AUTO:
            return Path(self.name).stem
        name = default_recipe()
        if name == "seed":
            import torch

            if not torch.cuda.is_available():
                raise InputError(
                    "--recipe auto: there is a GPU, but torch finds no CUDA device; name one (laptop, say)"
                )
        why = "found a GPU" if name == "seed" else "found no GPU; seed would take hours on a CPU"
        console.say(f"recipe {name} ({why}); --recipe selects another")
        return name


@dataclass(frozen=True, kw_only=True)
class Trains(OfRecipe):
    """What every subcommand that trains a recipe has: on what, how, and with which images."""

    execution: Annotated[Execution, arg(name="")] = field(default_factory=Execution)
    data: DataFolder = None

    def prepared(self, console: Console) -> "Prepared":
        """All that is to be trained; says what auto chose and why."""
        from fastcifar.data.load import load_dataset
        from fastcifar.own import sealed

        name = self.named(console)
        recipe, own = sealed(self.recipe)
        execution, notes = resolve(self.execution, own=own.steps)
        console.say(*notes)
        return Prepared(name, recipe, own, execution, load_dataset(recipe, self.data))


@dataclass(frozen=True)
class Prepared:
    """What a run is called, its recipe, the custom code in it, how this machine executes it, and its images."""

    name: str
    recipe: Recipe
    own: "OwnCode"
    execution: Execution
    dataset: "Dataset"

    def describe(self) -> str:
        """One line."""
        return f"{self.name} on {self.dataset.describe()}, {self.execution.device}, loader {self.execution.loader}"


def require_place(*files: Path | None) -> None:
    """Before work that ends in writing these files: raises `InputError` where one has no folder, or is one."""
    for file in filter(None, files):
        require_folder_of(file)
        if file.is_dir():
            raise InputError(f"{file}: is a folder; name a file")


def recipe_named(name: str) -> Recipe:
    """The one that --recipe names."""
    return load_recipe(default_recipe() if name == AUTO else name)


def default_recipe() -> str:
    """What --recipe auto is on this machine."""
    return "seed" if has_gpu() else "laptop"
