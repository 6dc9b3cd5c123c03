"""A finished run's folder, read back: what was trained, how it went, and the network."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from fastcifar import models
from fastcifar.data.dataset import MEAN, STD, Channels
from fastcifar.errors import InputError, complaint, short
from fastcifar.recipe import Recipe, validated
from fastcifar.training.evaluate import TTA, OnBytes
from fastcifar.training.log import EpochLog

LARGEST = 2**20  # bytes of run.json, which has a few thousand

# Runs of the first versions did not keep their class names; these are the data sets' own, in the order of their labels.
CLASS_NAMES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "synthetic": tuple(f"pattern-{label}" for label in range(10)),
}


class _Part(BaseModel):
    """What is relied on is checked; what else a run says of itself is kept as it is."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class _Data(_Part):
    name: str
    train_images: int
    test_images: int
    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=10_000, strict=False)] | None = None
    mean: Annotated[Channels, Field(strict=False)] = MEAN
    std: Annotated[Channels, Field(strict=False)] = STD


class _Execution(_Part):
    precision: Literal["float32", "bfloat16", "float16"]


class _Result(_Part):
    final_accuracy: Annotated[float, Field(ge=0, le=1)]


class _Run(_Part):
    """run.json of a finished run."""

    format: Literal[1]
    recipe_name: str
    recipe: dict[str, Any]
    execution: _Execution
    dataset: _Data
    result: _Result


@dataclass(frozen=True)
class Saved:
    """A finished run. `run` is all of run.json; `model` is in evaluation mode, on the CPU, float32, channels_last."""

    path: Path
    name: str
    recipe: Recipe
    precision: str
    """In which it was trained and tested: float32, bfloat16 or float16."""
    final_accuracy: float
    classes: tuple[str, ...]
    mean: Channels
    std: Channels
    run: dict[str, Any]
    model: nn.Module

    def on_bytes(self, tta: TTA = "none") -> OnBytes:
        """The network with the normalisation of its training, for images as they are."""
        return OnBytes(self.model, self.mean, self.std, tta)


def open_run(path: str | Path) -> Saved:
    """Read the run directory `path`. Nothing is unpickled, and torch's random state stays as it is.

    Raises `InputError`, one line, where `path` is no run directory, its run is not finished, its run.json is broken, or
    its weights are not those of the recipe in it.
    """
    path = Path(path)
    file = path / "run.json"
    values = _read_json(path, file)
    if (status := values.get("status")) != "finished":
        raise InputError(f"{path}: the run is not finished ({short(status)}), so it has no final weights")
    try:
        run = _Run.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{file}: {complaint(error)}") from error
    recipe = validated(run.recipe, prefix=f"{file}: recipe.")
    classes = run.dataset.classes or CLASS_NAMES[recipe.dataset]
    about = {"classes": list(classes), "mean": list(run.dataset.mean), "std": list(run.dataset.std)}
    return Saved(
        path=path,
        name=run.recipe_name,
        recipe=recipe,
        precision=run.execution.precision,
        final_accuracy=run.result.final_accuracy,
        classes=classes,
        mean=run.dataset.mean,
        std=run.dataset.std,
        run=values | {"dataset": values["dataset"] | about},
        model=_network(recipe, len(classes), run.recipe, path / "model.safetensors"),
    )


def read_log(saved: Saved) -> list[EpochLog]:
    """The epochs of a run, from its events.jsonl. Raises `InputError` where they are not as a run writes them."""
    file = saved.path / "events.jsonl"
    log, epochs = [], TypeAdapter(EpochLog)
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        try:
            log.append(epochs.validate_json(line))
        except ValidationError as error:
            raise InputError(f"{file}: line {number} is not an epoch as a run writes it: {complaint(error)}") from error
    if not log:
        raise InputError(f"{file}: no epoch in it, although the run is finished")
    return log


def _read_json(path: Path, file: Path) -> dict[str, Any]:
    try:
        if not path.is_dir():
            raise InputError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}; name a run directory")
        if not file.is_file():
            raise InputError(f"{path}: not a run directory: there is no run.json in it")
        if file.stat().st_size > LARGEST:
            raise InputError(f"{file}: more than a mebibyte: not what a run writes")
        return TypeAdapter(dict[str, Any]).validate_json(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(f"{file}: {complaint(error)}") from error


def _network(recipe: Recipe, classes: int, written: dict[str, Any], file: Path) -> nn.Module:
    """The network of `recipe` with the weights of `file`; `written` is the recipe as run.json has it."""
    with torch.device("meta"):  # no random weights are drawn, and a width that is a lie takes no memory
        model = models.build(recipe.model, classes)
    wanted = model.state_dict()
    try:
        with safetensors.safe_open(file, "pt") as weights:
            names, metadata = set(weights.keys()), weights.metadata() or {}
            _require_same_recipe(metadata, written, file)
            for name in sorted(names ^ set(wanted)):
                raise InputError(f"{file}: {'has' if name in names else 'lacks'} {short(name)}: of another network")
            for name, value in wanted.items():
                shape = weights.get_slice(name).get_shape()
                if shape != list(value.shape):
                    raise InputError(f"{file}: {name} is {shape}; by the recipe it is {list(value.shape)}")
            # Copied, lest the model change with the file, which is mapped into memory.
            tensors = {name: weights.get_tensor(name).clone() for name in wanted}
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file, although the run is finished") from error
    except (OSError, safetensors.SafetensorError) as error:
        said = getattr(error, "strerror", None) or error
        raise InputError(f"{file}: cannot be read as safetensors: {said}") from error
    for name, tensor in tensors.items():
        _require_fit(name, tensor, wanted[name], file)
    model.load_state_dict(tensors, assign=True)
    return model.to(memory_format=torch.channels_last).eval()


def _require_same_recipe(metadata: dict[str, str], written: dict[str, Any], file: Path) -> None:
    """A run writes its recipe into the weights' file too; weights from elsewhere may have none."""
    try:
        same = "recipe" not in metadata or json.loads(metadata["recipe"]) == written
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise InputError(f"{file}: its recipe is not that of run.json beside it")


def _require_fit(name: str, tensor: Tensor, wanted: Tensor, file: Path) -> None:
    if tensor.dtype != wanted.dtype:
        raise InputError(f"{file}: {name} is {tensor.dtype}; {wanted.dtype} is needed")
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise InputError(f"{file}: {name} holds values that are not finite")
