"""`fastcifar bench accuracy`: a recipe over several seeds, and the record that comes of it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

import fastcifar
from fastcifar.bench.environment import environment
from fastcifar.bench.flops import work_of
from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError, complaint
from fastcifar.execution import Execution
from fastcifar.own import OwnCode, digest
from fastcifar.recipe import Recipe, validated
from fastcifar.records.protocol import ProtocolName
from fastcifar.records.record import Environment, Epoch, Executed, Images, Record, Run, Source, Work, make_record
from fastcifar.training.log import Observer
from fastcifar.training.trainer import Trainer


class Watcher(Observer):
    """An observer that is told of each run's begin and end too."""

    def begin(self, number: int, trainer: Trainer) -> None:
        """Run `number` (from 0) is about to start."""

    def end(self, number: int, run: Run) -> None:
        """Run `number` is over."""


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
) -> Record:
    """Train `recipe` `runs` times, with the seeds recipe.seed, recipe.seed + 1 and so on.

    `execution` is resolved; `own` is the code of one's own that `recipe` names, both as `fastcifar.own.sealed` gives
    them, and the record has its text. `earlier` runs of the same recipe on the same machine count, and `keep` gets the
    record after every run. Once `seconds` have passed, no further run begins. What is compiled is compiled once; every
    run starts from weights of its own. Raises `InputError` where `earlier` is of something else or a source cannot be
    kept, `RunError` at a run that diverges.
    """
    began = time.perf_counter()
    if protocol == "fixed-budget" and recipe.stop_at_target:
        raise InputError("--stop-at-target: fixed-budget times the whole recipe; leave it out, or use first-crossing")
    recipe = validated(asdict(replace(recipe, dataset=dataset.name, dataset_sha256=dataset.sha256)))
    sources = sources_of(own or OwnCode())
    here = environment(execution.device)
    done = list(_continued(earlier, recipe, execution, protocol, here)) if earlier else []
    if earlier and len(done) >= runs:
        return earlier
    trainer, record = None, earlier
    for number in range(len(done), runs):
        seeded = replace(recipe, seed=recipe.seed + number)
        if trainer is None:
            trainer = Trainer(seeded, dataset, execution, own)
            work = _work(trainer)
        else:
            trainer.restart(seeded)
        done.append(_run(number, trainer, watcher))
        record = make_record(
            program=f"fastcifar {fastcifar.__version__}",
            name=name,
            protocol=protocol,
            target=recipe.target,
            recipe=recipe,
            execution=execution,
            images=Images(train=trainer.images_per_epoch, test=trainer.test_images),
            environment=here,
            runs=done,
            sources=sources,
            work=work,
        )
        keep(record)  # before anybody hears of the run
        watcher.end(number, done[-1])
        if seconds is not None and time.perf_counter() - began > seconds:
            break
    assert record is not None
    return record


def sources_of(own: OwnCode) -> list[Source]:
    """The files of a person's own. Raises `InputError` where a record would lack one, or cannot hold it."""
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


def _run(number: int, trainer: Trainer, watcher: Watcher) -> Run:
    watcher.begin(number, trainer)
    prepared = trainer.prepare_seconds  # which the first epoch begins with
    started, clock = datetime.now(UTC) - timedelta(seconds=prepared), time.perf_counter() - prepared
    trainer.run([watcher])
    return Run(
        seed=trainer.recipe.seed,
        started=started.isoformat(timespec="milliseconds"),
        setup_seconds=trainer.setup_seconds,
        wall_seconds=time.perf_counter() - clock,
        epochs=[Epoch(**asdict(log)) for log in trainer.state.log],
    )


def _continued(
    earlier: Record, recipe: Recipe, execution: Execution, protocol: ProtocolName, here: dict[str, object]
) -> Sequence[Run]:
    """The earlier record's runs, if they may stand beside new ones."""
    if earlier.recipe != recipe:
        raise InputError("--resume: the record is of another recipe (its fields are in the record)")
    if earlier.protocol != protocol:
        raise InputError(f"--resume: the record's protocol is {earlier.protocol}, not {protocol}")
    if earlier.execution != Executed(**asdict(execution)):
        raise InputError(f"--resume: the record was executed otherwise: {earlier.execution}")
    now = Environment.model_validate(here)
    for field in Environment.model_fields:
        one, other = getattr(earlier.environment, field), getattr(now, field)
        if one != other and field != "dirty":
            raise InputError(f"--resume: the record's {field} is {one}, here it is {other}; start a new record")
    here["dirty"] = now.dirty or earlier.environment.dirty
    return earlier.runs
