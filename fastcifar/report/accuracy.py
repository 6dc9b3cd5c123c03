"""Time to accuracy on the terminal: how the runs go, and what they came to."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from fastcifar.measure.record import Interval, Record, Run
from fastcifar.measure.time_to_accuracy import P_LIMIT, first_crossing, fixed_budget, runs_to_settle
from fastcifar.report.console import PLAIN_LINE_SECONDS, duration
from fastcifar.training.log import EpochLog
from fastcifar.training.trainer import Trainer


class AccuracyConsole:
    """Observes the runs: run i of N, epoch, time left; a line a finished run. Plain lines where no terminal is."""

    def __init__(self, console: Console, runs: int, target: float) -> None:
        self._console, self._runs, self._target = console, runs, target
        self._epochs = self._steps = 1
        self._first: int | None = None  # the number of the first run made here
        self._number, self._began = 0, time.perf_counter()
        self._line_printed = self._began
        self._progress = Progress(TextColumn("{task.description}"), BarColumn(bar_width=None), console=console)
        self._task = self._progress.add_task("setting up", total=None)

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.update(self._task, visible=False)
        self._progress.stop()

    def begin(self, number: int, trainer: Trainer) -> None:
        """Run `number` (from 0) is about to start."""
        self._number, self._epochs, self._steps = number, trainer.recipe.epochs, trainer.steps_per_epoch
        if self._first is None:
            self._first, self._began = number, time.perf_counter()

    def step(self, epoch: int, step: int) -> None:
        """A step has been asked of the device."""
        now = time.perf_counter()
        here = ((self._number * self._epochs + epoch - 1) * self._steps) + step
        first = (self._first or 0) * self._epochs * self._steps
        total = self._runs * self._epochs * self._steps
        left = (now - self._began) / (here - first) * (total - here)
        state = f"run {self._number + 1}/{self._runs}, epoch {epoch}/{self._epochs}, {duration(left)} left"
        if self._progress.live.is_started:
            self._progress.update(self._task, description=state, completed=here, total=total)
        elif now - self._line_printed >= PLAIN_LINE_SECONDS:
            self._line_printed = now
            self._print(state)

    def epoch(self, log: EpochLog) -> None:
        """An epoch is over."""

    def end(self, number: int, run: Run) -> None:
        """Run `number` is over."""
        last = run.epochs[-1]
        crossed = first_crossing(run.epochs, self._target)
        reached = "not reached" if crossed is None else f"reached after {crossed:,.1f} s of training"
        self._print(
            f"run {number + 1}/{self._runs}, seed {run.seed}: {last.test_accuracy:.2%} after epoch {last.epoch}; "
            f"{self._target:.1%} {reached}"
        )
        self._line_printed = time.perf_counter()

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_accuracy(console: Console, record: Record) -> None:
    """A row a run, their mean with its 95 % confidence interval, and what the protocol makes of it."""
    crossing = record.protocol == "first-crossing"
    table = Table(box=None, pad_edge=False, header_style="bold")
    time_to = f"s to {record.target:.1%}" if crossing else "s in all"
    for heading in ("", time_to, "final accuracy", "images/s"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for run in record.runs:
        seconds = first_crossing(run.epochs, record.target) if crossing else fixed_budget(run.epochs)
        images = record.images.train * len(run.epochs) / sum(epoch.train_seconds for epoch in run.epochs)
        table.add_row(
            f"seed {run.seed}",
            "not reached" if seconds is None else f"{seconds:,.2f}",
            f"{run.epochs[-1].test_accuracy:.2%}",
            f"{images:,.0f}",
        )
    summary = record.summary
    table.add_row(
        f"mean of {summary.runs}",
        "" if summary.seconds is None else _spread(summary.seconds, ",.2f"),
        _spread(summary.final_accuracy, ".2%"),
        _spread(summary.images_per_second, ",.0f"),
        style="bold",
    )
    console.print(table)
    console.print(_verdict(record), highlight=False, markup=False, soft_wrap=True)


def _spread(one: Interval, form: str) -> str:
    if one.low is None or one.high is None:
        return format(one.mean, form)
    return f"{format(one.mean, form)} ± {format((one.high - one.low) / 2, form)}"


def _verdict(record: Record) -> str:
    """One or two lines: does the claim hold, and if it is not settled, what would settle it."""
    target, summary = f"{record.target:.2%}", record.summary
    if record.protocol == "first-crossing":
        if summary.reached:
            return f"{target} reached in every run (first-crossing; ± is the 95 % confidence interval)"
        missed = sum(first_crossing(run.epochs, record.target) is None for run in record.runs)
        return f"{target} not reached in {missed} of {summary.runs} runs: no claim"
    if summary.p is None:
        return f"fixed-budget needs two runs or more to test that the mean is above {target}: no claim"
    said = f"mean final accuracy above {target}: p = {summary.p:.3g} (one-sided t-test, {P_LIMIT} needed)"
    if summary.reached:
        return f"{said}: the claim holds"
    more = runs_to_settle([run.epochs[-1].test_accuracy for run in record.runs], record.target)
    settle = "no number of runs like these would settle it" if more is None else f"{more} more runs like these would"
    return f"{said}: not settled; {settle}"
