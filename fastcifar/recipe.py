"""What is trained: the frozen dataclasses that are the recipe file, the command line and part of every record.

A recipe holds only what changes the result. How it is executed (device, loader, precision) is `fastcifar.execution`.
"""

import json
import tomllib
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import tomli_w
import tyro
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from fastcifar.errors import InputError, complaint

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]

# Unknown keys are refused, and a string is not taken for a number.
_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class Model:
    """The custom ResNet (`fastcifar.models.resnet`)."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    width: Annotated[int, Field(ge=1, le=1024), tyro.conf.arg(aliases=["--width"])] = 64
    """Channels after the first convolution; layers 1 to 3 have 2, 4 and 8 times as many."""
    layer2_residual: bool = False
    """Give layer 2 a residual block too (7,756,554 parameters at width 64; 6,575,370 without)."""
    conv_bias: bool = True
    """Give the convolutions a bias; the batch normalisation after them cancels it."""


@dataclass(frozen=True)
class Augmentation:
    """Pad, crop to 32x32, flip, cut out: what `fastcifar.data.plan` draws for every image of every epoch."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    pad: Annotated[int, Field(ge=0, le=8)] = 4
    """Pixels added on each side before the crop back to 32x32."""
    pad_mode: Literal["zero", "reflect"] = "zero"
    """What the padding shows: black, or the mirrored border."""
    flip: Literal["none", "random", "alternating"] = "random"
    """Horizontal flip: never, with probability 1/2, or random in the first epoch and then in turn."""
    cutout: Annotated[int, Field(ge=0, le=32)] = 8
    """Side in pixels of the square set to the mean colour, wholly inside the image; 0 is none."""


@dataclass(frozen=True)
class Optimizer:
    """Adam."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    beta1: Fraction = 0.9
    """Decay of the running mean of the gradient."""
    beta2: Fraction = 0.999
    """Decay of the running mean of its square."""
    eps: Positive = 1e-8
    """Added to the denominator."""
    weight_decay: NonNegative = 0.0
    """L2 penalty."""


@dataclass(frozen=True)
class Schedule:
    """One cycle of the learning rate: min_lr -> max_lr at the end of peak_epoch -> min_lr, stepped every batch."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    min_lr: NonNegative = 0.0001
    """Learning rate of the first step and of the last (LRMIN)."""
    max_lr: Positive = 0.005
    """Learning rate at the peak (LRMAX)."""
    peak_epoch: NonNegative = 5.0
    """Epoch at whose end the peak is reached; moves in proportion when --epochs alone is given."""
    shape: Literal["linear", "cosine"] = "linear"
    """The way up and down."""


@dataclass(frozen=True)
class Recipe:
    """All that decides the result of a training run. The defaults are the recipe `seed`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 24
    """Passes over the training images."""
    batch_size: Annotated[int, Field(ge=1)] = 512
    """Images a step."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides the initial weights and every epoch's plan."""
    target: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Test accuracy (0 to 1) whose time is measured."""
    stop_at_target: bool = False
    """End the run at the first epoch that reaches the target."""
    label_smoothing: Fraction = 0.0
    """Share of the label spread evenly over the classes in the training loss."""
    drop_last: bool = False
    """Leave out the last, short batch of an epoch."""
    dataset: Literal["cifar10", "synthetic"] = "cifar10"
    """The images: CIFAR-10, or made-up ones of the same shape for machines without it."""
    limit_train: Annotated[int, Field(ge=1)] | None = None
    """Train on the first N training images only."""
    limit_test: Annotated[int, Field(ge=1)] | None = None
    """Test on the first N test images only."""
    model: Model = field(default_factory=Model)
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)

    def with_rates(self, *, min_lr: float, max_lr: float) -> Self:
        """This recipe with other learning rates, those of a range test, say."""
        return replace(self, schedule=replace(self.schedule, min_lr=min_lr, max_lr=max_lr))

    def with_epochs(self, epochs: int) -> Self:
        """This recipe over another number of epochs, its peak moved in proportion."""
        if epochs == self.epochs:
            return self  # to the bit: x * n / n is not always x
        peak_epoch = self.schedule.peak_epoch * epochs / self.epochs
        return replace(self, epochs=epochs, schedule=replace(self.schedule, peak_epoch=peak_epoch))


def validated(values: dict[str, Any], prefix: str = "") -> Recipe:
    """The recipe of nested `values` (as `dataclasses.asdict` or a TOML file gives them), checked.

    Raises `InputError`, one line that is `prefix` and the field's name, at an unknown or mistyped field or a value out
    of range.
    """
    try:
        # By way of JSON because pydantic's strict mode takes no dict for a dataclass in Python mode.
        recipe = TypeAdapter(Recipe).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        said = complaint(error).replace("unexpected keyword argument", "no such field in a recipe")
        raise InputError(f"{prefix}{said}") from error
    if recipe.schedule.peak_epoch > recipe.epochs:
        raise InputError(
            f"{prefix}schedule.peak_epoch: {recipe.schedule.peak_epoch:g} is past the end of {recipe.epochs} epochs"
        )
    schedule = recipe.schedule
    if schedule.min_lr > schedule.max_lr:
        raise InputError(f"{prefix}schedule.min_lr: {schedule.min_lr:g} is above max_lr {schedule.max_lr:g}")
    return recipe


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package: name to file, by name."""
    folder = Path(str(resources.files("fastcifar") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_recipe(name_or_file: str) -> Path:
    """The file of a shipped recipe's name, or the TOML file itself. Raises `InputError` if there is neither."""
    shipped = shipped_recipes()
    if name_or_file in shipped:
        return shipped[name_or_file]
    path = Path(name_or_file)
    if path.suffix == ".toml" or path.exists():
        return path
    raise InputError(f"--recipe {name_or_file}: neither a TOML file nor one of {', '.join(shipped)}")


def load_recipe(name_or_file: str) -> Recipe:
    """Read and check a recipe: a shipped name or a TOML file, whose missing fields have `seed`'s values.

    Raises `InputError`.
    """
    path = find_recipe(name_or_file)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file: {error}") from error
    return validated(values, f"{path}: ")


def header(path: Path) -> list[str]:
    """The comment a recipe file begins with, to its first empty line: what it is, what it was measured to reach."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    return lines


def to_toml(recipe: Recipe) -> str:
    """The recipe as the text of a TOML file that `load_recipe` reads back to an equal recipe."""
    return tomli_w.dumps({key: value for key, value in asdict(recipe).items() if value is not None})
