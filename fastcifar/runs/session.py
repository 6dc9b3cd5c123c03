"""A session of a run, from where it stands to its end: kept in its folder, told to its observers."""

import contextlib
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from fastcifar.errors import InputError
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.observer import RunObserver, Start, Trained
from fastcifar.runs.paused import CHECKPOINTS
from fastcifar.training.checkpoint import Checkpoints, Spent
from fastcifar.training.log import Observer
from fastcifar.training.lr_finder import LrRange
from fastcifar.training.lr_finder import find_lr as range_test
from fastcifar.training.trainer import Trainer


def began_at(since: float | None) -> float:
    """The Unix time `since`, by default now, on the monotonic clock, which nobody sets."""
    return time.monotonic() - (0.0 if since is None else max(0.0, time.time() - since))


def beginning(began: float) -> Spent:
    """Nothing yet, by a run that began at `began` of the monotonic clock."""
    started = datetime.now(UTC) - timedelta(seconds=time.monotonic() - began)
    return Spent(started=started.isoformat(timespec="milliseconds"))


def carried_out(
    about: Start, directory: RunDirectory | None, spent: Spent, began: float, observers: Sequence[Observer]
) -> Trained:
    """Train what is left, and keep it in `directory`; the session began at `began` of the monotonic clock."""
    trainer = about.trainer
    first = trainer.ranks.first
    if not isinstance(observers, Sequence) or not all(isinstance(one, Observer) for one in observers):
        raise InputError("observers: a list of Observers is needed, not of their classes or anything else")
    observers = observers if first else ()

    def wall() -> float:
        return spent.wall_seconds + time.monotonic() - began

    def tell(line: str) -> None:
        for observer in observers:
            observer.note(line)
        if first and not observers:
            warnings.warn(line, stacklevel=4)

    watching = [one for one in observers if isinstance(one, RunObserver)]
    if not watching:
        for line in about.notes:
            tell(line)
    with contextlib.ExitStack() as stack:
        keepers: list[Checkpoints] = []
        for observer in observers:
            if isinstance(observer, contextlib.AbstractContextManager):
                stack.enter_context(observer)
        if directory:
            directory.start(
                recipe_name=about.name,
                recipe=trainer.recipe,
                own=trainer.own,
                execution=trainer.execution,
                dataset=trainer.dataset,
                environment=about.environment,
                started=beginning(began).started,
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
        for keeper in keepers:
            keeper.written()  # before the folder that it writes in is removed
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


def found_rates(trainer: Trainer) -> LrRange:
    """The range test's result, which `trainer` now has in its recipe, the test's seconds in its setup_seconds."""
    found = range_test(trainer)
    before = trainer.setup_seconds + found.seconds
    trainer.restart(trainer.recipe.with_rates(min_lr=found.min_lr, max_lr=found.max_lr))
    trainer.setup_seconds += before
    return found
