"""A finished run's folder, read back: what was trained, how it went, and the network."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fastcifar.errors import InputError
from fastcifar.model import ResNet
from fastcifar.recipe import Recipe, validated
from fastcifar.training.step import DTYPES

FORMAT = 1
LARGEST = 2**20  # bytes of run.json, which has a few thousand

# A run does not keep its class names; these are the data sets' own, in the order of their labels.
CLASS_NAMES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "synthetic": tuple(f"pattern-{label}" for label in range(10)),
}


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
    run: dict[str, Any]
    model: ResNet


def open_run(path: str | Path) -> Saved:
    """Read the run directory `path`. Nothing is unpickled, and torch's random state stays as it is.

    Raises `InputError`, one line, where `path` is no run directory, its run is not finished, its run.json is broken, or
    its weights are not those of the recipe in it.
    """
    path = Path(path)
    file = path / "run.json"
    run = _read_json(path, file)

    def refuse(field: str, complaint: str) -> NoReturn:
        raise InputError(f"{file}: {field}: {complaint}")

    if run.get("format") != FORMAT:
        refuse("format", f"{_short(run.get('format'))} is unknown; this fastcifar reads {FORMAT}")
    if run.get("status") != "finished":
        status = run.get("status")
        raise InputError(f"{path}: the run is not finished ({_short(status)}), so it has no final weights")
    for field, kind in (("recipe_name", str), ("recipe", dict), ("execution", dict), ("result", dict)):
        if not isinstance(run.get(field), kind):
            refuse(field, f"missing, or not what a run writes: {_short(run.get(field))}")
    recipe = validated(run["recipe"], prefix=f"{file}: recipe.")
    precision, accuracy = run["execution"].get("precision"), run["result"].get("final_accuracy")
    if not isinstance(precision, str) or precision not in DTYPES:
        refuse("execution.precision", f"{_short(precision)} is none of {', '.join(DTYPES)}")
    if not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
        refuse("result.final_accuracy", f"{_short(accuracy)} is not between 0 and 1")
    return Saved(
        path=path,
        name=run["recipe_name"],
        recipe=recipe,
        precision=precision,
        final_accuracy=float(accuracy),
        classes=CLASS_NAMES[recipe.dataset],
        run=run,
        model=_network(recipe, run["recipe"], path / "model.safetensors"),
    )


def _read_json(path: Path, file: Path) -> dict[str, Any]:
    try:
        if not path.is_dir():
            raise InputError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}; name a run directory")
        if not file.is_file():
            raise InputError(f"{path}: not a run directory: there is no run.json in it")
        if file.stat().st_size > LARGEST:
            raise InputError(f"{file}: more than a mebibyte: not what a run writes")
        run = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        complaint = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"{file}: not a JSON file: {complaint}") from error
    if not isinstance(run, dict):
        raise InputError(f"{file}: a JSON object is needed, not {_short(run)}")
    return run


def _network(recipe: Recipe, written: dict[str, Any], file: Path) -> ResNet:
    """The network of `recipe` with the weights of `file`; `written` is the recipe as run.json has it."""
    with torch.device("meta"):  # no random weights are drawn, and a width that is a lie takes no memory
        model = ResNet(recipe.model)
    wanted = model.state_dict()
    try:
        with safetensors.safe_open(file, "pt") as weights:
            names, metadata = set(weights.keys()), weights.metadata() or {}
            _require_same_recipe(metadata, written, file)
            for name in sorted(names ^ set(wanted)):
                raise InputError(f"{file}: {'has' if name in names else 'lacks'} {_short(name)}: of another network")
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


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
