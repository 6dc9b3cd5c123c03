"""A record of runs that `fastcifar train` kept: the same checkable file that `fastcifar bench accuracy` makes."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fastcifar.bench.flops import recounted
from fastcifar.errors import InputError, complaint
from fastcifar.execution import Execution
from fastcifar.own import OwnCode, beyond_sources
from fastcifar.recipe.changes import differences
from fastcifar.records.measure import sources_of
from fastcifar.records.protocol import ProtocolName
from fastcifar.records.record import Environment, Epoch, Images, Record, Run, Work
from fastcifar.records.summary import make_record
from fastcifar.runs.saved import Finished, read_log, read_run

MACHINE = (
    *("gpu", "gpus", "gpu_power_limit_watts", "processes", "machines"),
    *("cpu", "cores", "threads", "cpu_capability", "cpu_bfloat16"),
)
"""What of an environment all sessions of all runs must share; what else differs among them is left out."""


def record_of(paths: Sequence[Path], *, protocol: ProtocolName) -> Record:
    """A record of the finished runs in `paths`, whose recipes are equal but for consecutive seeds, on one machine.

    Raises `InputError` where one is not finished, or they may not stand in one record.
    """
    runs = sorted(map(read_run, paths), key=lambda run: run.recipe.seed)
    first = runs[0]
    for number, run in enumerate(runs):
        seeded = replace(first.recipe, seed=first.recipe.seed + number)
        if wrong := differences(run.recipe, seeded):
            raise InputError(f"{run.path}: cannot be in one record with {first.path}: {wrong[0]}")
    sessions = [(run, session) for run in runs for session in (*run.run.get("earlier_sessions", ()), run.run)]
    execution = first.run["execution"]
    for run, session in sessions:
        for part in ("device", "loader", "precision", "compile", "sync_batchnorm"):
            if (one := session["execution"].get(part, False)) != (other := execution.get(part, False)):
                raise InputError(f"{run.path}: {part} was {one}, and {other} too: no one record")
    try:
        environments = [Environment.model_validate(session["environment"]).model_dump() for _, session in sessions]
        resolved = TypeAdapter(Execution).validate_python({"checkpoint_seconds": 0, **execution})
    except ValidationError as error:
        raise InputError(f"{first.path}: {complaint(error)}") from error
    for field in MACHINE:
        values = {one[field] for one in environments}
        if field in ("processes", "machines"):
            values.discard(None)  # as an earlier fastcifar left it
        if len(values) > 1:
            raise InputError(f"{field} was {' and '.join(map(str, values))}: the runs are of several machines")
    shared = {key: one for key, one in environments[-1].items() if all(other[key] == one for other in environments)}
    shared["dirty"] = any(one["dirty"] for one in environments)
    by_epoch, optimizer = recounted(first.recipe, classes=len(first.classes))
    images = first.run["dataset"]
    return make_record(
        program=f"fastcifar {shared.get('fastcifar', '')}".rstrip(),
        name=first.name,
        protocol=protocol,
        target=first.recipe.target,
        recipe=first.recipe,
        execution=resolved,
        images=Images(train=_trained_on(first), test=images["test_images"]),
        environment=shared,
        runs=[_run(run) for run in runs],
        sources=sources_of(OwnCode(sources=first.sources(), unknown=beyond_sources(first.recipe, first.sources()))),
        work=Work(flops_per_image=by_epoch, optimizer_flops_per_step=optimizer)
        if by_epoch is not None and optimizer is not None
        else None,
    )


def _trained_on(run: Finished) -> int:
    images: int = run.run["dataset"]["train_images"]
    return run.recipe.images_of(0, images)


def _run(run: Finished) -> Run:
    result: dict[str, Any] = run.run["result"]
    begun = [*run.run.get("earlier_sessions", ()), run.run]
    try:
        return Run(
            seed=run.recipe.seed,
            started=begun[0]["started"],
            setup_seconds=result["setup_seconds"],
            wall_seconds=result["wall_seconds"] - result["setup_seconds"],
            interruptions=result.get("interruptions", 0),
            lost_seconds=result.get("lost_seconds", 0.0),
            epochs=[Epoch(**asdict(log)) for log in read_log(run)],
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{run.path}: run.json: result: not as a run writes it") from error
    except ValidationError as error:
        raise InputError(f"{run.path}: {complaint(error)}") from error
