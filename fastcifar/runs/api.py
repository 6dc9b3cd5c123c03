"""Runs from Python and from the command line: find their learning rates, train one, load one."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from torch import nn

from fastcifar.bench.environment import environment
from fastcifar.data.dataset import Dataset
from fastcifar.data.load import load_dataset
from fastcifar.errors import InputError
from fastcifar.execution import Execution, possible, resolve
from fastcifar.own import AugmentationFunction, NetworkFactory, OptimizerFactory, OwnCode, sealed
from fastcifar.recipe import Recipe, differences, merged
from fastcifar.recipe.files import load_recipe
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.observer import RunObserver, Start, Trained
from fastcifar.runs.paused import CHECKPOINTS, asked_of, read_paused
from fastcifar.runs.saved import open_run, read_run
from fastcifar.training import checkpoint
from fastcifar.training.checkpoint import Checkpoints, Spent
from fastcifar.training.log import Observer
from fastcifar.training.lr_finder import LrRange
from fastcifar.training.lr_finder import find_lr as range_test
from fastcifar.training.ranks import joined
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
    dataset: str | Dataset | None = None,
    out: str | Path | None = None,
    find_lr: bool = False,
    observers: Sequence[Observer] = (),
    since: float | None = None,
    **fields: Any,
) -> Trained:
    """Train `recipe` (a `Recipe`, a name that ships such as "laptop", or a TOML file), testing after every epoch.

    >>> trained = fastcifar.train("laptop", epochs=1, model={"width": 2}, dataset="synthetic", limit_train=512)
    >>> trained.epochs, trained.path
    (1, None)

    `model`, `optimizer` and `augmentation` take the place of the recipe's: what makes one, as `fastcifar.own` says
    (`NetworkFactory`, `OptimizerFactory`, `AugmentationFunction`), the name of one ("speednet", "my_net.py:Net"), or
    values that its table changes; so do any other `fields` of a recipe. `execution` is by default what this machine
    does fastest. The images are those of `dataset`, else the recipe's, as many as the recipe asks for; CIFAR-10 is
    looked for in `data`, see `load_cifar10`. With `find_lr` a learning-rate range test comes first, whose LRMIN and
    LRMAX take the place of the recipe's. With `out`, a new or empty folder, the run is kept there as `fastcifar train`
    does, for `load`, under `name` (by default that of the recipe); without, nothing is written. In a process of several
    that torchrun started they train together, and the first alone writes and tells. `observers` are told of
    every step and epoch, and a `RunObserver` of start and end, such as `fastcifar.report.tensorboard.TensorBoard`. The
    wall_seconds kept count from `since` (Unix time), by default now.

    Raises `InputError` at a recipe, code, device, data or folder that will not do, `RunError` at a loss that is not
    finite.
    """
    began = _began(since)
    parts = {"model": model, "optimizer": optimizer, "augmentation": augmentation}
    named, recipe, own = _asked(recipe, parts, dataset, fields)
    resolved, notes = resolve(execution or Execution(), own=own.steps)
    for part in own.unknown:
        notes += [f"{part}: its source cannot be had: no record can be made of it", f"{part}: nor can it be resumed"]
    with contextlib.ExitStack() as stack:
        ranks = stack.enter_context(joined(resolved))
        directory = None
        if out is not None and ranks.first:
            directory = stack.enter_context(RunDirectory(Path(out)))
            asked = asked_of(recipe, own, find_lr=find_lr, data=data)
            directory.claim(
                recipe_name=name or named,
                recipe=recipe,
                execution=resolved,
                asked=asked,
                started=_beginning(began).started,
            )
        trainer = Trainer(recipe, _images(recipe, data, dataset), resolved, own, ranks)
        found = _found(trainer) if find_lr else None
        about = Start(name or named, trainer, environment(resolved.device), found, [*notes, *trainer.notes])
        return _carried_out(about, directory, _beginning(began), began, observers)


def resume(
    run: str | Path,
    *,
    recipe: Recipe | None = None,
    model: NetworkFactory | None = None,
    optimizer: OptimizerFactory | None = None,
    augmentation: AugmentationFunction | None = None,
    execution: Execution | None = None,
    data: str | Path | None = None,
    dataset: Dataset | None = None,
    trust_code: bool = False,
    observers: Sequence[Observer] = (),
    since: float | None = None,
) -> Trained:
    """Go on with the run in the directory `run`, which was interrupted, from its last checkpoint.

    >>> fastcifar.resume("runs/stopped").epochs
    2

    On the CPU it ends as if it had never been interrupted, bit for bit, times aside. `execution` is by default the
    run's where this machine has it; another is said in a note. `data` or `dataset` is where the images are now, by
    default where they were. Code of one's own is the file it was, if it has not changed; else what `model`, `optimizer`
    and `augmentation` give, or with `trust_code` the copy in the run. `recipe` is only compared. The rest is as in
    `train`.

    Raises `InputError` where the run is finished, is being trained, or recipe, code or images are not the run's, and as
    `train` does.
    """
    began = _began(since)
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
        directory = stack.enter_context(RunDirectory(paused.path, paused)) if ranks.first else None
        images = _images(paused.recipe, paused.asked.data if data is None else data, dataset)
        if paused.written.dataset_sha256 not in (None, images.sha256):
            raise InputError(f"{run}: dataset: other images than the run's: their sha256 is {images.sha256}")
        trainer = Trainer(paused.written, images, resolved, own, ranks)
        spent, found = _beginning(began), None
        if session := checkpoint.earlier(place, trainer.recipe):
            spent, more = checkpoint.go_on(place, trainer, session.spent)
            notes += more
        elif paused.asked.find_lr and "lr_range" not in paused.run:
            found = _found(trainer)
        about = Start(paused.name, trainer, environment(resolved.device), found, [*notes, *trainer.notes])
        return _carried_out(about, directory, spent, began, observers)


def _began(since: float | None) -> float:
    """The Unix time `since`, by default now, on the monotonic clock, which nobody sets."""
    return time.monotonic() - (0.0 if since is None else max(0.0, time.time() - since))


def _beginning(began: float) -> Spent:
    """Nothing yet, by a run that began at `began` of the monotonic clock."""
    started = datetime.now(UTC) - timedelta(seconds=time.monotonic() - began)
    return Spent(started=started.isoformat(timespec="milliseconds"))


def _carried_out(
    about: Start, directory: RunDirectory | None, spent: Spent, began: float, observers: Sequence[Observer]
) -> Trained:
    """Train what is left, and keep it in `directory`; the session began at `began` of the monotonic clock."""
    trainer = about.trainer
    observers = observers if trainer.ranks.first else ()

    def wall() -> float:
        return spent.wall_seconds + time.monotonic() - began

    def tell(line: str) -> None:
        for observer in observers:
            observer.note(line)

    watching = [one for one in observers if isinstance(one, RunObserver)]
    with contextlib.ExitStack() as stack:
        keepers: list[Observer] = []
        if directory:
            directory.start(
                recipe_name=about.name,
                recipe=trainer.recipe,
                own=trainer.own,
                execution=trainer.execution,
                dataset=trainer.dataset,
                environment=about.environment,
                started=_beginning(began).started,
                log=trainer.state.log,
                lr_range=about.found.note() if about.found else None,
            )
        for observer in watching:
            observer.start(about)
        if directory:
            seconds, place = trainer.execution.checkpoint_seconds, directory.path / CHECKPOINTS
            keepers.append(
                stack.enter_context(Checkpoints(place, trainer, spent, seconds=seconds, wall=wall, tell=tell))
            )
        result = trainer.run([*([directory] if directory else []), *observers, *keepers])
        if directory:
            directory.finish(result, trainer.tested_network, replace(spent, wall_seconds=wall()))
    trainer.leave()
    trained = Trained(
        **vars(result),
        model=trainer.tested_network.eval(),
        log=tuple(trainer.state.log),
        recipe=trainer.recipe,
        own=trainer.own,
        dataset=trainer.dataset,
        found=about.found,
        path=directory.path if directory else None,
    )
    for observer in watching:
        observer.finish(trained)
    return trained


def _found(trainer: Trainer) -> LrRange:
    """The range test's result, which `trainer` now has in its recipe, the test's seconds in its setup_seconds."""
    found = range_test(trainer)
    before = trainer.setup_seconds + found.seconds
    trainer.restart(trainer.recipe.with_rates(min_lr=found.min_lr, max_lr=found.max_lr))
    trainer.setup_seconds += before
    return found


def find_lr(
    recipe: Recipe | str | Path,
    *,
    model: str | dict[str, Any] | NetworkFactory | None = None,
    optimizer: str | dict[str, Any] | OptimizerFactory | None = None,
    augmentation: str | dict[str, Any] | AugmentationFunction | None = None,
    execution: Execution | None = None,
    data: str | Path | None = None,
    dataset: str | Dataset | None = None,
    progress: Callable[[int, int], None] = lambda step, steps: None,
    **fields: Any,
) -> LrRange:
    """A learning-rate range test of `recipe`, as `fastcifar find-lr` does it: LRMIN, LRMAX and the loss of every step.

    >>> found = fastcifar.find_lr("laptop", model={"width": 2}, dataset="synthetic", limit_train=2048)
    >>> 0 < found.min_lr < found.max_lr
    True

    `recipe.with_rates(min_lr=..., max_lr=...)` puts them into a recipe; `train(..., find_lr=True)` does both. The
    arguments are those of `train`; `progress` is told each step and how many there are at most. Raises `InputError` as
    `train` does, and `RunError` where the loss does not fall.
    """
    parts = {"model": model, "optimizer": optimizer, "augmentation": augmentation}
    _, recipe, own = _asked(recipe, parts, dataset, fields)
    resolved, _ = resolve(execution or Execution(), own=own.steps)
    return range_test(Trainer(recipe, _images(recipe, data, dataset), resolved, own), progress=progress)


def load(run: str | Path, *, model: NetworkFactory | None = None, trust_code: bool = False) -> nn.Module:
    """The network of a finished run directory: float32, on the CPU, channels_last, in evaluation mode.

    >>> network = fastcifar.load("runs/mine")
    >>> network(fastcifar.normalise(np.zeros((1, 32, 32, 3), np.uint8))).shape
    torch.Size([1, 10])

    It takes normalised images (B, 3, 32, 32) (`fastcifar.normalise` makes them of bytes) and gives logits
    (B, classes); `predict` of one that ships gives probabilities. A network of somebody's own is made by `model`, or
    with `trust_code` by the source that came with the run, which is executed. Nothing is unpickled. Raises
    `InputError`, one line, where `run` is no finished run directory or is damaged, or its code is not to be run.
    """
    return open_run(run, model=model, trust_code=trust_code).model


def _images(recipe: Recipe, data: str | Path | None, dataset: str | Dataset | None) -> Dataset:
    """`dataset`, or else the recipe's; as many images as the recipe asks for."""
    if dataset is None or isinstance(dataset, str):
        return load_dataset(recipe, None if data is None else Path(data))
    return dataset.selected(recipe)


def _asked(
    recipe: Recipe | str | Path, parts: dict[str, Any], dataset: str | Dataset | None, fields: dict[str, Any]
) -> tuple[str, Recipe, OwnCode]:
    """What the run is called, the recipe with what takes the place of its parts, and the code of one's own in it."""
    name = "recipe"
    if not isinstance(recipe, Recipe):
        name, recipe = Path(recipe).stem, load_recipe(str(recipe))
    changes = dict(fields)
    if isinstance(dataset, str):
        changes["dataset"] = dataset
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
