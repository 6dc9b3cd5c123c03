"""Runs from Python: find their learning rates, train one, load one."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastcifar.data.load import load_dataset
from fastcifar.execution import Execution, resolve
from fastcifar.measure.environment import environment
from fastcifar.model import ResNet
from fastcifar.recipe import Recipe, load_recipe
from fastcifar.training.log import EpochLog, Result
from fastcifar.training.lr_finder import LrRange, for_range_test, make_trainer
from fastcifar.training.lr_finder import find_lr as range_test
from fastcifar.training.run_directory import RunDirectory
from fastcifar.training.saved import open_run
from fastcifar.training.trainer import Observer, Trainer


@dataclass(frozen=True)
class Trained(Result):
    """A result with the network it is about, in evaluation mode on the device it was trained on, and every epoch."""

    model: ResNet
    log: tuple[EpochLog, ...]


def train(
    recipe: Recipe | str | Path,
    *,
    execution: Execution | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    observers: Sequence[Observer] = (),
) -> Trained:
    """Train `recipe` (a `Recipe`, a name that ships such as "laptop", or a TOML file), testing after every epoch.

    `execution` is by default what this machine does fastest; CIFAR-10 is looked for in `data`, see `load_cifar10`.
    With `out`, a new or empty folder, the run is kept there as `fastcifar train` does, for `load`; without, nothing is
    written. `observers` are told of every step and epoch (`fastcifar.training.trainer.Observer`), such as
    `fastcifar.report.tensorboard.TensorBoard(folder)`, which writes event files of the scalars.

    Raises `InputError` at a recipe, device, data or folder that will not do, `RunError` at a loss that is not finite.
    """
    start = time.perf_counter()
    name = "recipe" if isinstance(recipe, Recipe) else Path(recipe).stem
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(str(recipe))
    execution, _ = resolve(execution or Execution())
    log = _Log()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(RunDirectory(Path(out))) if out is not None else None
        dataset = load_dataset(recipe, None if data is None else Path(data))
        trainer, found = make_trainer(recipe, dataset, execution)
        if directory is None:
            result = trainer.run([log, *observers])
        else:
            directory.start(
                recipe_name=name,
                recipe=trainer.recipe,
                execution=execution,
                dataset=dataset,
                environment=environment(),
                lr_range=found.note() if found else None,
            )
            result = trainer.run([directory, log, *observers])
            directory.finish(result, trainer.model, time.perf_counter() - start)
    return Trained(**vars(result), model=trainer.model.eval(), log=tuple(log.epochs))


def find_lr(
    recipe: Recipe | str | Path, *, execution: Execution | None = None, data: str | Path | None = None
) -> LrRange:
    """A learning-rate range test of `recipe`, as `fastcifar find-lr` does it: LRMIN, LRMAX and the loss of every step.

    `recipe.with_rates(min_lr=..., max_lr=...)` puts them in the places where the schedule says "find"; `train` does
    both by itself. The arguments are those of `train`. Raises `InputError` as `train` does, and `RunError` where the
    loss does not fall.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(str(recipe))
    execution, _ = resolve(execution or Execution())
    dataset = load_dataset(recipe, None if data is None else Path(data))
    return range_test(Trainer(for_range_test(recipe), dataset, execution))


def load(run: str | Path) -> ResNet:
    """The network of a finished run directory: float32, on the CPU, channels_last, in evaluation mode.

    It takes normalised images (B, 3, 32, 32) (`fastcifar.normalise` makes them of bytes) and gives logits (B, 10); its
    `predict` gives probabilities. Nothing is unpickled. Raises `InputError`, one line, where `run` is no finished run
    directory or is damaged.
    """
    return open_run(run).model


class _Log:
    """Observes a run and keeps its epochs."""

    def __init__(self) -> None:
        self.epochs: list[EpochLog] = []

    def step(self, epoch: int, step: int) -> None:
        """Nothing is kept of a step."""

    def epoch(self, log: EpochLog) -> None:
        self.epochs.append(log)
