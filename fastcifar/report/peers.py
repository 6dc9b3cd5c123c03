"""Rivals on the terminal: a row a program that ran, and why the others did not."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastcifar.measure.peers import OURS, Outcome, ratios, seconds_to_target
from fastcifar.measure.record import Interval, Record


def print_peers(console: Console, outcomes: Sequence[Outcome], target: float) -> None:
    """Seconds to `target`, final accuracy and images/s of every program, and the ratios to fastcifar's.

    `outcomes` are those of `run_peers`.
    """
    over = ratios(outcomes)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("program", "runs", f"s to {target:.1%}", "x ours", "final accuracy", "images/s", "x ours"):
        table.add_column(heading, justify="left" if heading == "program" else "right", no_wrap=heading != "program")
    for outcome in outcomes:
        if record := outcome.record:
            ratio, seconds = over[outcome.program], seconds_to_target(record)
            table.add_row(
                Text(_label(outcome.program, record)),  # Text: what a rival says of itself is no markup
                str(record.summary.runs),
                "not reached" if seconds is None else f"{seconds:,.2f}",
                "" if ratio.seconds is None else f"{ratio.seconds:,.3g}",
                _accuracy(record.summary.final_accuracy),
                f"{record.summary.images_per_second.mean:,.0f}",
                f"{ratio.images_per_second:,.3g}",
                style="bold" if outcome.program == OURS else None,
            )
    console.print(table)
    for outcome in outcomes:
        if outcome.reason:
            line = f"{outcome.program} did not run: {outcome.reason}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _label(program: str, record: Record) -> str:
    """A rival with a recipe of its own is named by its version and its script."""
    if record.recipe:
        return program
    return record.program if record.name in record.program else f"{record.program}, {record.name}"


def _accuracy(one: Interval) -> str:
    spread = "" if one.low is None or one.high is None else f" ± {(one.high - one.low) / 2:.2%}"
    return f"{one.mean:.2%}{spread}"
