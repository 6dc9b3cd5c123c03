"""A finished run's folder, read back: what was trained, how it went, and the network."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
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
from fastcifar.files import open_regular, read_regular, remove_leftovers
from fastcifar.own import NetworkFactory, file_of, from_source, own_files
from fastcifar.recipe import OwnModel, Recipe, validated
from fastcifar.recipe.migrate import with_kinds
from fastcifar.runs.paused import CHECKPOINTS, read_json
from fastcifar.source import digest, read_source
from fastcifar.training import checkpoint
from fastcifar.training.evaluate import TTA, OnBytes
from fastcifar.training.log import EpochLog

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

    format: Literal[1, 2]
    recipe_name: str
    recipe: dict[str, Any]
    execution: _Execution
    dataset: _Data
    result: _Result


@dataclass(frozen=True)
class Finished:
    """What a finished run says of itself; `run` is all of run.json."""

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

    def sources(self) -> dict[str, str]:
        """The text of each custom file in the run, by name; not executed. Raises `InputError`."""
        found = {}
        for name, wanted in own_files(self.recipe).items():
            if wanted is None:
                continue  # what had no source when it was trained
            text = read_source(self.path / name)
            if digest(text) != wanted:
                raise InputError(f"{self.path / name}: is not the file that was trained with: its sha256 is another")
            found[name] = text
        return found


@dataclass(frozen=True)
class Saved(Finished):
    """A finished run with its network: in evaluation mode, on the CPU, float32, channels_last."""

    model: nn.Module

    def on_bytes(self, tta: TTA = "none") -> OnBytes:
        """The network with the normalisation of its training, for images as they are."""
        return OnBytes(self.model, self.mean, self.std, tta)


def load(run: str | Path, *, model: NetworkFactory | None = None, trust_code: bool = False) -> nn.Module:
    """The network of a finished run directory: float32, on the CPU, channels_last, in evaluation mode.

    >>> network = fastcifar.load("runs/mine")
    >>> network(fastcifar.normalise(np.zeros((1, 32, 32, 3), np.uint8))).shape
    torch.Size([1, 10])

    It maps normalised images (B, 3, 32, 32), which `fastcifar.normalise` makes from bytes, to logits (B, classes);
    networks that ship also have `predict`, which gives probabilities. A custom network is built by `model`, or, with
    `trust_code`, by executing the source that came with the run. Nothing is unpickled. Raises `InputError`, one line,
    if `run` is not a finished run directory or is damaged, or if its code may not be executed.
    """
    return open_run(run, model=model, trust_code=trust_code).model


def open_run(path: str | Path, *, model: NetworkFactory | None = None, trust_code: bool = False) -> Saved:
    """Read the run directory `path`, its network too. Nothing is unpickled, and torch's random state stays as it is.

    A custom network is made by `model`, or, with `trust_code`, by the source in the folder, which is
    executed. Raises `InputError`, one line, as `read_run`, where the weights are not those of the recipe, and where
    there is code and leave to run it is not given.
    """
    found = read_run(path)
    config, classes = found.recipe.model, len(found.classes)
    if isinstance(config, OwnModel) and model is None:
        file, name = file_of(config.name), config.name.partition(":")[2]
        if config.sha256 is None:
            raise InputError(f"{path}: its network {config.name} has no source here; in Python, load(run, model=...)")
        if not trust_code:
            said = "--trust-code (trust_code=True) runs it"
            raise InputError(f"{path}: its network is code that came with it, {file}; {said}")
        made = from_source(found.sources()[file], found.path / file, name)
        model = partial(made, **config.arguments)
    network = _network(found.recipe, classes, found.run["recipe"], found.path / "model.safetensors", model)
    return Saved(**vars(found), model=network)


def read_run(path: str | Path) -> Finished:
    """What the run directory `path` says of its run.

    Raises `InputError`, one line, where `path` is no run directory, its run is not finished or its run.json is broken.
    """
    path = Path(path)
    file = path / "run.json"
    values = read_json(path)
    remove_leftovers(path)
    if (status := values.get("status")) != "finished":
        raise InputError(
            f"{path}: the run is not finished ({short(status)}), so it has no final weights; "
            f"fastcifar train --resume {path} continues it"
        )
    checkpoint.remove(path / CHECKPOINTS)
    try:
        run = _Run.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{file}: {complaint(error)}") from error
    recipe = validated(with_kinds(run.recipe) if run.format == 1 else run.recipe, prefix=f"{file}: recipe.")
    classes = run.dataset.classes or CLASS_NAMES[recipe.dataset]
    about = {"classes": list(classes), "mean": list(run.dataset.mean), "std": list(run.dataset.std)}
    return Finished(
        path=path,
        name=run.recipe_name,
        recipe=recipe,
        precision=run.execution.precision,
        final_accuracy=run.result.final_accuracy,
        classes=classes,
        mean=run.dataset.mean,
        std=run.dataset.std,
        run=values | {"dataset": values["dataset"] | about},
    )


def read_log(saved: Finished) -> list[EpochLog]:
    """The epochs of a run, from its events.jsonl. Raises `InputError` where they are not as a run writes them."""
    file = saved.path / "events.jsonl"
    log, epochs = [], TypeAdapter(EpochLog)
    try:
        lines = read_regular(file, 4096 * (saved.recipe.epochs + 1)).splitlines()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        try:
            log.append(epochs.validate_json(line))
        except ValidationError as error:
            raise InputError(f"{file}: line {number} is not an epoch as a run writes it: {complaint(error)}") from error
        if log[-1].epoch != number:
            raise InputError(f"{file}: line {number} is of epoch {log[-1].epoch}, where {number} belongs")
    if not log:
        raise InputError(f"{file}: no epoch in it, although the run is finished")
    if len(log) > saved.recipe.epochs:
        raise InputError(f"{file}: {len(log):,} epochs; the recipe has {saved.recipe.epochs:,}")
    return log


def _network(
    recipe: Recipe, classes: int, written: Mapping[str, Any], file: Path, own: NetworkFactory | None
) -> nn.Module:
    """The network of `recipe` with the weights of `file`; `written` is the recipe as run.json has it."""
    if isinstance(recipe.model, OwnModel):
        with torch.random.fork_rng(devices=[]):  # made on the CPU; as it comes it begins CUDA on every GPU
            model = models.build(recipe.model, classes, own)
    else:
        with torch.device("meta"):  # no random weights are drawn, and a width that is a lie takes no memory
            model = models.build(recipe.model, classes)
    wanted = model.state_dict()
    try:
        open_regular(file).close()  # safetensors would wait at a pipe, and says of any file that there is none
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
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise InputError(f"{file}: cannot be read as safetensors: {error}") from error
    for name, tensor in tensors.items():
        _require_fit(name, tensor, wanted[name], file)
    model.load_state_dict(tensors, assign=True)
    return model.to(memory_format=torch.channels_last).eval()


def _require_same_recipe(metadata: dict[str, str], written: Mapping[str, Any], file: Path) -> None:
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
