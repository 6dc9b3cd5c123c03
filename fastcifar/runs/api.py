"""Runs from Python and from the command line: find their learning rates, train one, go on with it, test it again."""

import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from torch import nn

from fastcifar.bench.environment import environment
from fastcifar.data.dataset import Dataset
from fastcifar.data.load import given_or_loaded
from fastcifar.errors import InputError, short
from fastcifar.execution import Execution, possible, resolve
from fastcifar.files import expanded
from fastcifar.own import (
    AugmentationFunction,
    NetworkFactory,
    OptimizerFactory,
    OwnCode,
    require_no_import,
    sealed,
    unnamed,
)
from fastcifar.recipe import Recipe
from fastcifar.recipe.changes import differences, merged, passed_over
from fastcifar.recipe.files import load_recipe
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.observer import Start, Trained
from fastcifar.runs.paused import CHECKPOINTS, asked_of, read_paused
from fastcifar.runs.predictions import Tested, tested, tested_network
from fastcifar.runs.saved import open_run, read_run
from fastcifar.runs.session import began_at, beginning, carried_out, found_rates
from fastcifar.training import checkpoint
from fastcifar.training.evaluate import TTA
from fastcifar.training.log import Observer
from fastcifar.training.lr_finder import STEPS, LrRange
from fastcifar.training.lr_finder import find_lr as range_test
from fastcifar.training.ranks import joined
from fastcifar.training.state import random_state_kept
from fastcifar.training.trainer import Trainer


def train(
    recipe: Recipe | str | Path,
    *,
    model: str | dict[str, Any] | NetworkFactory | None = None,
    optimizer: str | dict[str, Any] | OptimizerFactory | None = None,
    augmentation: str | dict[str, Any] | AugmentationFunction | None = None,
    name: str | None = None,
    execution: Execution | None = None,
    data: str | Path | None = None,
    dataset: str | Path | Dataset | None = None,
    out: str | Path | None = None,
    find_lr: bool = False,
    observers: Sequence[Observer] = (),
    since: float | None = None,
    **fields: Any,
) -> Trained:
    """Train `recipe`, testing after every epoch: a `Recipe`, the name of one that ships, or a TOML file.

    >>> trained = fastcifar.train("seed", epochs=1, model={"width": 2}, dataset="synthetic", limit_train=512)
    >>> trained.epochs, trained.path
    (1, None)

    `model`, `optimizer` and `augmentation` replace the recipe's. Each is a callable that makes one (see
    `fastcifar.own`: `NetworkFactory`, `OptimizerFactory`, `AugmentationFunction`), a name ("speednet",
    "my_net.py:Net"), or a dict of fields to change; other `fields` of the recipe are keyword arguments too.

    The images are those of `dataset` (a `Dataset`, a name or a folder), by default the recipe's; CIFAR-10 is looked for
    in `data` (see `load_cifar10`). `execution` defaults to what is fastest on this machine. With `find_lr`, a
    learning-rate range test comes first, and its LRMIN and LRMAX replace the recipe's.

    With `out`, a new or empty folder, the run is kept there for `load`, as `fastcifar train` does, under `name` (by
    default the recipe's); without it nothing is written. `wall_seconds` counts from `since` (Unix time), by default
    now. In several processes started by torchrun, all train together, and only the first one writes and reports.

    `observers` are called after every step and epoch, a `RunObserver` also at the start and the end: for example
    `TrainingConsole`, which prints progress, or `fastcifar.report.tensorboard.TensorBoard`. An observer that is a
    context manager is entered for the duration. Without observers, notes for the user are warnings.

    torch's random generators are left as they were. Raises `InputError` at an unusable recipe, code, device, data or
    folder, and `RunError` at a loss that is not finite.
    """
    began = began_at(since)
    require_no_import()
    parts = {"model": model, "optimizer": optimizer, "augmentation": augmentation}
    named, recipe, own = _asked(recipe, parts, dataset, fields)
    resolved, notes = resolve(execution or Execution(), own=own.steps)
    notes += passed_over(recipe)
    notes += [f"{one}; till then it makes no record" for one in own.unknown]
    if lost := unnamed(recipe):
        notes.append(f"{' and '.join(lost)}: cannot be found again by name; to resume, pass it to fastcifar.resume")
    with contextlib.ExitStack() as stack:
        ranks = stack.enter_context(joined(resolved))
        stack.enter_context(random_state_kept(resolved.device))
        directory = None
        if out is not None and ranks.first:
            directory = stack.enter_context(RunDirectory(expanded(out)))
            asked = asked_of(recipe, own, find_lr=find_lr, data=data)
            directory.claim(
                recipe_name=name or named,
                recipe=recipe,
                execution=resolved,
                asked=asked,
                started=beginning(began).started,
            )
        trainer = Trainer(recipe, _images(recipe, data, dataset), resolved, own, ranks)
        found = found_rates(trainer) if find_lr else None
        about = Start(name or named, trainer, environment(resolved.device), found, [*notes, *trainer.notes])
        return carried_out(about, directory, beginning(began), began, observers)


def resume(
    run: str | Path,
    *,
    recipe: Recipe | None = None,
    model: NetworkFactory | None = None,
    optimizer: OptimizerFactory | None = None,
    augmentation: AugmentationFunction | None = None,
    execution: Execution | None = None,
    data: str | Path | None = None,
    dataset: str | Path | Dataset | None = None,
    trust_code: bool = False,
    observers: Sequence[Observer] = (),
    since: float | None = None,
) -> Trained:
    """Continue the interrupted run in the directory `run` from its last checkpoint.

    >>> fastcifar.resume("runs/stopped").epochs
    2

    On the CPU it ends bit for bit as if it had never been interrupted, times aside. `execution` defaults to the run's,
    as far as this machine has it; a note says what differs. `data` or `dataset` says where the images are now, if they
    have moved. Custom code is read from its file, if that is unchanged; otherwise pass `model`, `optimizer` or
    `augmentation`, or `trust_code` to execute the copy in the run. `recipe` is only compared with the run's. The rest
    is as in `train`.

    Raises `InputError` if the run is finished or being trained, or if recipe, code or images differ from the run's, and
    as `train` does.
    """
    began = began_at(since)
    callables = {"model": model, "optimizer": optimizer, "augmentation": augmentation}
    paused = read_paused(run, trust_code=trust_code, given=[part for part, one in callables.items() if one])
    if paused is None:
        read_run(run)  # which removes what a process that was killed at its very end left
        raise InputError(f"{run}: the run is finished; fastcifar.load reads its network")
    place = paused.path / CHECKPOINTS
    present, own = sealed(recipe or paused.recipe, callables)
    images_same = present.dataset == paused.recipe.dataset
    present = replace(
        present,
        dataset=paused.written.dataset if images_same else present.dataset,  # a folder may have moved
        dataset_sha256=paused.written.dataset_sha256,
    )
    if other := differences(present, paused.written):
        raise InputError(f"{run}: a run of another recipe: {other[0]}; a changed recipe is a new run")
    resolved, notes = resolve(execution or possible(paused.execution), own=own.steps)
    notes += [
        f"{part} {after}; it was {before} before the interruption"
        for part in ("device", "loader", "precision", "compile")
        if (after := getattr(resolved, part)) != (before := getattr(paused.execution, part))
    ]
    with contextlib.ExitStack() as stack:
        ranks = stack.enter_context(joined(resolved))
        stack.enter_context(random_state_kept(resolved.device))
        directory = stack.enter_context(RunDirectory(paused.path, paused)) if ranks.first else None
        images = _images(paused.recipe, paused.asked.data if data is None else data, dataset)
        if paused.written.dataset_sha256 not in (None, images.sha256):
            raise InputError(f"{run}: dataset: other images than the run's: their sha256 is {images.sha256}")
        trainer = Trainer(paused.written, images, resolved, own, ranks)
        spent, found = beginning(began), None
        if session := checkpoint.earlier(place, trainer.recipe):
            spent, more = checkpoint.go_on(place, trainer, session.spent)
            notes += more
        elif paused.asked.find_lr and "lr_range" not in paused.run:
            found = found_rates(trainer)
        about = Start(paused.name, trainer, environment(resolved.device), found, [*notes, *trainer.notes])
        return carried_out(about, directory, spent, began, observers)


def find_lr(
    recipe: Recipe | str | Path,
    *,
    model: str | dict[str, Any] | NetworkFactory | None = None,
    optimizer: str | dict[str, Any] | OptimizerFactory | None = None,
    augmentation: str | dict[str, Any] | AugmentationFunction | None = None,
    execution: Execution | None = None,
    data: str | Path | None = None,
    dataset: str | Path | Dataset | None = None,
    start_lr: float | None = None,
    end_lr: float | None = None,
    steps: int = STEPS,
    progress: Callable[[int, int], None] = lambda step, steps: None,
    **fields: Any,
) -> LrRange:
    """A learning-rate range test of `recipe`, as `fastcifar find-lr` does it: LRMIN, LRMAX and the loss of every step.

    >>> found = fastcifar.find_lr("laptop", model={"width": 2}, dataset="synthetic", limit_train=2048)
    >>> 0 < found.min_lr < found.max_lr
    True

    It takes `steps` steps at learning rates spaced geometrically from `start_lr` to `end_lr`: by default from 1e-5 to
    1, or, for an optimizer with learning rates of its own, at factors on these from 0.001 to 100.
    `recipe.with_rates(min_lr=..., max_lr=...)` puts the result into a recipe; `train(..., find_lr=True)` does both.
    `progress` is called with each step and the largest number of steps; the other arguments are those of `train`.
    Raises `InputError` as `train` does, and `RunError` if the loss does not fall.
    """
    require_no_import()
    parts = {"model": model, "optimizer": optimizer, "augmentation": augmentation}
    _, recipe, own = _asked(recipe, parts, dataset, fields)
    resolved, notes = resolve(execution or Execution(), own=own.steps)
    with random_state_kept(resolved.device):
        trainer = Trainer(recipe, _images(recipe, data, dataset), resolved, own)
        for line in [*notes, *trainer.notes]:
            warnings.warn(line, stacklevel=2)
        return range_test(trainer, start_lr=start_lr, end_lr=end_lr, steps=steps, progress=progress)


def evaluate(
    run: str | Path | nn.Module,
    *,
    model: NetworkFactory | None = None,
    data: str | Path | None = None,
    dataset: str | Path | Dataset | None = None,
    tta: TTA | None = None,
    trust_code: bool = False,
) -> Tested:
    """Test the weights of the finished run directory `run` as the run did: accuracy, confusion matrix, calibration,
    most confident mistakes.

    >>> 0 <= fastcifar.evaluate("runs/mine").accuracy <= 1
    True

    Or test a network that was trained elsewhere, in float32 on its own device, on the test images of `dataset`
    (default: CIFAR-10), with the test-time augmentation `tta`.

    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
    >>> 0 <= fastcifar.evaluate(network, dataset="synthetic").accuracy <= 1
    True

    A run is tested on its own test images (CIFAR-10 from `data`, see `load_cifar10`), or on all test images of
    `dataset`, in memory or a folder, which must have the run's classes. `model` and `trust_code` are those of `load`.
    Raises `InputError` as `load` does, and if there are no images.
    """
    if tta not in (None, *get_args(TTA)):
        raise InputError(f"tta: {short(tta)}; there are {', '.join(get_args(TTA))}")
    if isinstance(run, nn.Module):
        return tested_network(run, given_or_loaded(dataset, Recipe(), data), tta or "none")
    if tta is not None:
        raise InputError("tta: for a network; a run is tested as it was, and fastcifar eval --tta tests it otherwise")
    saved = open_run(run, model=model, trust_code=trust_code)
    return tested(saved, given_or_loaded(dataset, saved.recipe, data))


def _images(recipe: Recipe, data: str | Path | None, dataset: str | Path | Dataset | None) -> Dataset:
    """`dataset`, or else the recipe's; as many images as the recipe asks for."""
    found = given_or_loaded(dataset, recipe, data)
    return found.selected(recipe) if found is dataset else found


def _asked(
    recipe: Recipe | str | Path, parts: dict[str, Any], dataset: str | Path | Dataset | None, fields: dict[str, Any]
) -> tuple[str, Recipe, OwnCode]:
    """What the run is called, the recipe with what takes the place of its parts, and the custom code in it."""
    name = "recipe"
    if not isinstance(recipe, Recipe):
        name, recipe = Path(recipe).stem, load_recipe(recipe)
    changes = dict(fields)
    if isinstance(dataset, str | Path):
        changes["dataset"] = str(dataset)
    callables = {}
    for part, one in parts.items():
        if isinstance(one, str):
            changes[part] = {"own" if part == "augmentation" else "name": one}
        elif isinstance(one, dict):
            changes[part] = one
        else:
            callables[part] = one
    recipe = merged(recipe, changes) if changes else recipe
    return name, *sealed(recipe, callables)
