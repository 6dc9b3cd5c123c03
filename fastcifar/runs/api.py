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
    """Train `recipe` (a `Recipe`, a name that ships such as "laptop", or a TOML file), testing after every epoch.

    >>> trained = fastcifar.train("seed", epochs=1, model={"width": 2}, dataset="synthetic", limit_train=512)
    >>> trained.epochs, trained.path
    (1, None)

    `model`, `optimizer` and `augmentation` take the place of the recipe's: what makes one, as `fastcifar.own` says
    (`NetworkFactory`, `OptimizerFactory`, `AugmentationFunction`), the name of one ("speednet", "my_net.py:Net"), or
    values that its table changes; so do any other `fields` of a recipe. `execution` is by default what this machine
    does fastest. The images are those of `dataset` (one in memory, the name of one, or a folder), else the recipe's, as
    many as the recipe asks for; CIFAR-10 is looked for in `data`, see `load_cifar10`. With `find_lr` a learning-rate
    range test comes first, whose LRMIN and LRMAX take the place of the recipe's. With `out`, a new or empty folder, the
    run is kept there as `fastcifar train` does, for `load`, under `name` (by default that of the recipe); without,
    nothing is written. In a process of several that torchrun started they train together, and the first alone writes
    and tells. `observers` are told of every step and epoch, and a `RunObserver` of start and end, such as
    `TrainingConsole`, which prints how it goes, or `fastcifar.report.tensorboard.TensorBoard`; one that is a context
    manager is entered meanwhile. Where there is none, what a person should know is a warning. The wall_seconds kept
    count from `since` (Unix time), by default now.

    Raises `InputError` at a recipe, code, device, data or folder that will not do, `RunError` at a loss that is not
    finite. torch's random generators are afterwards as they were.
    """
    began = began_at(since)
    require_no_import()
    parts = {"model": model, "optimizer": optimizer, "augmentation": augmentation}
    named, recipe, own = _asked(recipe, parts, dataset, fields)
    resolved, notes = resolve(execution or Execution(), own=own.steps)
    notes += passed_over(recipe)
    notes += [f"{one}; till then it makes no record" for one in own.unknown]
    if lost := unnamed(recipe):
        notes.append(f"{' and '.join(lost)}: no name in a file finds it again: to resume the run, give resume(...) it")
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
    """Go on with the run in the directory `run`, which was interrupted, from its last checkpoint.

    >>> fastcifar.resume("runs/stopped").epochs
    2

    On the CPU it ends as if it had never been interrupted, bit for bit, times aside. `execution` is by default the
    run's where this machine has it; another is said in a note. `data` or `dataset` is where the images are now, by
    default where they were. Custom code is the file it was, if it has not changed; else what `model`, `optimizer`
    and `augmentation` give, or with `trust_code` the copy in the run. `recipe` is only compared. The rest is as in
    `train`.

    Raises `InputError` where the run is finished, is being trained, or recipe, code or images are not the run's, and as
    `train` does.
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
        raise InputError(f"{run}: a run of another recipe: {other[0]}; what is changed is trained anew")
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

    It takes `steps` steps, at rates from `start_lr` to `end_lr` in equal factors: by default from 1e-5 to 1, for an
    optimizer that brings its rates the factors of these from 0.001 to 100. `recipe.with_rates(min_lr=..., max_lr=...)`
    puts what it found into a recipe (`load_recipe`); `train(..., find_lr=True)` does both. The other arguments are
    those of `train`; `progress` is told each step and how many there are at most. Raises `InputError` as `train` does,
    and `RunError` where the loss does not fall.
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
    """What the weights of the finished run directory `run` say of the test images, as the run tested them: accuracy,
    confusion matrix, calibration, the surest mistakes.

    >>> 0 <= fastcifar.evaluate("runs/mine").accuracy <= 1
    True

    Or a network that was trained in another loop, in float32 and on its device, of the test images of
    `dataset`, by default CIFAR-10's, with as many views of each as `tta` says.

    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
    >>> 0 <= fastcifar.evaluate(network, dataset="synthetic").accuracy <= 1
    True

    Those of a run are its own, CIFAR-10 from `data` (see `load_cifar10`), or all test images of `dataset`, in memory or
    a folder, whose classes have to be the run's. `model` and `trust_code` are those of `load`. Raises `InputError` as
    `load` does, and where there are no images.
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
