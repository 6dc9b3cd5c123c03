"""The subcommands of `fastcifar leaderboard`: check, rank and publish records."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from fastcifar.commands.command import GROUPS, Command, command
from fastcifar.errors import InputError
from fastcifar.files import require_folder_of, write_whole
from fastcifar.records.protocol import ProtocolName
from fastcifar.report.console import Console

if TYPE_CHECKING:
    from fastcifar.records.leaderboard import Entry

GROUPS["leaderboard"] = "Check, rank and publish records."
Records = Annotated[tuple[Path, ...], Positional, arg(metavar="FILE|DIR")]
DEFAULT_PLACES = (Path("benchmarks/results"), Path("runs"))


@command("leaderboard show")
@dataclass(frozen=True)
class Show(Command):
    """Print the leaderboard: what may be compared in one table, the fastest first; and what others published."""

    files: Records = ()
    """Records, or folders of them; by default benchmarks/results and runs, of this folder."""
    target: float | None = None
    """Only records to this accuracy (0 to 1)."""
    hardware: str | None = None
    """Only hardware whose name has this in it."""
    protocol: ProtocolName | None = None
    """Only this protocol."""

    def run(self, console: Console) -> None:
        """Print the tables."""
        from fastcifar.records.leaderboard import groups, read_published
        from fastcifar.report.tables import print_groups, print_published

        entries = _entries(self.files, console)
        print_groups(console, groups(entries, target=self.target, hardware=self.hardware, protocol=self.protocol))
        print_published(console, read_published()[0], self.target)


@command("leaderboard page")
@dataclass(frozen=True)
class Page(Command):
    """Write the leaderboard as a page: one file, no server."""

    out: Annotated[Path, arg(metavar="DIR")]
    """Folder of index.html."""
    files: Records = ()
    """Records, or folders of them; by default benchmarks/results and runs, of this folder."""
    markdown: Annotated[Path | None, arg(metavar="FILE.md")] = None
    """Write the tables as Markdown too."""

    def run(self, console: Console) -> None:
        """Write and say where."""
        from fastcifar.records.leaderboard import groups, read_published
        from fastcifar.report.leaderboard_page import markdown, write_page

        for file in filter(None, (self.out, self.markdown)):
            require_folder_of(file)
        found = groups(_entries(self.files, console))
        published, curves = read_published()
        console.say(f"written: {write_page(self.out, found, published, curves)}")
        if self.markdown:
            write_whole(self.markdown, markdown(found, published).encode())
            console.say(f"written: {self.markdown}")


@command("leaderboard check")
@dataclass(frozen=True)
class Check(Command):
    """Recompute every figure of the records from their logs; refuse by name what does not hold."""

    files: Records
    """Records, or folders of them (*.record.json)."""

    def run(self, console: Console) -> None:
        """Say of each whether it holds."""
        from fastcifar.records.leaderboard import find_records, read_entry

        files, refused = find_records(self.files), 0
        for file in files:
            try:
                entry = read_entry(file)
            except InputError as error:
                refused += 1
                console.complain(str(error))
                continue
            record = entry.record
            console.say(f"{file}: holds: {record.name}, {entry.seconds:,.2f} s, {record.summary.runs} runs")
        if not files:
            raise InputError("no records there (*.record.json)")
        if refused:
            raise InputError(f"{refused} of {len(files)} records refused")


@command("leaderboard export")
@dataclass(frozen=True)
class Export(Command):
    """Write a record as the JSON and TSV pair of DAWNBench's submission format."""

    files: Records
    """Records."""
    dawnbench: Annotated[Path, arg(metavar="DIR")]
    """Folder of the pairs."""
    author: str
    """Who submits."""
    author_email: str
    """Where to reach them."""
    code_url: str
    """Where the code is."""

    def run(self, console: Console) -> None:
        """Write the pairs and say where."""
        from fastcifar.records.dawnbench import write_pair
        from fastcifar.records.leaderboard import read_entry

        require_folder_of(self.dawnbench)
        for entry in [read_entry(file) for file in self.files]:
            written = write_pair(
                self.dawnbench,
                entry,
                author=self.author,
                author_email=self.author_email,
                code_url=self.code_url,
            )
            console.say(*(f"written: {file}" for file in written))


@command("leaderboard schema")
@dataclass(frozen=True)
class Schema(Command):
    """Print the JSON Schema of a record."""

    def run(self, console: Console) -> None:
        """Print it."""
        import json

        from fastcifar.records.record import schema

        console.out(json.dumps(schema(), indent=2), highlight=False)


def _entries(places: Sequence[Path], console: Console) -> "list[Entry]":
    """The entries of records that hold; the others are told on stderr, one line each."""
    from fastcifar.records.leaderboard import find_records, read_entry

    entries = []
    for file in find_records(places or [place for place in DEFAULT_PLACES if place.is_dir()]):
        try:
            entries.append(read_entry(file))
        except InputError as error:
            console.complain(f"left out: {error}")
    return entries
