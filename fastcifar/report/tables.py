"""What is printed of runs, their answers and records: tables, and plain lines below them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import rich.console
from rich.cells import cell_len
from rich.console import RenderResult
from rich.table import Table
from rich.text import Text

from fastcifar.errors import printable
from fastcifar.records.protocol import P_LIMIT, first_crossing, fixed_budget, runs_to_settle
from fastcifar.records.quiet import beside, unclean
from fastcifar.records.summary import FEW, ends, images_by_epoch, images_per_second, optimizer_petaflops
from fastcifar.report.console import Console
from fastcifar.report.text import NONE, number

if TYPE_CHECKING:  # most of these import torch, which takes seconds: a leaderboard is printed without it
    import numpy as np
    from numpy.typing import NDArray

    from fastcifar.peers.compare import Outcome
    from fastcifar.records.leaderboard import Group, Published
    from fastcifar.records.record import Interval, Record
    from fastcifar.runs.predictions import Scores
    from fastcifar.training.log import Result
    from fastcifar.training.lr_finder import LrRange

TOP = 5
BELOW = "\n{}–{}"  # the least and the most, in a column that stays narrow
WORD = 3  # columns in which words can still be read, broken


class _Table(Table):
    """Where there is no room for its columns, a line for each value, with its heading before it."""

    def __rich_console__(self, console: rich.console.Console, options: rich.console.ConsoleOptions) -> RenderResult:
        columns = [[str(cell) for cell in (column.header, *column.cells)] for column in self.columns]
        widths = [max(map(cell_len, cells)) for cells in columns]
        least = (width if one.no_wrap else min(width, WORD) for width, one in zip(widths, self.columns, strict=True))
        if sum(least) + 2 * (len(widths) - 1) <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        if self.title:
            yield self.title
        headings, *rows = zip(*columns, strict=True)
        for row in rows:
            said = (f"{heading} {cell}".strip() for heading, cell in zip(headings, row, strict=True) if cell.strip())
            yield Text("\n".join(said) + "\n", overflow="fold")


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    left: Sequence[str] = ("",),
    title: str = "",
    bold: int | None = None,
) -> Table:
    """Columns with a heading in `left` hold words, which may wrap; others numbers. A string is one line, not markup."""
    made = _Table(title=Text(title, "bold"), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        if heading in left:
            made.add_column(heading, overflow="fold")
        else:
            made.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    if bold is not None:
        made.rows[bold].style = "bold"
    return made


def print_lr(console: Console, found: LrRange) -> None:
    """LRMIN and LRMAX, the rule that chose them, and how far the test went."""
    console.say(
        f"LRMIN {found.min_lr:g}",
        f"LRMAX {found.max_lr:g}",
        f"rule  {found.rule}",
        f"test  {len(found.losses)} steps from {found.learning_rates[0]:.2g} to {found.learning_rates[-1]:.2g}, seed "
        f"{found.seed}, {found.seconds:,.1f} s; loss {found.smoothed[0]:.3g} at first, "
        f"{found.smoothed[found.lowest]:.3g} at the lowest",
    )


def print_result(console: Console, result: Result, target: float) -> None:
    """The last lines of a run."""
    console.say(
        f"test accuracy {result.final_accuracy:.2%} (best {result.best_accuracy:.2%}) after epoch {result.epochs}; "
        f"{reached(target, result.time_to_target)}",
        f"{result.train_seconds:,.1f} s training, {result.eval_seconds:,.1f} s testing, "
        f"{result.setup_seconds:,.1f} s setting up",
    )


def reached(target: float, seconds: float | None) -> str:
    """Whether and after how many seconds of training a run had the accuracy `target` (0 to 1), in words."""
    return f"{target:.1%} {'not reached' if seconds is None else f'reached after {seconds:,.1f} s of training'}"


def print_scores(console: Console, scores: Scores, classes: Sequence[str]) -> None:
    """A row for each class that has images, and all together: right answers, and the most frequent wrong one."""
    rows = []
    for label, answers in enumerate(scores.answers):
        if images := int(answers.sum()):
            right = int(answers[label])
            wrong = answers.copy()
            wrong[label] = 0
            worst = int(wrong.argmax())
            taken = f"{classes[worst]} ({wrong[worst]:,})" if wrong[worst] else ""
            rows.append((classes[label], f"{images:,}", f"{right:,}", f"{right / images:.2%}", taken))
    rows.append(("all", f"{scores.images:,}", f"{int(scores.answers.trace()):,}", f"{scores.accuracy:.2%}", ""))
    headings = ("class", "images", "right", "accuracy", "most often taken for")
    console.print(table(headings, rows, left=("class", "most often taken for"), bold=-1))
    console.say(f"accuracy {scores.accuracy:.2%}, loss {scores.loss:.4f}; {scores.images_per_second:,.0f} images/s")


def print_predictions(
    console: Console, files: Sequence[Path], probabilities: NDArray[np.float32], classes: Sequence[str]
) -> None:
    """The five likeliest classes of each image; `probabilities` (n, classes) has a row for each of the n files."""
    rows = [
        ("" if rank else str(file), classes[label], f"{row[label]:.2%}")
        for file, row in zip(files, probabilities, strict=True)
        for rank, label in enumerate((-row).argsort(kind="stable")[:TOP])
    ]
    if rows:
        console.print(table(("file", "class", "probability"), rows, left=("file", "class")))


def predictions_json(files: Sequence[Path], probabilities: NDArray[np.float32], classes: Sequence[str]) -> str:
    """A JSON array: of each image `file`, `class` (the likeliest) and `probabilities` (every class's, by name)."""
    images = [
        {
            "file": printable(file),
            "class": classes[row.argmax()],
            "probabilities": dict(zip(classes, row.tolist(), strict=True)),
        }
        for file, row in zip(files, probabilities, strict=True)
    ]
    return json.dumps(images, indent=2, allow_nan=False)


def print_accuracy(console: Console, record: Record) -> None:
    """A row a run, their mean (of many with its 95 % confidence interval), and what the protocol makes of it."""
    crossing, rows = record.protocol == "first-crossing", []
    images = images_by_epoch(record.images, record.recipe, record.runs)
    for run in record.runs:
        seconds = first_crossing(run.epochs, record.target) if crossing else fixed_budget(run.epochs)
        rate = images_per_second(run, images)
        rows.append((f"seed {run.seed}", _seconds(seconds), f"{run.final_accuracy:.2%}", f"{rate:,.0f}"))
    summary = record.summary
    mean = partial(_spread, record, few="")  # which stand above it
    accuracy, speed = mean("final_accuracy", ".2%"), mean("images_per_second", ",.0f")
    rows.append((f"mean of {summary.runs}", mean("seconds"), accuracy, speed))
    time_to = f"s to {record.target:.1%}" if crossing else "s in all"
    console.print(table(("", time_to, "final accuracy", "images/s"), rows, bold=-1))
    console.say(_verdict(record))
    if said := beside(record):
        console.say(f"measured {said}: the seconds are not those of a quiet machine")
    if said := unclean(record.environment):
        console.say(f"{said}: nobody else can get the source that was measured, and the leaderboard says so")
    if summary.petaflops and (own := optimizer_petaflops(record)) is not None:
        flops = _spread(record, "petaflops", ",.3g")
        console.say(f"{flops} petaFLOPs of training, forward and backward; the optimizer's own beside them: {own:,.3g}")


def _verdict(record: Record) -> str:
    """Does the claim hold, and if it is not settled, what would settle it."""
    target, summary = f"{record.target:.2%}", record.summary
    if record.protocol == "first-crossing":
        if summary.reached:
            spread = "" if summary.runs < FEW else "; ± is the 95 % confidence interval"
            return f"{target} reached in every run (first-crossing{spread})"
        missed = sum(first_crossing(run.epochs, record.target) is None for run in record.runs)
        return f"{target} not reached in {missed} of {summary.runs} runs: no claim"
    if summary.p is None and summary.runs > 1:
        return f"all runs have one final accuracy, so no p that the mean is above {target} can be computed: no claim"
    if summary.p is None:
        return f"fixed-budget needs two runs or more to test that the mean is above {target}: no claim"
    said = f"mean final accuracy above {target}: p = {summary.p:.3g} (one-sided t-test, {P_LIMIT} needed)"
    if summary.reached:
        return f"{said}: the claim holds"
    runs = runs_to_settle([run.final_accuracy for run in record.runs], record.target)
    settle = "no number of runs like these would settle it"
    if runs is not None:
        settle = f"a new record of {runs} runs like these, with other seeds, would settle it"
    return f"{said}: not settled; {settle}"


def print_peers(console: Console, outcomes: Sequence[Outcome], target: float) -> None:
    """Seconds to `target`, final accuracy and images/s of every program, and the ratios to fastcifar's.

    `outcomes` are those of `run_peers`, whose first is fastcifar's.
    """
    from fastcifar.peers.compare import ratios, seconds_to_target

    over, rows = ratios(outcomes), []
    for outcome in outcomes:
        if record := outcome.record:
            ratio, summary = over[outcome.program], record.summary
            program = _program(outcome.program, record), str(summary.runs)
            to_target = _seconds(seconds_to_target(record)), "" if ratio.seconds is None else f"{ratio.seconds:,.3g}"
            rate = f"{summary.images_per_second.mean:,.0f}", f"{ratio.images_per_second:,.3g}"
            rows.append((*program, *to_target, Text(_spread(record, "final_accuracy", ".2%", BELOW)), *rate))
    headings = ("program", "runs", f"s to {target:.1%}", "x ours", "final accuracy", "images/s", "x ours")
    console.print(table(headings, rows, left=("program",), bold=0))
    console.say(*(f"{one.program} did not run: {one.reason}" for one in outcomes if one.reason))
    console.say(*(f"{one.program} failed in {one.failure}" for one in outcomes if one.failure))


def _program(program: str, record: Record) -> str:
    """A rival with a recipe of its own is named by its version and its script."""
    if record.recipe:
        return program
    return record.program if record.name in record.program else f"{record.program}, {record.name}"


def print_groups(console: Console, groups: Sequence[Group]) -> None:
    """A table a group: what may be ranked against each other."""
    if not groups:
        console.print("no records to show\n")
    headings = ("", "seconds", "petaFLOPs", "accuracy", "recipe", "evaluation", "loader", "date", "n", "p")
    for group in groups:
        rows = []
        for rank, entry in enumerate(group.entries, start=1):
            summary = entry.record.summary
            flops = number(summary.petaflops.mean if summary.petaflops else None, ",.3g")
            figures = (
                str(rank),
                Text(_spread(entry.record, "seconds", few=BELOW)),
                flops,
                f"{summary.final_accuracy.mean:.2%}",
            )
            chance = "" if summary.p is None else f"{summary.p:.2g}"
            how = entry.title(), entry.evaluation, entry.loader, entry.record.date
            rows.append((*figures, *how, str(summary.runs), chance))
        console.print(table(headings, rows, left=("recipe", "evaluation", "loader", "date"), title=group.title()))
        console.print()


def print_published(console: Console, published: Sequence[Published], target: float | None) -> None:
    """What others published, apart, to `target` or to any."""
    rows = [
        (
            f"{one.target:.0%}",
            f"{one.seconds:,.2f}",
            number(one.petaflops, ",.3g"),
            one.name,
            one.evaluation or NONE,
            one.hardware,
            str(one.year),
        )
        for one in published
        if target is None or one.target == target
    ]
    if rows:
        headings = ("target", "seconds", "petaFLOPs", "result", "evaluation", "hardware", "year")
        title = "published by others, not measured here"
        console.print(table(headings, rows, left=("result", "evaluation", "hardware"), title=title))


def _seconds(seconds: float | None) -> str:
    return "not reached" if seconds is None else f"{seconds:,.2f}"


def _spread(record: Record, figure: str, form: str = ",.2f", few: str = " ({} to {})") -> str:
    """The mean of a figure of the summary, ± half its 95 % confidence interval; of few runs with the least and the
    most, as `few` has them."""
    of_all: Interval | None = getattr(record.summary, figure)
    if of_all is None:
        return ""
    mean, shown = f"{of_all.mean:{form}}", ends(record, figure)
    if shown is None:
        return mean
    low, high = shown
    if record.summary.runs < FEW:
        return mean + few.format(f"{low:{form}}", f"{high:{form}}")
    return f"{mean} ± {high - of_all.mean:{form}}"
