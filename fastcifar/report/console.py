"""A run on the terminal: a live table and a progress bar, or plain lines where the output is no terminal."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import torch
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from fastcifar.data.dataset import Dataset
from fastcifar.execution import Execution
from fastcifar.model import parameter_count
from fastcifar.training.log import EpochLog, Result
from fastcifar.training.trainer import Trainer

PLAIN_LINE_SECONDS = 30.0


class TrainingConsole:
    """Observes a run: one row an epoch, and in between the step, images/s and the time left."""

    def __init__(self, console: Console, trainer: Trainer) -> None:
        self._console = console
        self._epochs, self._steps = trainer.recipe.epochs, trainer.steps_per_epoch
        self._batch_size, self._target = trainer.recipe.batch_size, trainer.recipe.target
        self._live: Live | None = None
        self._epoch_started = self._line_printed = time.perf_counter()
        self._logs: list[EpochLog] = []
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[state]}"),
            console=console,
            expand=True,
        )
        self._task = self._progress.add_task(
            "training", total=self._epochs * self._steps, epoch=1, epochs=self._epochs, state=""
        )

    def __enter__(self) -> Self:
        console = self._console
        if console.is_terminal and not console.is_dumb_terminal and console.width >= _TABLE_WIDTH:
            self._live = Live(self._picture(), console=self._console, refresh_per_second=2)
            self._live.start()
        else:
            self._print(_line(_COLUMNS))
        self._epoch_started = self._line_printed = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._progress.update(self._task, visible=False)
            self._live.vertical_overflow = "visible"  # all epochs stay, however many
            self._live.update(self._picture(len(self._logs)), refresh=True)
            self._live.stop()

    def step(self, epoch: int, step: int) -> None:
        now = time.perf_counter()
        if self._live:
            self._progress.update(
                self._task,
                completed=(epoch - 1) * self._steps + step,
                epoch=epoch,
                state=self._state(epoch, step, now),
            )
        elif now - self._line_printed >= PLAIN_LINE_SECONDS and step < self._steps:
            self._line_printed = now
            self._print(f"epoch {epoch}/{self._epochs}, step {step}/{self._steps}, {self._state(epoch, step, now)}")

    def epoch(self, log: EpochLog) -> None:
        self._logs.append(log)
        self._epoch_started = self._line_printed = time.perf_counter()
        if self._live:
            self._live.update(self._picture())
        else:
            self._print(_line(_cells(log)))

    def _state(self, epoch: int, step: int, now: float) -> str:
        speed = step * self._batch_size / max(now - self._epoch_started, 1e-9)
        past = [log.train_seconds + log.eval_seconds for log in self._logs]
        an_epoch = past[-1] if past else self._steps * self._batch_size / speed
        left = (self._steps - step) * self._batch_size / speed + (self._epochs - epoch) * an_epoch
        return f"{speed:,.0f} images/s, {duration(left)} left"

    def _picture(self, epochs: int | None = None) -> Group:
        """The table of the last `epochs` epochs, or of as many as the terminal has room for, above the progress bar."""
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        for heading, width in zip(_COLUMNS, _WIDTHS, strict=True):
            table.add_column(heading, justify="right", no_wrap=True, min_width=width)
        for log in self._logs[-(epochs or max(self._console.height - 4, 1)) :]:
            table.add_row(*_cells(log), style="green" if log.test_accuracy >= self._target else None)
        return Group(table, self._progress)

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def print_start(
    console: Console, name: str, trainer: Trainer, dataset: Dataset, execution: Execution, notes: list[str]
) -> None:
    """The first lines of a run: what will be trained, on what, and how."""
    recipe = trainer.recipe
    device = torch.cuda.get_device_name() if execution.device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    compiled = "eager" if execution.compile == "off" else f"compiled ({execution.compile})"
    lines = [
        *notes,
        f"recipe   {name}, seed {recipe.seed}: epochs {recipe.epochs}, batch {recipe.batch_size}, "
        f"target {recipe.target:.1%}",
        f"data     {dataset.describe()}",
        f"network  width {recipe.model.width}, {parameter_count(trainer.model):,} parameters",
        f"runs on  {device}, {execution.precision}, {compiled}, loader {execution.loader}; "
        f"set up in {trainer.setup_seconds:.1f} s",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_result(console: Console, result: Result, target: float) -> None:
    """The last lines of a run."""
    if result.time_to_target is None:
        reached = f"{target:.1%} not reached"
    else:
        reached = f"{target:.1%} reached after {result.time_to_target:,.1f} s of training"
    console.print(
        f"test accuracy {result.final_accuracy:.2%} (best {result.best_accuracy:.2%}) after epoch {result.epochs}; "
        f"{reached}\n"
        f"{result.train_seconds:,.1f} s training, {result.eval_seconds:,.1f} s testing, "
        f"{result.setup_seconds:,.1f} s setting up",
        highlight=False,
        soft_wrap=True,
    )


_COLUMNS = ("epoch", "train s", "test s", "loss", "acc", "test loss", "test acc", "lr", "img/s")
_WIDTHS = (5, 7, 6, 6, 6, 9, 8, 8, 7)
_TABLE_WIDTH = sum(_WIDTHS) + 2 * (len(_WIDTHS) - 1)


def _line(cells: Sequence[str]) -> str:
    return "  ".join(f"{cell:>{width}}" for width, cell in zip(_WIDTHS, cells, strict=True))


def _cells(log: EpochLog) -> tuple[str, ...]:
    return (
        str(log.epoch),
        f"{log.train_seconds:.2f}",
        f"{log.eval_seconds:.2f}",
        f"{log.train_loss:.4f}",
        f"{log.train_accuracy:.2%}",
        f"{log.test_loss:.4f}",
        f"{log.test_accuracy:.2%}",
        f"{log.learning_rate:.3g}",
        f"{log.images_per_second:,.0f}",
    )


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
