"""The recipe: all that decides the result of a training run, as frozen dataclasses that are also the command line.

Its tables are in `fastcifar.recipe.tables`, files of it in `fastcifar.recipe.files`; how it is executed (device,
loader, precision, ...) is `fastcifar.execution`.
"""

import json
from collections.abc import Container
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any, ClassVar, Self

import tyro
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from fastcifar.errors import InputError, complaint, perhaps, short
from fastcifar.recipe.tables import (
    KINDS,
    STRICT,
    UNSEEN,
    Adam,
    AnyOptimizer,
    Augmentation,
    Average,
    Count,
    Evaluation,
    Fraction,
    Model,
    Muon,
    Optimizer,
    OwnModel,
    OwnOptimizer,
    Resnet,
    Schedule,
    Selection,
    Sgd,
    Sha256,
    Speednet,
    kind_of,
    optional,
)

__all__ = [
    "DATASETS",
    "KINDS",
    "MOVING",
    "Adam",
    "Augmentation",
    "Average",
    "Evaluation",
    "Model",
    "Muon",
    "Optimizer",
    "OwnModel",
    "OwnOptimizer",
    "Recipe",
    "Resnet",
    "Schedule",
    "Selection",
    "Sgd",
    "Speednet",
    "differences",
    "kind_of",
    "merged",
    "moved",
    "passed_over",
    "validated",
]


@dataclass(frozen=True)
class Recipe:
    """All that decides the result of a training run. The defaults are the recipe `seed`.

    >>> recipe = fastcifar.Recipe(batch_size=256).with_epochs(12)
    >>> recipe.epochs, recipe.schedule.peak_epoch
    (12, 2.5)
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 24
    """Passes over the training images."""
    batch_size: Annotated[int, Field(ge=1)] = 512
    """Images per step."""
    batch_sizes: Annotated[tuple[Count, ...], Field(max_length=1000), optional()] = ()
    """Images per step, by epoch; the last value holds for all later epochs. Empty: batch_size throughout."""
    image_sizes: Annotated[tuple[Annotated[int, Field(ge=8, le=32)], ...], Field(max_length=1000), optional()] = ()
    """Side of the training images in pixels, by epoch; the last value holds for all later epochs. Empty: 32."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the initial weights and of every epoch's plan."""
    target: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Test accuracy (0 to 1) to reach."""
    stop_at_target: bool = False
    """End the run at the first epoch that reaches the target."""
    label_smoothing: Fraction = 0.0
    """Share of each label that is spread evenly over all classes in the training loss."""
    drop_last: bool = False
    """Drop the last, short batch of an epoch."""
    dataset: Annotated[
        str, Field(min_length=1, max_length=500, pattern=rf"^[^{UNSEEN}]*$"), tyro.conf.arg(metavar="NAME|DIR")
    ] = "cifar10"
    """cifar10, cifar100, synthetic (made-up images), or a folder with train/ and test/, one sub-folder per class."""
    dataset_sha256: Annotated[Sha256 | None, tyro.conf.Suppress] = None
    """sha256 of the images and labels: filled in when they are read; if it is given, they must match it."""
    limit_train: Annotated[Count | None, optional("N")] = None
    """Train on the first N training images only."""
    limit_test: Annotated[Count | None, optional("N")] = None
    """Test on the first N test images only."""
    validation: Annotated[Count | None, optional("N")] = None
    """Hold the last N training images out and test on them instead of the test images, as a search should."""
    model: tyro.conf.AvoidSubcommands[Model] = field(default_factory=Resnet)
    augmentation: Augmentation = field(default_factory=Augmentation)
    selection: Selection = field(default_factory=Selection)
    optimizer: tyro.conf.AvoidSubcommands[Optimizer] = field(default_factory=Adam)
    schedule: Schedule = field(default_factory=Schedule)
    average: Average = field(default_factory=Average)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def batch_size_of(self, epoch: int) -> int:
        """Images a step in epoch `epoch`, from 0."""
        return self.batch_sizes[min(epoch, len(self.batch_sizes) - 1)] if self.batch_sizes else self.batch_size

    def image_size_of(self, epoch: int) -> int:
        """Side in pixels of the images trained on in epoch `epoch`, from 0."""
        return self.image_sizes[min(epoch, len(self.image_sizes) - 1)] if self.image_sizes else 32

    def left_out_of(self, epoch: int) -> float:
        """The share of the training images that epoch `epoch`, from 0, leaves out."""
        among = self.selection.after_epoch <= epoch < self.epochs - self.selection.last_epochs
        return self.selection.leave_out if among else 0.0

    def images_of(self, epoch: int, images: int) -> int:
        """How many of `images` training images epoch `epoch`, from 0, is of; whole batches where some are left out."""
        size, left = self.batch_size_of(epoch), self.left_out_of(epoch)
        whole = images - images % size if self.drop_last else images
        chosen = round(whole * (1 - left))
        return max(size, chosen - chosen % size) if left else whole

    def tested_after(self, epoch: int) -> bool:
        """Whether the network is tested after epoch `epoch`, from 1."""
        return not self.evaluation.epochs or epoch in (*self.evaluation.epochs, self.epochs)

    def with_rates(self, *, min_lr: float, max_lr: float) -> Self:
        """This recipe with other learning rates, those of a range test, say."""
        return replace(self, schedule=replace(self.schedule, min_lr=min_lr, max_lr=max_lr))

    def with_epochs(self, epochs: int) -> Self:
        """This recipe over another number of epochs, its peak and what stays there moved in proportion."""
        if epochs == self.epochs:
            return self  # to the bit: x * n / n is not always x
        moved = {name: getattr(self.schedule, name) * epochs / self.epochs for name in MOVING}
        return replace(self, epochs=epochs, schedule=replace(self.schedule, **moved))

    def with_optimizer(self, optimizer: AnyOptimizer) -> Self:
        """This recipe with another optimizer, the schedule's rates in proportion: the peak of one that brings its rates
        is 1; that of one that takes the schedule's, where the old one brought its own, is `seed`'s."""
        before = self.optimizer.brings_rates
        new = replace(self, optimizer=optimizer)
        if optimizer.brings_rates == before:
            return new
        peak = 1.0 if optimizer.brings_rates else Schedule().max_lr
        return new.with_rates(min_lr=peak * (self.schedule.min_lr / self.schedule.max_lr), max_lr=peak)


def validated(values: dict[str, Any], prefix: str = "") -> Recipe:
    """The recipe of nested `values` (as `dataclasses.asdict` or a TOML file gives them), checked.

    Raises `InputError`, one line that is `prefix` and the field's name, at an unknown or mistyped field or a value out
    of range. With the prefix -- it names the flag.
    """
    if prefix == "--":
        try:
            return validated(values)
        except InputError as error:
            field, colon, said = str(error).partition(":")
            raise InputError(f"--{field.replace('_', '-')}{colon}{said}") from error
    values = {key: _gathered(key, value) if key in KINDS else value for key, value in values.items()}
    try:
        # By way of JSON because pydantic's strict mode takes no dict for a dataclass in Python mode.
        recipe = _ADAPTER.validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":  # it was written just now
            raise InputError(f"{prefix}nested too deeply, or a number too large") from error
        said = complaint(error).replace("unexpected keyword argument", "no such field in a recipe")
        if (first := error.errors()[0])["type"] == "no_such_kind":
            said = _no_such_kind(str(first["loc"][0]), first["input"])
        raise InputError(f"{prefix}{said}") from error
    except RecursionError as error:  # of the dumping: arguments of one's own may be lists in lists
        raise InputError(f"{prefix}nested too deeply") from error
    schedule = recipe.schedule
    for wrong, said in (
        (
            schedule.peak_epoch > recipe.epochs,
            f"schedule.peak_epoch: {schedule.peak_epoch:g} is past the end of {recipe.epochs} epochs",
        ),
        (
            # Both may have been moved, each to the bit.
            schedule.peak_epoch + schedule.hold_epochs > recipe.epochs * (1 + 1e-12),
            f"schedule.hold_epochs: {schedule.hold_epochs:g} after the peak, epoch {schedule.peak_epoch:g}, "
            f"go past the end of {recipe.epochs} epochs",
        ),
        (
            schedule.min_lr > schedule.max_lr,
            f"schedule.min_lr: {schedule.min_lr:g} is above max_lr {schedule.max_lr:g}",
        ),
        (
            recipe.drop_last and len(set(recipe.batch_sizes)) > 1,
            "drop_last: with several batch_sizes the epochs would have unequal numbers of images",
        ),
    ):
        if wrong:
            raise InputError(f"{prefix}{said}")
    return recipe


def _no_such_kind(table: str, value: Any) -> str:
    given = value.get("name", value) if isinstance(value, dict) else value
    hint = perhaps(given, KINDS[table])
    return f"{table}: no such {table}; there are {', '.join(KINDS[table])} and FILE.py:NAME, got {short(given)}{hint}"


def _gathered(table: str, values: Any) -> Any:
    """Of one's own, the keys that are none of ours, which are its arguments, below `arguments`."""
    if not isinstance(values, dict) or kind_of(table, values) != "own":
        return values
    ours = {one.name for one in fields(OwnModel)}
    extra = {key: value for key, value in values.items() if key not in ours}
    if not extra:
        return values
    arguments = values.get("arguments", {})
    if not isinstance(arguments, dict):
        return values  # whose check says what it is
    return {key: value for key, value in values.items() if key in ours} | {"arguments": {**arguments, **extra}}


def differences(recipe: Recipe, other: Recipe) -> list[str]:
    """The fields that are not equal, by their dotted names, with both values."""

    def leaves(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {name: value}
        below = [leaves(one, f"{name}.{key}".lstrip(".")) for key, one in value.items()]
        return {key: one for part in below for key, one in part.items()}

    one, two = leaves(asdict(recipe), ""), leaves(asdict(other), "")
    return [f"{key} is {one.get(key)}, not {two.get(key)}" for key in one | two if one.get(key) != two.get(key)]


def moved(recipe: Recipe, epochs: int, but: Container[str] = ()) -> dict[str, float]:
    """The fields of `recipe`'s schedule that other `epochs` move, and where to, without those in `but`."""
    schedule = recipe.with_epochs(epochs).schedule
    return {name: getattr(schedule, name) for name in MOVING if name not in but}


def passed_over(recipe: Recipe) -> list[str]:
    """What a recipe says of epochs that it has not, a line a field."""
    found = [(name, getattr(recipe, name)) for name in ("image_sizes", "batch_sizes")]
    return [
        f"{name}: {len(values)} values, of which the last {left} never come: epochs is {recipe.epochs}"
        for name, values in found
        if (left := len(values) - recipe.epochs) > 0 and set(values[recipe.epochs :]) != {values[recipe.epochs - 1]}
    ]


MOVING = ("peak_epoch", "hold_epochs")
"""The fields of a schedule that are numbers of epochs."""
DATASETS = {"cifar10": 10, "cifar100": 100, "synthetic": 10}
"""The data sets that have names, and how many classes each; any other is a folder."""
_ADAPTER = TypeAdapter(Recipe)


def merged(base: Recipe, changes: dict[str, Any], prefix: str = "") -> Recipe:
    """`base` with nested `changes`, checked: what a TOML file, or a command line, says of a recipe.

    A table of another kind than the base's begins with the defaults of its kind. The cycle moves with `epochs`, and the
    rates with the optimizer (`Recipe.with_optimizer`), unless they are among the changes. Raises `InputError`.
    """
    values = asdict(base)
    for key, change in changes.items():
        table = values.get(key)
        if isinstance(change, dict) and isinstance(table, dict):
            name = change.get("name", table.get("name"))
            changed = _gathered(key, {**change, "name": name}) if key in KINDS else change
            values[key] = {**table, **changed} if name == table.get("name") else changed
        else:
            values[key] = change
    schedule = changes.get("schedule", {})
    if not isinstance(schedule, dict):
        return validated(values, prefix)  # which says what it is
    if "optimizer" in changes and "max_lr" not in schedule:
        optimizer = validated({"optimizer": values["optimizer"]}, prefix).optimizer
        values["schedule"] = asdict(base.with_optimizer(optimizer).schedule) | schedule
    if "epochs" in changes:
        epochs = validated({"epochs": values["epochs"], "schedule": {"peak_epoch": 0}}, prefix).epochs
        values["schedule"] = values["schedule"] | moved(base, epochs, but=schedule)
    return validated(values, prefix)
