"""The leaderboard as one HTML file that loads nothing, and in Markdown. The page's script sorts and hides what is there
without it."""

from collections.abc import Sequence
from pathlib import Path

from fastcifar.records.leaderboard import Curve, Group, Published
from fastcifar.report.charts import Timed, accuracy_over_time
from fastcifar.report.drawing import PROPERTIES
from fastcifar.report.pages import render
from fastcifar.report.pages import write_page as write


def write_page(out: Path, groups: Sequence[Group], published: Sequence[Published], curves: Sequence[Curve]) -> Path:
    """Write index.html into the folder `out`, which is made if it is missing, and return the file's path.

    The same records give the same bytes. Raises `InputError` if the file cannot be written.
    """
    entries = [entry for group in groups for entry in group.entries]
    records = [
        Timed(f"record-{number}", name, number, False, entry.curve())
        for number, (name, entry) in enumerate(zip(_names(groups), entries, strict=True))
    ]
    logs = [Timed(f"log-{number}", one.name, number, True, one.points) for number, one in enumerate(curves)]
    timed, of_entries = records + logs, iter(records)
    choices = {
        field: sorted({value for one in [*groups, *published] if (value := getattr(one, field, None)) is not None})
        for field in ("division", "protocol", "hardware", "target")
    }
    page = render(
        "leaderboard.html",
        styles=("base.css", "leaderboard.css"),
        scripts=("leaderboard.js",),
        groups=[(group, [(entry, next(of_entries)) for entry in group.entries]) for group in groups],
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
