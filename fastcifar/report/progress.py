"""Runs under way on the terminal: a live display, or plain lines where the output is no terminal."""

import os
import time
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from fastcifar import stopping
from fastcifar.models import parameter_count
from fastcifar.records.measure import Watcher
from fastcifar.records.protocol import first_crossing
from fastcifar.records.record import Run
from fastcifar.report.console import PLAIN_LINE_SECONDS, Console, duration
from fastcifar.report.tables import print_lr, reached
from fastcifar.report.text import network_name, number
from fastcifar.runs.observer import RunObserver, Start
from fastcifar.training.log import EpochLog
from fastcifar.training.trainer import Trainer

_HEADING = "epoch  train s  test s    loss     acc  test loss  test acc        lr    img/s"
_ROW = (
    "{epoch:5}  {train_seconds:7.2f}  {eval_seconds:6.2f}  {train_loss:6.4f}  {train_accuracy:6.2%}  {loss:>9}"
    "  {accuracy:>8}  {learning_rate:8.3g}  {images_per_second:7,.0f}"
)


def _row(log: EpochLog) -> str:
    loss, accuracy = number(log.test_loss, ".4f"), number(log.test_accuracy, ".2%")
    return _ROW.format_map({**vars(log), "loss": loss, "accuracy": accuracy})


class _Display:
    """How far it is and the time left: a bar on a terminal, elsewhere a line at most every `PLAIN_LINE_SECONDS`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[state]}"),
            console=console,
            expand=True,
        )
        self._task = self._bar.add_task("setting up", total=None, state="")
        self._over = self._was_live = False
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=2)
        self._begin(0)
        self._cursor = stopping.last_words(self._show_cursor)

    def __enter__(self) -> Self:
        self._cursor.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._over = True
        self._live.stop()
        self._cursor.__exit__(None, None, None)

    def _show_cursor(self) -> None:
        """The last words of a process that is ended at once, in the midst of stopping the display perhaps."""
        if self._was_live:
            os.write(self._console.file.fileno(), b"\x1b[?25h\n")

    def _go_live(self, width: int = 0) -> None:
        """Begin the live display, if this is a terminal of at least `width` columns that can show it."""
        console = self._console
        if console.is_terminal and not console.is_dumb_terminal and console.width >= width:
            self._was_live = True
            self._live.start()

    def _begin(self, done: int) -> None:
        """The clock runs from here, where `done` steps have been done already."""
        self._began = self._said = time.perf_counter()
        self._before = done

    def _show(self, what: str, done: int, total: int, rate: str = "") -> None:
        now = time.perf_counter()
        left = (now - self._began) / (done - self._before) * (total - done)
        state = f"{rate}{duration(left)} left"
        if self._live.is_started:
            self._bar.update(self._task, description=what, completed=done, total=total, state=state)
        elif now - self._said >= PLAIN_LINE_SECONDS:
            self._said = now
            self._console.say(f"{what}, {state}")

    def _picture(self) -> RenderableType:
        return Group() if self._over else self._bar


class TrainingConsole(_Display, RunObserver):
    """Observes a run: what it is, then a row an epoch, and in between the step, images/s and the time left.

    >>> small = {"epochs": 1, "model": {"width": 2}, "dataset": "synthetic", "limit_train": 512}
    >>> trained = fastcifar.train("seed", **small, observers=[fastcifar.TrainingConsole()])  # doctest: +ELLIPSIS
    recipe   seed, seed 0: epochs 1, batch ...
    """

    def __init__(self, console: Console | None = None) -> None:
        self._logs: list[EpochLog] = []  # first, since a Live asks for its picture at once
        super().__init__(console or Console())

    def start(self, about: Start) -> None:
        self._console.say(*about.notes)
        if about.found:
            print_lr(self._console, about.found)
        recipe, execution, here = about.trainer.recipe, about.trainer.execution, about.environment
        device = here["gpu"] if execution.device == "cuda" else f"cpu, {here['threads']} threads"
        compiled = "eager" if execution.compile == "off" else f"compiled ({execution.compile})"
        self._console.say(
            f"recipe   {about.name}, seed {recipe.seed}: epochs {recipe.epochs}, batch {recipe.batch_size}, "
            f"target {recipe.target:.1%}",
            f"data     {about.trainer.dataset.describe()}",
            f"network  {network_name(recipe.model)}, {parameter_count(about.trainer.model):,} trained parameters",
            f"runs on  {device}, {execution.precision}, {compiled}, loader {execution.loader}; "
            f"set up in {about.trainer.setup_seconds:.1f} s",
        )
        self._epochs, self._steps = recipe.epochs, about.trainer.steps
        self._recipe, self._target = recipe, recipe.target
        self._go_live(len(_HEADING))
        if not self._live.is_started:
            self._console.say(_HEADING)
        state = about.trainer.state
        self._ahead = execution.device == "cuda"
        self._from = state.step  # of the epoch that a resumed run goes on in
        self._begin(sum(self._steps[: state.epoch]) + self._from)
        self._epoch_began = self._began
        for log in state.log:
            self._row(log)

    def note(self, line: str) -> None:
        self._console.say(line)

    def step(self, epoch: int, step: int) -> None:
        if self._ahead:  # the host only asks for the steps; how fast they are is known after the epoch
            speed = self._logs[-1].images_per_second if self._logs else None
        else:
            images = (step - self._from) * self._recipe.batch_size_of(epoch - 1)
            speed = images / max(time.perf_counter() - self._epoch_began, 1e-9)
        self._show(
            f"epoch {epoch}/{self._epochs}, step {step}/{self._steps[epoch - 1]}",
            sum(self._steps[: epoch - 1]) + step,
            sum(self._steps),
            f"{speed:,.0f} images/s, " if speed else "",
        )

    def epoch(self, log: EpochLog) -> None:
        self._from = 0
        self._epoch_began = self._said = time.perf_counter()
        self._row(log)

    def _row(self, log: EpochLog) -> None:
        self._logs.append(log)
        if not self._live.is_started:
            self._console.say(_row(log))

    def _picture(self) -> RenderableType:
        """The table of as many of the last epochs as the terminal has room for, above the bar; at the end, of all."""
        rows = [Text(_HEADING, "bold", no_wrap=True)]
        for log in self._logs[0 if self._over else -max(self._console.height - 4, 1) :]:
            style = "green" if (log.test_accuracy or 0) >= self._target else ""
            rows.append(Text(_row(log), style, no_wrap=True))
        return Group(*rows, super()._picture())


class AccuracyConsole(_Display, Watcher):
    """Observes the runs of a measurement: run i of N, epoch, time left; a line a finished run."""

    def __init__(self, console: Console, runs: int, target: float) -> None:
        super().__init__(console)
        self._runs, self._target = runs, target
        self._number: int | None = None

    def __enter__(self) -> Self:
        self._go_live()
        return super().__enter__()

    def begin(self, number: int, trainer: Trainer) -> None:
        self._epochs, self._steps = trainer.recipe.epochs, trainer.steps
        if self._number is None:  # earlier runs were not made here, and say nothing of the time left
            done = sum(self._steps[: trainer.state.epoch]) + trainer.state.step
            self._begin(number * sum(self._steps) + done)
        self._number = number

    def note(self, line: str) -> None:
        self._console.say(line)

    def step(self, epoch: int, step: int) -> None:
        assert self._number is not None
        self._show(
            f"run {self._number + 1}/{self._runs}, epoch {epoch}/{self._epochs}",
            self._number * sum(self._steps) + sum(self._steps[: epoch - 1]) + step,
            self._runs * sum(self._steps),
        )

    def making(self, done: int, runs: int, making: int) -> None:
        """Several runs are made at once; so many of `runs` are done."""
        if not done:
            self._begin(0)
            self._console.say(f"{making} run{'s' if making > 1 else ''} at once")
        else:
            self._show(f"{done}/{runs} runs, {making} under way", done, runs)

    def end(self, number: int, run: Run) -> None:
        last, seconds = run.epochs[-1], first_crossing(run.epochs, self._target)
        self._console.say(
            f"run {number + 1}/{self._runs}, seed {run.seed}: {run.final_accuracy:.2%} after epoch {last.epoch}; "
            f"{reached(self._target, seconds)}{_interrupted(run)}"
        )
        self._said = time.perf_counter()


def _interrupted(run: Run) -> str:
    if not run.interruptions:
        return ""
    times = f"{run.interruptions} time{'s' if run.interruptions > 1 else ''}"
    return f"; interrupted {times}, {run.lost_seconds:.1f} s done again"
