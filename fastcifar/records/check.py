"""Reading a record that somebody sent: nothing in it is trusted, and every figure is computed again from its log."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from fastcifar.errors import InputError, complaint, short
from fastcifar.own import file_of, own_files, own_names
from fastcifar.recipe import DATASETS, Recipe, validated
from fastcifar.records import forged
from fastcifar.records.migrate import migrated
from fastcifar.records.protocol import P_LIMIT, first_crossing
from fastcifar.records.record import SCHEMA_VERSION, Record, recipe_hash
from fastcifar.records.summary import images_by_epoch, summarise
from fastcifar.source import binds, digest

CIFAR10_SHA256 = "8b498b590fb068e9bba100bf76d66281b4873decd42f6e434612511c84623606"  # `Dataset.sha256` of all of it
MOST_NAMES = 1000  # of a table: there is a complaint for each that is unknown, and the first is enough
LARGEST = 16 * 2**20  # bytes; a million epochs do not fit, a thousand runs of 24 do


def read_record(path: Path) -> Record:
    """Read and check a record; a claim that its log does not bear out may still be in it (`require_reached`).

    Raises `InputError`, one line that names file and field.
    """
    values = _read_json(path)

    def refuse(field: str, complaint: str) -> NoReturn:
        raise InputError(f"{path}: {field}: {complaint}")

    version = values.get("schema_version")
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        refuse("schema_version", f"{short(version)} is unknown; this fastcifar reads 1 to {SCHEMA_VERSION}")
    present = migrated(values)
    try:
        record = Record.model_validate_json(json.dumps(present))
    except ValidationError as error:
        raise InputError(f"{path}: {complaint(error)}") from error
    if record.recipe is None:
        if record.recipe_hash is not None:
            refuse("recipe_hash", "there is no recipe")
    else:
        stated = _flat("recipe", present["recipe"])
        for field in _flat("recipe", asdict(record.recipe)):
            if field not in stated:  # today's default is in its place now
                refuse(field, "is missing; a record has the whole recipe")
        validated(asdict(record.recipe), prefix=f"{path}: recipe.")
        if record.recipe_hash != (found := recipe_hash(values["recipe"])):
            refuse("recipe_hash", f"is not that of the recipe, which is {found}")
        _check_recipe(record, record.recipe, refuse)
    forged.check_program(record, refuse)
    forged.check_hardware(record, refuse)
    _check_sources(record, refuse)
    _check_work(record, refuse)
    _check_runs(record, refuse)
    _check_summary(record, refuse)
    return record


def require_reached(record: Record, path: Path) -> None:
    """Raises `InputError` if the record's claim does not hold: a run below its target, or a p above 0.01."""
    if record.summary.reached:
        return
    if record.protocol == "first-crossing":
        for number, run in enumerate(record.runs):
            if first_crossing(run.epochs, record.target) is None:
                raise InputError(
                    f"{path}: runs.{number}: never reaches the target of {record.target:.2%}; its best is "
                    f"{run.best_accuracy:.2%}"
                )
    mean = record.summary.final_accuracy.mean
    if mean < record.target:
        raise InputError(f"{path}: summary.final_accuracy.mean: {mean:.3%} is below the target of {record.target:.2%}")
    p = (
        "no p, which takes two runs or more, not all of one accuracy"
        if record.summary.p is None
        else f"p = {record.summary.p:.3g}"
    )
    raise InputError(f"{path}: summary.p: {p}; fixed-budget needs p < {P_LIMIT}")


def require_work(record: Record, path: Path) -> None:
    """Raises `InputError` if the operations in the record are not those that its recipe's network takes.

    They are counted again, which imports torch and runs no code but that of networks that ship: those of others stand
    as they are, as do those on custom images, whose number of classes is not in the record.
    """
    recipe, work = record.recipe, record.work
    if recipe is None or work is None or recipe.dataset not in DATASETS:
        return
    from fastcifar.bench.flops import recounted

    try:
        by_epoch, optimizer = recounted(recipe, classes=DATASETS[recipe.dataset])
    except InputError as error:
        raise InputError(f"{path}: recipe.{error}") from error
    found = [
        (f"flops_per_image.{epoch}", *pair)
        for epoch, pair in enumerate(zip(work.flops_per_image, by_epoch or (), strict=False))
    ]
    if optimizer is not None:
        found.append(("optimizer_flops_per_step", work.optimizer_flops_per_step, optimizer))
    for name, value, right in found:
        if not math.isclose(value, right, rel_tol=1e-6):
            raise InputError(f"{path}: work.{name}: {value:.12g}, but what the recipe names takes {right:.12g}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is not a file")
        if (size := path.stat().st_size) > LARGEST:
            raise InputError(f"{path}: {size / 2**20:,.0f} MiB; a record has at most {LARGEST // 2**20}")
        values = json.loads(path.read_bytes(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        complaint = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"{path}: not a JSON file: {complaint}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a record: a JSON object is needed, not {short(values)}")
    return values


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_NAMES:
        raise ValueError(f"{len(pairs):,} names in one object; a record's have at most {MOST_NAMES:,}")
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _check_recipe(record: Record, recipe: Recipe, refuse: forged.Refuse) -> None:
    """The record is of this recipe: target, number of images, number of epochs, seeds."""
    if record.target != recipe.target:
        refuse("target", f"{record.target} is not the recipe's {recipe.target}")
    if record.evaluation is not None:
        refuse("evaluation", "is said by the recipe")
    whole = recipe.limit_train is None and recipe.limit_test is None and recipe.validation is None
    if whole and recipe.dataset == "cifar10" and recipe.dataset_sha256 not in (None, CIFAR10_SHA256):
        refuse("recipe.dataset_sha256", f"is not CIFAR-10's, which is {CIFAR10_SHA256}")
    forged.check_images(record, recipe, refuse)
    for number, run in enumerate(record.runs):
        seed = recipe.seed + number  # in sequence, so that no run can be left out
        if run.seed != seed:
            refuse(
                f"runs.{number}.seed",
                f"{run.seed}; the seeds count up from the recipe's {recipe.seed}, so it should be {seed}",
            )
    forged.check_end(record, recipe, refuse)


def _check_sources(record: Record, refuse: forged.Refuse) -> None:
    """The record has the custom code that its recipe names, byte by byte, and no other."""
    recipe = record.recipe
    named = own_files(recipe) if recipe else {}
    for number, source in enumerate(record.sources):
        place = f"sources.{number}"
        if source.file not in named:
            refuse(f"{place}.file", f"{short(source.file)} is no file that the recipe names, or stands there twice")
        if source.sha256 != (found := digest(source.text)):
            refuse(f"{place}.sha256", f"is not that of the text, which is {found}")
        if source.sha256 != named.pop(source.file):
            refuse(f"{place}.sha256", "is not the one in the recipe")
        names = own_names(recipe).values() if recipe else ()
        if not all(binds(source.text, name) for name in names if file_of(name) == source.file):
            refuse(f"{place}.text", "has nothing of the name that the recipe has")
    if named:
        refuse("sources", f"{short(next(iter(named)))} is missing, which the recipe names")
    if recipe:
        parts = (recipe.model, "sha256"), (recipe.optimizer, "sha256"), (recipe.augmentation, "own_sha256")
        stated = {getattr(part, field, None) for part, field in parts} - {None}
        if stated != {source.sha256 for source in record.sources}:
            refuse("recipe", "has a sha256 that no source has")


def _check_work(record: Record, refuse: forged.Refuse) -> None:
    """There is a number of operations for each epoch."""
    if record.work is None:
        return
    if record.recipe is None:
        refuse("work", "there is no recipe")
    elif (number := len(record.work.flops_per_image)) != record.recipe.epochs:
        refuse("work.flops_per_image", f"{number} epochs; the recipe has {record.recipe.epochs}")


def _check_runs(record: Record, refuse: forged.Refuse) -> None:
    """Every run's log is one that a machine could have written."""
    seeds = [run.seed for run in record.runs if run.seed is not None]
    images = images_by_epoch(record.images, record.recipe, record.runs)
    forged.check_times(record, refuse)
    forged.check_different(record, refuse)
    forged.check_answers(record, refuse)
    for number, run in enumerate(record.runs):
        place = f"runs.{number}"
        if run.seed is not None and run.seed in seeds[:number]:
            refuse(f"{place}.seed", f"{run.seed} stands in an earlier run already")
        spent = math.fsum(epoch.train_seconds + (epoch.eval_seconds or 0) for epoch in run.epochs)
        if spent + run.lost_seconds > run.wall_seconds * 1.001 + 0.01:
            lost = f", and {run.lost_seconds:g} s were done again" if run.lost_seconds else ""
            refuse(f"{place}.wall_seconds", f"{run.wall_seconds:g} s, but its epochs took {spent:g} s{lost}")
        if run.lost_seconds and not run.interruptions:
            refuse(f"{place}.lost_seconds", f"{run.lost_seconds:g} s, but the run was not interrupted")
        for index, epoch in enumerate(run.epochs):
            line = f"{place}.epochs.{index}"
            if epoch.epoch != index + 1:
                refuse(f"{line}.epoch", f"{epoch.epoch} stands where {index + 1} belongs")
            due = index + 1 == len(run.epochs) or record.recipe is None or record.recipe.tested_after(index + 1)
            if (epoch.test_accuracy is not None) != due:
                refuse(f"{line}.test_accuracy", f"{epoch.test_accuracy}; it is {'' if due else 'not '}tested then")
            right = (epoch.test_accuracy or 0.0) * record.images.test
            if abs(right - round(right)) > 1e-3:
                refuse(
                    f"{line}.test_accuracy",
                    f"{epoch.test_accuracy} of {record.images.test:,} images is no whole number of images",
                )
            rate = images[index] / epoch.train_seconds
            if not math.isclose(epoch.images_per_second, rate, rel_tol=1e-6):
                refuse(f"{line}.images_per_second", f"{epoch.images_per_second:g}; by its seconds it is {rate:g}")
    forged.check_rates(record, images, refuse)


def _check_summary(record: Record, refuse: forged.Refuse) -> None:
    """The summary follows from the log."""
    images = images_by_epoch(record.images, record.recipe, record.runs)
    summary = summarise(record.runs, record.protocol, record.target, images, record.work)
    expected = _flat("summary", summary.model_dump())
    stated = _flat("summary", record.summary.model_dump())
    for field in stated | expected:
        value, right = stated.get(field, "nothing"), expected.get(field, "nothing")
        both = isinstance(value, float) and isinstance(right, float)
        if not (math.isclose(value, right, rel_tol=1e-6, abs_tol=1e-9) if both else value == right):
            refuse(field, f"{short(value)}, but from the log follows {short(right)}")


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    """The leaves of nested dicts, by their path."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {name: leaf for key, one in value.items() for name, leaf in _flat(f"{prefix}.{key}", one).items()}
