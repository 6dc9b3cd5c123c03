"""The leaderboard for people: tables on the terminal, and the same in Markdown."""

import html
import re
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastcifar.measure.leaderboard import Entry, Group, Published

COLUMNS = ("", "seconds", "accuracy", "recipe", "loader", "date", "n", "p")
_LEFT = ("recipe", "loader", "date")
PUBLISHED_TITLE = "published by others, not measured here"


def cells(rank: int, entry: Entry) -> list[str]:
    """A row of the leaderboard, as COLUMNS."""
    summary = entry.record.summary
    spread = ""
    if summary.seconds is not None and summary.seconds.low is not None and summary.seconds.high is not None:
        spread = f" ± {(summary.seconds.high - summary.seconds.low) / 2:,.2f}"
    return [
        str(rank),
        f"{entry.seconds:,.2f}{spread}",
        f"{summary.final_accuracy.mean:.2%}",
        entry.recipe,
        entry.loader,
        entry.record.date,
        str(summary.runs),
        "" if summary.p is None else f"{summary.p:.2g}",
    ]


def print_groups(console: Console, groups: Sequence[Group]) -> None:
    """A table a group: what may be ranked against each other."""
    if not groups:
        console.print("no records to show\n")
    for group in groups:
        table = Table(title=Text(group.title()), title_justify="left", title_style="bold", box=None, pad_edge=False)
        for heading in COLUMNS:
            table.add_column(heading, justify="left" if heading in _LEFT else "right")
        for rank, entry in enumerate(group.entries, start=1):
            table.add_row(*(Text(cell) for cell in cells(rank, entry)))
        console.print(table)
        console.print()


def print_published(console: Console, published: Sequence[Published], target: float | None) -> None:
    """What others published, apart, to `target` or to any."""
    table = Table(title=PUBLISHED_TITLE, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for heading in ("target", "seconds", "result", "hardware", "year"):
        table.add_column(heading, justify="left" if heading in ("result", "hardware") else "right")
    for one in published:
        if target is None or one.target == target:
            table.add_row(f"{one.target:.0%}", f"{one.seconds:,.2f}", Text(one.name), one.hardware, str(one.year))
    if table.row_count:
        console.print(table)


def markdown(groups: Sequence[Group], published: Sequence[Published]) -> str:
    """benchmarks/LEADERBOARD.md."""
    lines = [
        "# Leaderboard",
        "",
        "Written by `fastcifar leaderboard page --markdown`; every row is a record that `fastcifar leaderboard check` "
        "accepts. Seconds are means over n seeds with the 95 % confidence interval; rows in different tables are not "
        "comparable.",
    ]
    for group in groups:
        lines += ["", f"## {_plain(group.title())}", ""]
        lines += _markdown_table(
            ("rank", *COLUMNS[1:]), [cells(rank, entry) for rank, entry in enumerate(group.entries, start=1)]
        )
    if not groups:
        lines += ["", "No record yet."]
    lines += ["", f"## {PUBLISHED_TITLE.capitalize()}", ""]
    lines += _markdown_table(
        ("target", "seconds", "result", "hardware", "year"),
        [
            [f"{one.target:.0%}", f"{one.seconds:,.2f}", f"[{one.name}]({one.source})", one.hardware, str(one.year)]
            for one in published
        ],
        plain=False,
    )
    return "\n".join(lines) + "\n"


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], plain: bool = True) -> list[str]:
    lines = [headings, ["---"] * len(headings), *([_plain(cell) for cell in row] if plain else row for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _plain(text: str) -> str:
    """Text of a record that Markdown and the HTML in it leave as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", html.escape(text, quote=False))
