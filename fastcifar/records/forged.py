"""What no machine can have measured and no trainer of ours have trained, whatever a record says: where a forger was
careless. `fastcifar.records.check` calls all of it, with its `refuse`, which takes a field and what is wrong there.
"""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import NoReturn, Protocol

from fastcifar.recipe import DATASETS, Recipe
from fastcifar.records.record import Epoch, Record
from fastcifar.training.log import epochs_to

BANDWIDTH = 1e13  # bytes/s of one device's memory, which is beyond any that there is
TRAIN, TEST = 50_000, 10_000  # images of each data set that ships
FIRST = datetime(2009, 1, 1, tzinfo=UTC)  # CIFAR-10 was published that year
WRITTEN = datetime(2026, 11, 26, tzinfo=UTC)  # this check; a clock that stands before it is wrong
CLOCK_STEP = timedelta(seconds=2)  # of a clock that is being set, in all runs together


class Refuse(Protocol):
    """Raises `InputError` at a field, by its dotted name."""

    def __call__(self, field: str, complaint: str) -> NoReturn: ...


def is_ours(record: Record) -> bool:
    """Whether the program says that it is fastcifar, whatever its version and however it spells that."""
    return re.sub(r"[\W_]", "", record.program).lower().startswith("fastcifar")


def check_program(record: Record, refuse: Refuse) -> None:
    """fastcifar says what it trained and how; else the checks of both could be had out of the way."""
    if is_ours(record):
        for field in ("recipe", "execution"):
            if getattr(record, field) is None:
                refuse(field, f"there is none, which only a rival's program may leave out; this is {record.program}")


def check_hardware(record: Record, refuse: Refuse) -> None:
    """GPUs have a name and a number or there are none, as the execution says; and nothing was left to be found."""
    environment, execution = record.environment, record.execution
    named, used = environment.gpu is not None, environment.gpus
    if execution:
        device = execution.device
        if used is not None and (used > 0) != (device == "cuda"):
            refuse("environment.gpus", f"{used} used, but the runs were on {device}")
        if named != (device == "cuda"):
            refuse("environment.gpu", f"{'one' if named else 'none'} is named, but the runs were on {device}")
        for field in ("loader", "precision", "compile"):
            if (value := getattr(execution, field)).strip().lower() in ("", "auto"):
                refuse(f"execution.{field}", f"{value!r} is not what was executed")
        if device == "cpu" and execution.precision == "float16":
            refuse("execution.precision", "float16 does not train on a CPU")
    elif used is not None and (used > 0) != named:
        refuse("environment.gpus", f"{used} used, but {'one' if named else 'none'} is named")


def check_images(record: Record, recipe: Recipe, refuse: Refuse) -> None:
    """There are as many images as the recipe asks for, and as the data set has."""
    ships = recipe.dataset in DATASETS
    held_out, whole = recipe.validation or 0, TRAIN if ships else None
    if whole and held_out >= whole:
        refuse("recipe.validation", f"{held_out:,} of the {whole:,} training images")
    there = {"train": whole and whole - held_out, "test": recipe.validation or (TEST if ships else None)}
    for part, limit in (("train", recipe.limit_train), ("test", recipe.limit_test)):
        total, stated = there[part], getattr(record.images, part)
        if limit and total and limit > total:
            refuse(f"recipe.limit_{part}", f"{limit:,} images, of which there are {total:,}")
        if (total := limit or total) is None:
            continue  # of custom images
        if part == "train":
            if (size := max(recipe.batch_size_of(epoch) for epoch in range(recipe.epochs))) > total:
                refuse("recipe.batch_size", f"{size:,} is more than the {total:,} training images")
            total = recipe.images_of(0, total)
        if stated != total:
            refuse(f"images.{part}", f"{stated:,} images; by the recipe it is {total:,}")


def check_end(record: Record, recipe: Recipe, refuse: Refuse) -> None:
    """Each run has the recipe's epochs, or ends where the recipe says that it stops."""
    if recipe.stop_at_target and record.protocol == "fixed-budget":
        refuse("recipe.stop_at_target", "fixed-budget times the whole recipe")
    for number, run in enumerate(record.runs):
        crossed = epochs_to(recipe.target, run.epochs) if recipe.stop_at_target else None
        if len(run.epochs) not in (recipe.epochs, min(crossed or recipe.epochs, recipe.epochs)):
            refuse(f"runs.{number}.epochs", f"{len(run.epochs)} epochs; the recipe has {recipe.epochs}")
        if crossed and crossed < len(run.epochs):
            refuse(f"runs.{number}.epochs.{crossed}", "stands after the target was reached, where the recipe stops")


def check_different(record: Record, refuse: Refuse) -> None:
    """No run stands there twice: a clock, if nothing else, tells two runs apart."""
    seen: dict[tuple[Epoch, ...], int] = {}
    for number, run in enumerate(record.runs):
        earlier = seen.setdefault(tuple(run.epochs), number)
        if earlier != number:
            refuse(f"runs.{number}.epochs", f"are those of runs.{earlier} to the last digit: one run, given twice")


def check_times(record: Record, refuse: Refuse) -> None:
    """Each worker's runs, in the record's order where it was the only one, began one after the other, since there is
    CIFAR-10, and none in the future."""
    now = max(datetime.now(UTC), WRITTEN)
    of_workers: dict[int | None, list[tuple[datetime, int]]] = {}
    for number, run in enumerate(record.runs):
        try:
            began = datetime.fromisoformat(run.started)
        except ValueError:
            refuse(f"runs.{number}.started", f"{run.started} is no time")
        _end(began, number, record, refuse)
        if not FIRST <= began <= now + timedelta(days=1):
            why = "before there was CIFAR-10" if began < FIRST else "yet to come"
            refuse(f"runs.{number}.started", f"{run.started} is {why}")
        of_workers.setdefault(run.worker, []).append((began, number))
    for worker, runs in of_workers.items():
        if worker is not None:
            runs.sort()  # one that was lost is made again later, by whoever is free
        end = before = FIRST
        for began, number in runs:
            run, place = record.runs[number], f"runs.{number}.started"
            if began < end - CLOCK_STEP:
                refuse(place, f"{run.started} is before the run before it had ended")
            if began == before:
                refuse(place, f"{run.started} is when the run before it began")
            # What one run is given, a clock's step, those after it have no more.
            before, end = began, _end(max(began, end), number, record, refuse)


def _end(began: datetime, number: int, record: Record, refuse: Refuse) -> datetime:
    run = record.runs[number]
    try:
        return began + timedelta(seconds=run.wall_seconds)
    except OverflowError:
        refuse(f"runs.{number}.started", f"{run.started} with {run.wall_seconds:g} s after it is no time")


def check_answers(record: Record, refuse: Refuse) -> None:
    """A wrong answer has at most half of the probability, and so a loss of ln 2 at the least."""
    if record.recipe is None:
        return
    for number, run in enumerate(record.runs):
        for index, epoch in enumerate(run.epochs):
            place = f"runs.{number}.epochs.{index}"
            if epoch.test_loss is not None and epoch.test_accuracy is not None:
                least = (1 - epoch.test_accuracy) * math.log(2)
                if epoch.test_loss < 0.999 * least:
                    refuse(f"{place}.test_loss", f"{epoch.test_loss:g}; wrong answers alone make it {least:.3g}")


def check_rates(record: Record, images: list[int], refuse: Refuse) -> None:
    """Nothing was faster than a device can read its images once, a byte a value; `images` are those of each epoch."""
    devices = max(record.environment.gpus or 1, 1)
    for number, run in enumerate(record.runs):
        for index, epoch in enumerate(run.epochs):
            side = record.recipe.image_size_of(index) if record.recipe else 32
            for field, count, size, seconds in (
                ("train_seconds", images[index], side, epoch.train_seconds),
                ("eval_seconds", record.images.test, 32, epoch.eval_seconds),
            ):
                if seconds is None or (field == "eval_seconds" and epoch.test_accuracy is None):
                    continue
                least = count * 3 * size**2 / (devices * BANDWIDTH)
                if seconds < least:
                    refuse(
                        f"runs.{number}.epochs.{index}.{field}",
                        f"{seconds:g} s for {count:,} images; to read them takes a device {least:.2g} s at the least",
                    )
