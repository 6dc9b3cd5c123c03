"""The recipe: all that decides the result of a training run, as frozen dataclasses that are also the command line.

Its tables are in `fastcifar.recipe.tables`, files of it in `fastcifar.recipe.files`; how it is executed (device,
loader, precision, ...) is `fastcifar.execution`.
"""

import json
import re
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
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
    kinds_with,
    optional,
)

__all__ = [
    "DATASETS",
    "KINDS",
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
    "gathered",
    "kind_of",
    "kinds_with",
    "scaled",
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
    batch_sizes: Annotated[tuple[Count, ...], Field(max_length=100_000), optional()] = ()
    """Images per step, by epoch, the last for all later ones; empty: batch_size. Scales with epochs unless set."""
    image_sizes: Annotated[tuple[Annotated[int, Field(ge=8, le=32)], ...], Field(max_length=100_000), optional()] = ()
    """Progressive resizing: side by epoch, the last for all later ones; empty: 32. Scales with epochs unless set."""
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
        """This recipe over another number of epochs, with the fields of `SCALED` in proportion.

        Raises `InputError` at a number out of range.
        """
        if epochs == self.epochs:
            return self  # to the bit: x * n / n is not always x
        tables = {
            name: replace(getattr(self, name), **values) if isinstance(values, dict) else values
            for name, values in scaled(self, epochs).items()
        }
        return replace(self, epochs=epochs, **tables)

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
            flag = re.sub(r"\.\d+$", "", field).replace("_", "-")  # --image-sizes for its second value
            raise InputError(f"--{flag}{colon}{said}") from error
    values = {key: gathered(key, value) if key in KINDS else value for key, value in values.items()}
    try:
        # By way of JSON because pydantic's strict mode takes no dict for a dataclass in Python mode.
        recipe = _ADAPTER.validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":  # it was written just now
            raise InputError(f"{prefix}nested too deeply, or a number too large") from error
        said = complaint(error).replace("unexpected keyword argument", "no such field in a recipe")
        if (first := error.errors()[0])["type"] == "unexpected_keyword_argument":
            said += _perhaps_field([str(part) for part in first["loc"] if not re.fullmatch(r"<\w+>", str(part))])
        if first["type"] == "no_such_kind":
            said = _no_such_kind(str(first["loc"][0]), first["input"])
        raise InputError(f"{prefix}{said}") from error
    except RecursionError as error:  # of the dumping: arguments of custom code may be lists in lists
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
            f"schedule.hold_epochs: the peak, reached at {schedule.peak_epoch:g} and held for "
            f"{schedule.hold_epochs:g}, ends after epoch {recipe.epochs}",
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


def _perhaps_field(place: Sequence[str]) -> str:
    """Of a field that there is not, at this place, the end of its complaint: which one may be meant, or whose it is."""
    *tables, name = place
    if owners := kinds_with("".join(tables), name):
        return f" (a field of {tables[0]} {' or '.join(owners)})"
    inner = {one: getattr(Recipe(), one) for one in _names(Recipe)}
    dotted = [f"{table}.{one}" for table, of in inner.items() if is_dataclass(of) for one in _names(type(of))]
    same = [one for one in dotted if not tables and one.endswith(f".{name}")]
    return f" (perhaps you meant {same[0]})" if same else perhaps(".".join(place), [*inner, *dotted])


def _names(kind: type) -> list[str]:
    return [one.name for one in fields(kind)]


def _no_such_kind(table: str, value: Any) -> str:
    given = value.get("name", value) if isinstance(value, dict) else value
    hint = perhaps(given, KINDS[table])
    return f"{table}: no such {table}; there are {', '.join(KINDS[table])} and FILE.py:NAME, got {short(given)}{hint}"


def gathered(table: str, values: Any) -> Any:
    """Of a custom network or optimizer, the keys that are its arguments moved below `arguments`."""
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


def scaled(recipe: Recipe, epochs: int, but: Container[str] = (), prefix: str = "") -> dict[str, Any]:
    """What other `epochs` make of the fields of `SCALED`, without those in `but`: nested, as `changes.merged` takes it.

    Raises `InputError` at a number out of range, before lists of as many are made.
    """
    validated({"epochs": epochs, "schedule": {"peak_epoch": 0}}, prefix)
    found: dict[str, Any] = {}
    for name, scale in SCALED.items():
        table, _, leaf = name.rpartition(".")
        if name in but or (table == "selection" and not recipe.selection.leave_out):
            continue
        of, into = (getattr(recipe, table), found.setdefault(table, {})) if table else (recipe, found)
        into[leaf] = scale(getattr(of, leaf), recipe.epochs, epochs)
    return found


def _share(value: float, before: int, after: int) -> float:
    return value * (after / before)


def _whole(number: int, before: int, after: int) -> int:
    return max(1, round(number * after / before)) if number else 0


def _each(epochs: tuple[int, ...], before: int, after: int) -> tuple[int, ...]:
    return tuple(sorted({_whole(epoch, before, after) for epoch in epochs}))


def _resampled(values: tuple[int, ...], before: int, after: int) -> tuple[int, ...]:
    """Values by epoch for `after` epochs instead of `before`: those at the middle of each epoch, and the last at the
    end, which is not repeated."""
    if not values:
        return values
    every = [values[min(epoch, len(values) - 1)] for epoch in range(before)]
    found = [*(every[(2 * epoch + 1) * before // (2 * after)] for epoch in range(after - 1)), every[-1]]
    while len(found) > 1 and found[-2] == found[-1]:
        found.pop()
    return tuple(found)


SCALED: dict[str, Callable[[Any, int, int], Any]] = {
    "batch_sizes": _resampled,
    "image_sizes": _resampled,
    "schedule.peak_epoch": _share,
    "schedule.hold_epochs": _share,
    "selection.after_epoch": _whole,
    "selection.last_epochs": _whole,
    "evaluation.epochs": _each,
}
"""The fields that scale with the number of epochs, by dotted name, and how: from a value and both numbers."""
DATASETS = {"cifar10": 10, "cifar100": 100, "synthetic": 10}
"""The data sets that have names, and how many classes each; any other is a folder."""
_ADAPTER = TypeAdapter(Recipe)
