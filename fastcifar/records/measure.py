"""`fastcifar bench accuracy`: a recipe over several seeds, and the record that comes of it."""

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import fastcifar
from fastcifar.bench.environment import environment
from fastcifar.bench.flops import work_of
from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError, complaint
from fastcifar.execution import Execution
from fastcifar.files import Claim, read_regular, write_whole
from fastcifar.own import OwnCode
from fastcifar.recipe import Recipe, validated
from fastcifar.recipe.changes import differences
from fastcifar.records.measured import Ahead, Measured, differing
from fastcifar.records.parallel import RayWorkers
from fastcifar.records.protocol import ProtocolName
from fastcifar.records.record import Environment, Epoch, Executed, Images, Record, Run, Source, Work, recipe_hash
from fastcifar.records.summary import make_record
from fastcifar.source import digest
from fastcifar.training import checkpoint
from fastcifar.training.checkpoint import Checkpoints, Spent
from fastcifar.training.log import Observer
from fastcifar.training.trainer import Trainer


class Watcher(Observer):
    """An observer that is told of each run's begin and end too."""

    def begin(self, number: int, trainer: Trainer) -> None:
        """Run `number` (from 0) is about to start."""

    def end(self, number: int, run: Run) -> None:
        """Run `number` is over."""


class Measurer:
    """Trains `recipe` with one seed after another; what is compiled is compiled once.

    `execution` is resolved; `here` is the environment; `worker` is the number of the process among several.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        execution: Execution,
        own: OwnCode,
        here: dict[str, Any],
        worker: int | None = None,
    ) -> None:
        self._recipe, self._dataset, self._execution, self._own = recipe, dataset, execution, own
        self._here, self._worker = here, worker
        self._trainer: Trainer | None = None

    def run(self, number: int, watcher: Watcher, checkpoints: Path | None = None) -> Measured:
        """Run `number`, whose seed is as much past the recipe's; or the rest of it, if it was interrupted and its
        state is in the folder `checkpoints`, where it is kept as it goes."""
        recipe = replace(self._recipe, seed=self._recipe.seed + number)
        if self._trainer is None:
            self._trainer = Trainer(recipe, self._dataset, self._execution, self._own)
            self._work = _work(self._trainer)
        else:
            self._trainer.restart(recipe)
        run = _run(number, self._trainer, watcher, checkpoints, self._here)
        return Measured(
            run=run.model_copy(update={"worker": self._worker}),
            images=Images(
                train=recipe.images_of(0, len(self._dataset.train_images)), test=len(self._dataset.test_images)
            ),
            work=self._work,
            environment=Environment(**self._here),
        )


def bench_accuracy(
    name: str,
    recipe: Recipe,
    dataset: Dataset,
    execution: Execution,
    *,
    own: OwnCode | None = None,
    protocol: ProtocolName,
    runs: int,
    seconds: float | None = None,
    earlier: Record | None,
    keep: Callable[[Record], None],
    watcher: Watcher,
    checkpoints: Path | None = None,
    workers: RayWorkers | None = None,
) -> Record:
    """Train `recipe` `runs` times, with the seeds recipe.seed, recipe.seed + 1 and so on.

    `execution` is resolved; `own` is the custom code that `recipe` names, both as `fastcifar.own.sealed` gives
    them, and the record has its text. `earlier` runs of the same recipe on the same machine count, and `keep` gets the
    record after every run. The state of the run under way is kept in the folder `checkpoints`, from which a run that
    was interrupted goes on; it is gone in the end. Once `seconds` have passed, no further run begins. What is compiled
    is compiled once; every run starts from weights of its own. With `workers` runs are made at once, and one that is
    interrupted is made anew. Raises `InputError` where `earlier` is of something else, a source cannot be kept, or
    another process measures there, `RunError` at a run that diverges.
    """
    began = time.perf_counter()
    if protocol == "fixed-budget" and recipe.stop_at_target:
        raise InputError("--stop-at-target: fixed-budget times the whole recipe; leave it out, or use first-crossing")
    own = own or OwnCode()
    recipe = validated(asdict(replace(recipe, dataset=dataset.name, dataset_sha256=dataset.sha256)))
    sources = sources_of(own)
    here = workers.environment() if workers else environment(execution.device)
    done = list(_continued(earlier, recipe, execution, protocol, here)) if earlier else []
    if earlier and len(done) >= runs:
        return earlier
    record = earlier

    def over() -> bool:
        return seconds is not None and time.perf_counter() - began > seconds

    with _folder(checkpoints) as begun:
        if checkpoints:
            # Of an earlier fastcifar, that was interrupted, nobody knows how many runs there were to be.
            looked_at = (runs if begun else len(done)) if earlier and protocol == "fixed-budget" else None
            _require_planned(checkpoints / "runs.json", runs, looked_at)
        ahead = Ahead(checkpoints, recipe_hash(asdict(recipe)), Environment(**here))
        missing = [number for number in range(len(done), runs) if number not in ahead]
        if workers:
            source = workers.runs(missing, over)
        else:
            measurer = Measurer(recipe, dataset, execution, own, here)
            source = _in_turn(measurer, missing, over, watcher, checkpoints)
        with contextlib.closing(source):
            for number, one in itertools.chain([(-1, None)], source):  # before the first, what is there already
                if one:
                    ahead.put(number, one, its_turn=number == len(done))
                while len(done) < runs and (found := ahead.get(len(done))):
                    done.append(found.run)
                    record = make_record(
                        program=f"fastcifar {fastcifar.__version__}",
                        name=name,
                        protocol=protocol,
                        target=recipe.target,
                        recipe=recipe,
                        execution=execution,
                        images=found.images,
                        environment=here,
                        runs=done,
                        sources=sources,
                        work=found.work,
                    )
                    keep(record)  # before anybody hears of the run
                    ahead.remove(len(done) - 1)
                    if checkpoints:
                        checkpoint.clear(checkpoints)
                        if len(done) < runs:
                            write_whole(checkpoints / "runs.json", str(runs).encode())
                        else:
                            (checkpoints / "runs.json").unlink(missing_ok=True)
                    watcher.end(len(done) - 1, done[-1])
    assert record is not None
    return record


def _in_turn(
    measurer: Measurer, numbers: Sequence[int], over: Callable[[], bool], watcher: Watcher, checkpoints: Path | None
) -> Generator[tuple[int, Measured]]:
    for number in numbers:
        yield number, measurer.run(number, watcher, checkpoints)
        if over():
            break


@contextlib.contextmanager
def _folder(checkpoints: Path | None) -> Iterator[bool]:
    """The folder is there, and no other process measures in it; it goes if nothing is in it in the end. Gives whether
    it was there before."""
    if checkpoints is None:
        yield False
        return
    begun = checkpoints.exists()
    checkpoints.mkdir(exist_ok=True)
    with contextlib.closing(Claim(checkpoints)):
        try:
            yield begun
        finally:
            with contextlib.suppress(OSError):
                checkpoints.rmdir()


def _require_planned(file: Path, runs: int, looked_at: int | None) -> None:
    """Raises `InputError` where there were to be fewer runs, by `file` or else `looked_at`, of a record whose p was
    looked at, maybe: who goes on until it is small claims too much."""
    try:
        planned = int(read_regular(file, 100))
    except (OSError, ValueError):
        planned = looked_at or runs
    if looked_at is not None and runs > planned:
        raise InputError(
            f"--runs {runs}: the record was to have {planned} runs, and its p is that of as many; for more begin a new "
            "one, by another --json and --seed"
        )


def sources_of(own: OwnCode) -> list[Source]:
    """The custom files. Raises `InputError` where a record would lack one, or cannot hold it."""
    own.require_sources()
    sources = []
    for file, text in own.sources.items():
        try:
            sources.append(Source(file=file, sha256=digest(text), text=text))
        except ValidationError as error:
            raise InputError(f"{file}: cannot be part of a record: {complaint(error)}") from error
    return sources


def _work(trainer: Trainer) -> Work:
    classes = len(trainer.dataset.classes)
    by_epoch, optimizer = work_of(trainer.recipe, classes=classes, own=trainer.own, device=trainer.device)
    return Work(flops_per_image=by_epoch, optimizer_flops_per_step=optimizer)


def _run(number: int, trainer: Trainer, watcher: Watcher, folder: Path | None, here: dict[str, Any]) -> Run:
    """The run of the trainer's recipe, or the rest of it, if it was interrupted and its checkpoints are in `folder`."""
    # What is prepared from images is the beginning of the first epoch.
    started, prepared = datetime.now(UTC) - timedelta(seconds=trainer.prepare_seconds), trainer.prepare_seconds
    spent, notes = Spent(started.isoformat(timespec="milliseconds"), wall_seconds=prepared), list[str]()
    about = {"execution": asdict(trainer.execution), "environment": here}
    if folder and (session := checkpoint.earlier(folder, trainer.recipe)):
        executed = Executed(**{"sync_batchnorm": False, **session.about["execution"]})
        _require_same(executed, trainer.execution, session.about["environment"], here)
        spent, notes = checkpoint.go_on(folder, trainer, session.spent)
        spent = replace(spent, wall_seconds=spent.wall_seconds + trainer.prepare_seconds)  # where it begins again
    elif folder:
        checkpoint.clear(folder)  # of a run that is in the record
    watcher.begin(number, trainer)
    for note in notes:
        watcher.note(note)
    began = time.perf_counter()

    def wall() -> float:
        return spent.wall_seconds + time.perf_counter() - began

    with contextlib.ExitStack() as stack:
        observers: list[Observer] = [watcher]
        if folder:
            seconds = trainer.execution.checkpoint_seconds
            checkpoints = Checkpoints(
                folder, trainer, spent, seconds=seconds, wall=wall, tell=watcher.note, about=about
            )
            observers.append(stack.enter_context(checkpoints))
        trainer.run(observers)
        return Run(
            seed=trainer.recipe.seed,
            started=spent.started,
            setup_seconds=trainer.setup_seconds,
            wall_seconds=wall(),
            interruptions=spent.interruptions,
            lost_seconds=spent.lost_seconds,
            epochs=[Epoch(**asdict(log)) for log in trainer.state.log],
        )


def _continued(
    earlier: Record, recipe: Recipe, execution: Execution, protocol: ProtocolName, here: dict[str, Any]
) -> Sequence[Run]:
    """The earlier record's runs, if they may stand beside new ones."""
    if earlier.recipe is None or (other := differences(recipe, earlier.recipe)):
        said = "none" if earlier.recipe is None else other[0]
        raise InputError(f"--resume: the record is of another recipe: {said}")
    if earlier.protocol != protocol:
        raise InputError(f"--resume: the record's protocol is {earlier.protocol}, not {protocol}")
    _require_same(earlier.execution, execution, earlier.environment.model_dump(), here)
    return earlier.runs


def _require_same(
    executed: Executed | None, execution: Execution, environment: dict[str, Any], here: dict[str, Any]
) -> None:
    """What was measured before was so on this machine; that its checkout was changed is said `here` too."""
    if executed != Executed(**asdict(execution)):
        raise InputError(f"--resume: the record was executed otherwise: {executed}")
    before, now = Environment.model_validate(environment), Environment.model_validate(here)
    for field in differing(before, now):
        one, other = getattr(before, field), getattr(now, field)
        raise InputError(f"--resume: the record's {field} is {one}, here it is {other}; start a new record")
    here["dirty"] = now.dirty or before.dirty
