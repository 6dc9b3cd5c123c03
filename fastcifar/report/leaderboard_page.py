"""The leaderboard as one HTML file that loads nothing, and in Markdown. The page's script sorts and hides what is there
without it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastcifar.recipe import to_toml
from fastcifar.records.leaderboard import Curve, Entry, Group, Published
from fastcifar.report.charts import Timed, accuracy_over_time
from fastcifar.report.drawing import PROPERTIES
from fastcifar.report.pages import render
from fastcifar.report.pages import write_page as write
from fastcifar.report.text import flat


@dataclass(frozen=True)
class Row:
    """An entry as the page shows it: its curve, recipe as TOML, and the execution and environment by name."""

    entry: Entry
    curve: Timed
    toml: str | None
    execution: list[tuple[str, str]] | None
    environment: list[tuple[str, str]]


def write_page(out: Path, groups: Sequence[Group], published: Sequence[Published], curves: Sequence[Curve]) -> Path:
    """Write index.html into the folder `out`, which is made if it is missing, and return the file's path.

    The same records give the same bytes. Raises `InputError` if the file cannot be written.
    """
    names = iter(_names(groups))
    shown, count = [], 0
    for group in groups:
        rows = []
        for entry in group.entries:
            rows.append(_row(entry, Timed(f"record-{count}", next(names), count, False, entry.curve())))
            count += 1
        shown.append((group, rows))
    logs = [Timed(f"log-{number}", one.name, number, True, one.points) for number, one in enumerate(curves)]
    timed = [*(row.curve for _, rows in shown for row in rows), *logs]
    choices = {
        field: sorted({value for one in [*groups, *published] if (value := getattr(one, field, None)) is not None})
        for field in ("division", "protocol", "hardware", "target")
    }
    page = render(
        "leaderboard.html",
        styles=("base.css", "leaderboard.css"),
        scripts=("leaderboard.js",),
        groups=shown,
        properties=PROPERTIES,
        curves=timed,
        chart=accuracy_over_time(timed, sorted({group.target for group in groups})) if timed else "",
        published=published,
        choices=choices,
    )
    return write(out, page)


def markdown(groups: Sequence[Group], published: Sequence[Published]) -> str:
    """The same in Markdown: LEADERBOARD.md of the repository."""
    return render("leaderboard.md", groups=groups, published=published)


def _row(entry: Entry, curve: Timed) -> Row:
    record = entry.record
    return Row(
        entry,
        curve,
        toml=None if record.recipe is None else to_toml(record.recipe),
        execution=None if record.execution is None else flat(record.execution.model_dump()),
        environment=flat({name: value for name, value in record.environment.model_dump().items() if value is not None}),
    )


def _names(groups: Sequence[Group]) -> list[str]:
    """A name for each entry's curve; equal ones are told apart by more, as little of it as does."""
    entries = [(group, entry) for group in groups for entry in group.entries]
    names = [f"{entry.recipe}, {entry.loader}" for _, entry in entries]
    for more in (
        [group.protocol for group, _ in entries],
        [group.hardware for group, _ in entries],
        [entry.file for _, entry in entries],
    ):
        names = [f"{name}, {one}" if names.count(name) > 1 else name for name, one in zip(names, more, strict=True)]
    return names
