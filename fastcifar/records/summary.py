"""A record's figures, which follow from the logs of its runs, and a record made of those."""

import math
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastcifar.execution import Execution
from fastcifar.recipe import Recipe, validated
from fastcifar.records.protocol import (
    P_LIMIT,
    ProtocolName,
    first_crossing,
    fixed_budget,
    interval,
    p_below,
)
from fastcifar.records.record import (
    SCHEMA_VERSION,
    Environment,
    Executed,
    Images,
    Interval,
    Record,
    Run,
    Source,
    Summary,
    Work,
    recipe_hash,
)
from fastcifar.training.log import epochs_to

FEW = 5  # runs; of fewer, a confidence interval is right and says nothing: of two, 13 times their standard error


@dataclass(frozen=True)
class Figures:
    """What each run came to; None where not every run has it."""

    seconds: list[float] | None
    final_accuracy: list[float]
    images_per_second: list[float]
    petaflops: list[float] | None


def figures(
    runs: Sequence[Run], protocol: ProtocolName, target: float, images: Sequence[int], work: Work | None
) -> Figures:
    """Of each run, by the protocol; `images` are trained on in each epoch."""
    times = [
        first_crossing(run.epochs, target) if protocol == "first-crossing" else fixed_budget(run.epochs) for run in runs
    ]
    known = [time for time in times if time is not None]
    timed = len(known) == len(runs)
    return Figures(
        seconds=known if timed else None,
        final_accuracy=[run.final_accuracy for run in runs],
        images_per_second=[images_per_second(run, images) for run in runs],
        petaflops=[_petaflops(run, protocol, target, images, work) for run in runs] if work and timed else None,
    )


def ends(record: Record, figure: str) -> tuple[float, float] | None:
    """What is said beside the mean of a figure of the summary: the ends of its 95 % confidence interval; the least and
    the most of fewer than `FEW` runs; None of a single one, and where there is no such figure."""
    of_all: Interval | None = getattr(record.summary, figure)
    if of_all is None or of_all.low is None or of_all.high is None:
        return None
    if record.summary.runs >= FEW:
        return of_all.low, of_all.high
    images = images_by_epoch(record.images, record.recipe, record.runs)
    each = getattr(figures(record.runs, record.protocol, record.target, images, record.work), figure)
    return min(each), max(each)


def summarise(
    runs: Sequence[Run], protocol: ProtocolName, target: float, images: Sequence[int], work: Work | None = None
) -> Summary:
    """All figures of a record, from its runs' logs; `images` are trained on in each epoch, with `work`."""
    each = figures(runs, protocol, target, images, work)
    p = p_below(each.final_accuracy, target)
    if protocol == "first-crossing":
        reached = each.seconds is not None
    else:
        reached = p is not None and p < P_LIMIT and interval(each.final_accuracy)[0] >= target
    return Summary(
        runs=len(runs),
        seconds=None if each.seconds is None else _interval(each.seconds),
        final_accuracy=_interval(each.final_accuracy),
        images_per_second=_interval(each.images_per_second),
        petaflops=None if each.petaflops is None else _interval(each.petaflops),
        p=p,
        reached=reached,
    )


def _timed_epochs(run: Run, protocol: ProtocolName, target: float) -> int:
    """How many of a run's epochs its seconds are of, by the protocol: up to the first at the target, or all."""
    crossed = epochs_to(target, run.epochs) if protocol == "first-crossing" else None
    return crossed or len(run.epochs)


def _petaflops(run: Run, protocol: ProtocolName, target: float, images: Sequence[int], work: Work) -> float:
    timed = _timed_epochs(run, protocol, target)
    return math.fsum(map(operator.mul, images[:timed], work.flops_per_image)) / 1e15


def images_by_epoch(images: Images, recipe: Recipe | None, runs: Sequence[Run]) -> list[int]:
    """How many images are trained on in each epoch of the longest of `runs`."""
    epochs = range(max(len(run.epochs) for run in runs))
    return [images.train if recipe is None else recipe.images_of(epoch, images.train) for epoch in epochs]


def images_per_second(run: Run, images: Sequence[int]) -> float:
    """In training, by `images_by_epoch`."""
    return sum(images[: len(run.epochs)]) / math.fsum(epoch.train_seconds for epoch in run.epochs)


def optimizer_petaflops(record: Record) -> float | None:
    """What the optimizer's own steps take beside `summary.petaflops`, a mean over the runs; None without `work`."""
    recipe, work = record.recipe, record.work
    if recipe is None or work is None:
        return None
    images = images_by_epoch(record.images, recipe, record.runs)
    steps = [
        sum(
            math.ceil(images[epoch] / recipe.batch_size_of(epoch))
            for epoch in range(_timed_epochs(run, record.protocol, record.target))
        )
        for run in record.runs
    ]
    return work.optimizer_flops_per_step * sum(steps) / len(steps) / 1e15


def _interval(values: Sequence[float]) -> Interval:
    mean, low, high = interval(values)
    return Interval(mean=mean, low=low, high=high)


def make_record(
    *,
    program: str,
    name: str,
    protocol: ProtocolName,
    target: float,
    recipe: Recipe | None,
    execution: Execution | None,
    images: Images,
    environment: dict[str, Any],
    runs: Sequence[Run],
    sources: Sequence[Source] = (),
    work: Work | None = None,
    evaluation: str | None = None,
) -> Record:
    """A record of `runs`, its summary and hash computed; `execution` is resolved."""
    if recipe is not None:
        recipe = validated(asdict(recipe))  # whole numbers become floats where floats are meant, as in the file
    return Record(
        schema_version=SCHEMA_VERSION,
        program=program,
        name=name,
        protocol=protocol,
        target=target,
        recipe=recipe,
        recipe_hash=None if recipe is None else recipe_hash(asdict(recipe)),
        sources=list(sources),
        execution=None if execution is None else Executed(**asdict(execution)),
        evaluation=evaluation,
        images=images,
        work=work,
        environment=Environment(**environment),
        runs=list(runs),
        summary=summarise(runs, protocol, target, images_by_epoch(images, recipe, runs), work),
    )
