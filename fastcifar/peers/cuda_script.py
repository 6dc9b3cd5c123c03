"""What airbench and hlb-CIFAR10 have in common, one being the other's descendant.

Either needs CUDA, looks for CIFAR-10 in the folder cifar10/ below the one it is started in (and stores what it makes of
it beside), and prints a table, a row an epoch, whose seconds are a run's so far.
"""

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from torchvision.datasets import CIFAR10

from fastcifar.bench.environment import environment
from fastcifar.errors import RunError
from fastcifar.peers.peer import Job
from fastcifar.peers.program import Line, Output, run_program
from fastcifar.records.record import Epoch, Images, Record, Run, make_record

TEST_IMAGES = 10_000


@dataclass(frozen=True)
class Row:
    """A row of the table by its headings, and the Unix time it was printed at."""

    at: float
    cells: dict[str, str]


@dataclass(frozen=True)
class Printed:
    """An epoch as printed: when, the run's training seconds up to its end, and the test accuracy, 0 to 1."""

    at: float
    seconds: float
    accuracy: float


def missing(job: Job) -> str | None:
    """Why neither program can run `job`; None if they can."""
    if job.device != "cuda":
        return f"it needs CUDA, and the device is {job.device}"
    if job.data is None or job.recipe.limit_train or job.recipe.limit_test:
        return "it trains and tests on all of CIFAR-10, which this recipe does not"
    return None


def run_beside_cifar10(command: Sequence[str], job: Job) -> tuple[float, Output]:
    """When `command` was started (Unix time) and what it printed, run in a folder that has CIFAR-10 in cifar10/."""
    assert job.data is not None  # see missing
    with tempfile.TemporaryDirectory(prefix="fastcifar-peer-") as folder:
        place = Path(folder, "cifar10")
        place.mkdir()
        (place / CIFAR10.base_folder).symlink_to(job.data / CIFAR10.base_folder)
        return time.time(), run_program(command, Path(folder), seconds=job.seconds)


def rows(lines: Iterable[Line]) -> Iterator[Row]:
    """The table's rows: |-separated cells under the last headings before them; lines without a | are skipped."""
    headings: list[str] | None = None
    for line in lines:
        text = line.text.strip()
        if not (text.startswith("|") and text.endswith("|")):
            continue
        cells = [cell.strip() for cell in text[1:-1].split("|")]
        if "epoch" in cells:
            headings = cells
        elif headings and len(cells) == len(headings):
            yield Row(line.at, dict(zip(headings, cells, strict=True)))


def by_run(output: Output, is_first: Callable[[Row], bool]) -> list[list[Row]]:
    """The table's rows, a list a run, which begins where `is_first`; not the last, which a cut may have shortened."""
    groups: list[list[Row]] = []
    for row in rows(output.lines):
        if is_first(row):
            groups.append([])
        if groups:
            groups[-1].append(row)
    return groups[:-1] if output.cut else groups


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Makes a `RunError` of whatever goes wrong in reading a table that is not as it was at the commit read."""
    try:
        yield
    except (LookupError, ValueError, ArithmeticError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise RunError(f"its table cannot be read: {type(error).__name__}: {first}") from error


def as_run(epochs: Sequence[Printed], *, earliest: float, train_images: int, eval_seconds: float | None = None) -> Run:
    """A run of the epochs printed, whose last has `eval_seconds`; it did not begin before `earliest` (Unix time).

    An epoch's seconds are the difference to those of the row above. The program does not say when a run begins: that is
    taken to be the first row's time less its training seconds, and what lies before is set-up.
    """
    logs, before = [], 0.0
    for number, printed in enumerate(epochs, start=1):
        seconds, before = printed.seconds - before, printed.seconds
        logs.append(
            Epoch(
                epoch=number,
                train_seconds=seconds,
                eval_seconds=eval_seconds if number == len(epochs) else None,
                test_accuracy=printed.accuracy,
                images_per_second=train_images / seconds,
            )
        )
    began = epochs[0].at - epochs[0].seconds
    spent = before + (eval_seconds or 0.0)
    return Run(
        seed=None,
        started=datetime.fromtimestamp(began, UTC).isoformat(timespec="milliseconds"),
        setup_seconds=max(began - earliest, 0.0),
        wall_seconds=max(epochs[-1].at - began, spent),
        epochs=logs,
    )


def as_record(job: Job, *, program: str, name: str, runs: Sequence[Run], train_images: int) -> Record:
    """The record of a program that has a recipe of its own. Raises `RunError` if there are no runs."""
    if not runs:
        raise RunError("it printed no table of epochs that can be read here")
    return make_record(
        program=program,
        name=name,
        protocol=job.protocol,
        target=job.recipe.target,
        recipe=None,
        execution=None,
        images=Images(train=train_images, test=TEST_IMAGES),
        environment=environment(job.device),
        runs=runs,
    )


def version(folder: Path) -> str:
    """The git commit of a rival's checkout, marked where it was changed; "unknown" outside one."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
