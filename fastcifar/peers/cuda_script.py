"""What airbench, cifar10-speedrun and hlb-CIFAR10 have in common, each of them another's descendant.

Each needs CUDA, looks for CIFAR-10 in the folder cifar10/ below the one it is started in (and stores what it makes of
it beside), and prints a table, a row an epoch or a run, whose seconds are a run's so far. It cannot be told a number of
runs.
"""

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from torchvision.datasets import CIFAR10

from fastcifar.bench.environment import environment, git
from fastcifar.errors import RunError
from fastcifar.peers.peer import BrokenError, Job, Peer
from fastcifar.peers.program import Line, Output, ProgramError, run_program
from fastcifar.records.record import Epoch, Images, Record, Run
from fastcifar.records.summary import make_record


@dataclass(frozen=True)
class Row:
    """A row of the table by its headings, and the Unix time it was printed at."""

    at: float
    cells: dict[str, str]

    @property
    def is_first(self) -> bool:
        """Whether a run begins here: airbench's table has a column for that, hlb-CIFAR10's has not."""
        return bool(self.cells["run"]) if "run" in self.cells else self.cells["epoch"] == "0"

    @property
    def seconds(self) -> float:
        """The run's training seconds up to the epoch's end; airbench94_muon.py has another heading over them."""
        return float(self.cells.get("time_seconds") or self.cells["total_time_seconds"])

    @property
    def accuracy(self) -> float:
        """Test accuracy, 0 to 1: the one that the program claims, of augmented images or averaged weights, if there."""
        return float(self.cells.get("tta_val_acc") or self.cells.get("ema_val_acc") or self.cells["val_acc"])


class CudaScript(Peer):
    """A rival's script, which is started once and makes all its runs."""

    def missing(self, job: Job) -> str | None:
        """Why it cannot run here."""
        if job.device != "cuda":
            return f"it needs CUDA, and the device is {job.device}"
        recipe = job.recipe
        if recipe.dataset != "cifar10" or recipe.limit_train or recipe.limit_test or recipe.validation:
            return "it trains and tests on all of CIFAR-10, which this recipe does not"
        return None

    def repeats(self, job: Job) -> bool:
        """It makes as many runs as it likes."""
        return False

    def epochs(self, rows: list[Row]) -> tuple[list[Row], Row | None]:
        """A run's rows that stand for an epoch each, and one for an evaluation after the last, if it has that."""
        raise NotImplementedError

    def record(
        self, job: Job, command: Sequence[str], *, program: str, name: str, train_images: int, evaluation: str
    ) -> Record:
        """The record of Python's `command`, run in a folder that has CIFAR-10 in cifar10/.

        `evaluation` says what its accuracies are of, in the leaderboard's words. Raises `RunError`; `BrokenError` where
        runs were finished before the program failed.
        """
        assert job.data is not None  # that of CIFAR-10: see missing
        with tempfile.TemporaryDirectory(prefix="fastcifar-peer-") as folder:
            place = Path(folder, "cifar10")
            place.mkdir()
            (place / CIFAR10.base_folder).symlink_to(job.data / CIFAR10.base_folder)
            started = time.time()

            def finished_one(lines: Sequence[Line]) -> bool:
                try:  # what it takes to compile is in its first run
                    return bool(self.parse(Output(list(lines), "", cut=True), started, train_images))
                except RunError:
                    return True  # of a table that cannot be read more rows are none the better

            failure = None
            try:
                output = run_program(
                    [sys.executable, "-u", *command], Path(folder), seconds=job.seconds, enough=finished_one
                )
            except ProgramError as error:
                failure, output = error, Output(error.lines, error.said, cut=True)
        runs = self.parse(output, started, train_images)
        if failure and not runs:
            raise failure
        if not runs and output.cut:
            raise RunError(f"it did not finish a run within {job.patience:g} s")
        if not runs:
            raise RunError("it printed no table of epochs that can be read here")
        record = make_record(
            program=program,
            name=name,
            protocol=job.protocol,
            target=job.recipe.target,
            recipe=None,
            execution=None,
            images=Images(train=train_images, test=10_000),
            environment=environment(job.device),
            runs=runs,
            evaluation=evaluation,
        )
        if failure:
            raise BrokenError(str(failure), record) from failure
        return record

    def parse(self, output: Output, started: float, train_images: int) -> list[Run]:
        """The finished runs in what was printed since `started` (Unix time).

        Raises `RunError` where the table is not as it was at the commit read.
        """
        groups: list[list[Row]] = []
        for row in _rows(output.lines):
            if row.is_first:
                groups.append([])
            if groups:
                groups[-1].append(row)
        runs, earliest = [], started
        for group in groups[:-1] if output.cut else groups:  # the last may have been cut short
            if group[0].cells.get("run") == "warmup":
                continue
            try:
                runs.append(_run(*self.epochs(group), earliest, train_images))
            except (LookupError, ValueError, ArithmeticError) as error:
                first = (str(error).splitlines() or [""])[0]
                raise RunError(f"its table cannot be read: {type(error).__name__}: {first}") from error
            earliest = group[-1].at
        return runs


class CheckoutScript(CudaScript):
    """A rival that is one script, at the top of its checkout."""

    script: str
    train_images: int
    """Of an epoch."""
    evaluation: str
    """What its accuracies are of: see `record`."""

    def missing(self, job: Job) -> str | None:
        """Why it cannot run here."""
        if reason := super().missing(job):
            return reason
        if job.path is None:
            return f"no --peer {self.name}=PATH with a checkout of {self.url}"
        return None if (job.path / self.script).is_file() else f"no {self.script} in {job.path}"

    def run(self, job: Job) -> Record:
        """All its runs."""
        assert job.path is not None  # see missing
        version = git(job.path, "describe", "--always", "--dirty") or "unknown"
        return self.record(
            job,
            [str(job.path / self.script)],
            program=f"{self.name} {version}",
            name=self.name,
            train_images=self.train_images,
            evaluation=self.evaluation,
        )


def _rows(lines: Iterable[Line]) -> Iterator[Row]:
    """The table's rows: |-separated cells under the last headings before them; lines without a | are skipped."""
    headings: list[str] = []
    for line in lines:
        text = line.text.strip()
        if not (text.startswith("|") and text.endswith("|")):
            continue
        cells = [cell.strip() for cell in text[1:-1].split("|")]
        if "epoch" in cells:
            headings = cells
        elif len(cells) == len(headings):
            yield Row(line.at, dict(zip(headings, cells, strict=True)))


def _run(rows: Sequence[Row], evaluation: Row | None, earliest: float, train_images: int) -> Run:
    """A run that did not begin before `earliest` (Unix time); the `evaluation` is its last epoch's.

    An epoch's seconds are the difference to those of the row above. The program does not say when a run begins: that is
    taken to be the first row's time less its training seconds, and what lies before is set-up.
    """
    last = evaluation or rows[-1]
    times = [0.0, *(row.seconds for row in rows)]
    epochs = []
    for number, row in enumerate(rows, start=1):
        ends, seconds = row is rows[-1], times[number] - times[number - 1]
        epochs.append(
            Epoch(
                epoch=number,
                train_seconds=seconds,
                eval_seconds=evaluation.seconds - row.seconds if ends and evaluation else None,
                test_accuracy=(last if ends else row).accuracy,
                images_per_second=train_images / seconds,
            )
        )
    began = rows[0].at - rows[0].seconds
    return Run(
        seed=None,
        started=datetime.fromtimestamp(began, UTC).isoformat(timespec="milliseconds"),
        setup_seconds=max(began - earliest, 0.0),
        wall_seconds=max(last.at - began, last.seconds),
        epochs=epochs,
    )
