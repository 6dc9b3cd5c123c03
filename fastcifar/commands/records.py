"""The subcommands of `fastcifar leaderboard`: check, rank and publish records."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from fastcifar.commands.command import GROUPS, Command, command, require_place
from fastcifar.errors import InputError
from fastcifar.files import require_folder_of, write_whole
from fastcifar.recipe.tables import optional
from fastcifar.records.protocol import ProtocolName
from fastcifar.report.console import Console

if TYPE_CHECKING:
    from fastcifar.records.leaderboard import Entry

GROUPS["leaderboard"] = "Check, rank and publish records."
Records = Annotated[tuple[Path, ...], Positional, optional("FILE|DIR")]
DEFAULT_PLACES = (Path("benchmarks/results"), Path("runs"))


@command("leaderboard show")
class Show(Command):
    """Print the leaderboard: a table for each set of comparable records, fastest first, then published results."""

    files: Records = ()
    """Records or folders of records; default: benchmarks/results and runs in the current folder."""
    target: Annotated[float | None, optional("X")] = None
    """Only records with this target accuracy (0 to 1)."""
    hardware: Annotated[str | None, optional("TEXT")] = None
    """Only hardware whose name contains this."""
    protocol: Annotated[ProtocolName | None, optional("first-crossing|fixed-budget")] = None
    """Only this protocol."""

    def run(self, console: Console) -> None:
        """Print the tables."""
        from fastcifar.records.leaderboard import groups, read_published
        from fastcifar.report.tables import print_groups, print_published

        if self.target is not None and not 0 < self.target <= 1:
            raise InputError(f"--target {self.target:g}: an accuracy above 0 and at most 1 is needed, such as 0.94")
        entries = _entries(self.files, console)
        print_groups(console, groups(entries, target=self.target, hardware=self.hardware, protocol=self.protocol))
        print_published(console, read_published()[0], self.target)


@command("leaderboard page")
class Page(Command):
    """Write the leaderboard as a single HTML page that needs no server."""

    out: Annotated[Path, arg(metavar="DIR")]
    """Folder for index.html."""
    files: Records = ()
    """Records or folders of records; default: benchmarks/results and runs in the current folder."""
    markdown: Annotated[Path | None, optional("FILE.md")] = None
    """Also write the tables as Markdown."""

    def run(self, console: Console) -> None:
        """Write and say where."""
        from fastcifar.records.leaderboard import groups, read_published
        from fastcifar.report.leaderboard_page import markdown, write_page

        require_folder_of(self.out)
        require_place(self.markdown)
        found = groups(_entries(self.files, console))
        published, curves = read_published()
        console.say(f"written: {write_page(self.out, found, published, curves)}")
        if self.markdown:
            write_whole(self.markdown, markdown(found, published).encode())
            console.say(f"written: {self.markdown}")


@command("leaderboard record")
class OfRuns(Command):
    """Make a record from runs that `fastcifar train` kept, of one recipe and with consecutive seeds."""

    runs: Annotated[tuple[Path, ...], Positional, arg(metavar="RUN", help_behavior_hint="(required)")]
    """Run directories."""
    json: Annotated[Path, arg(metavar="FILE")]
    """The record; it must not exist yet."""
    protocol: ProtocolName = "first-crossing"
    """As in `fastcifar bench accuracy`."""

    def run(self, console: Console) -> None:
        """Read, check, write."""
        from fastcifar.records.check import read_record
        from fastcifar.records.of_runs import record_of
        from fastcifar.records.record import to_json
        from fastcifar.report.tables import print_accuracy

        require_place(self.json)
        if self.json.exists():
            raise InputError(f"--json {self.json}: exists; name another")
        if not self.runs:
            raise InputError("name the run directories")
        record = record_of(self.runs, protocol=self.protocol)
        write_whole(self.json, to_json(record))
        try:
            read_record(self.json)
        except InputError:
            self.json.unlink()
            raise
        print_accuracy(console, record)
        console.say(f"written: {self.json}")


@command("leaderboard check")
class Check(Command):
    """Recompute every figure of the records from their logs, and their FLOPs; refuse whatever does not hold."""

    files: Records
    """Records, or folders of records (*.record.json)."""

    def run(self, console: Console) -> None:
        """Say of each whether it holds."""
        from fastcifar.records.leaderboard import find_records

        files = find_records(self.files)
        if not files:
            raise InputError("no records there (*.record.json)")
        refused = len(files)
        for file, entry in _those_that_hold(files, console, work=True):
            refused -= 1
            about = entry.record.name, f"{entry.seconds:,.2f} s", f"{entry.record.summary.runs} runs", *entry.remarks()
            console.say(f"{file}: holds: {', '.join(about)}")
        if refused:
            raise InputError(f"{refused} of {len(files)} records refused")


@command("leaderboard export")
class Export(Command):
    """Write a record as the JSON and TSV pair of DAWNBench's submission format."""

    files: Records
    """Records."""
    dawnbench: Annotated[Path, arg(metavar="DIR")]
    """Folder for the pairs."""
    author: str
    """Name of the submitter."""
    author_email: str
    """The submitter's email address."""
    code_url: str
    """URL of the code."""

    def run(self, console: Console) -> None:
        """Write the pairs and say where."""
        from fastcifar.records.dawnbench import write_pairs
        from fastcifar.records.leaderboard import read_entry

        require_folder_of(self.dawnbench)
        entries = [read_entry(file) for file in self.files]
        by = {"author": self.author, "author_email": self.author_email, "code_url": self.code_url}
        console.say(*(f"written: {file}" for file in write_pairs(self.dawnbench, entries, **by)))


@command("leaderboard schema")
class Schema(Command):
    """Print the JSON Schema of a record."""

    def run(self, console: Console) -> None:
        """Print it."""
        import json

        from fastcifar.records.record import schema

        console.out(json.dumps(schema(), indent=2), highlight=False)


def _entries(places: Sequence[Path], console: Console) -> "list[Entry]":
    """The entries of records that hold, by default of `DEFAULT_PLACES`; of equal ones, which are one record found twice
    or copied, the first."""
    from fastcifar.records.leaderboard import find_records
    from fastcifar.records.record import to_json

    files = find_records(places or [place for place in DEFAULT_PLACES if place.is_dir()])
    found: dict[bytes, Entry] = {}
    for _, entry in _those_that_hold(files, console, "left out: "):
        found.setdefault(to_json(entry.record), entry)
    return list(found.values())


def _those_that_hold(
    files: Sequence[Path], console: Console, what: str = "", *, work: bool = False
) -> "Iterator[tuple[Path, Entry]]":
    """The files and entries of records that hold; the others are told on stderr, one line each.

    `work` is counted again only where it is asked for: that takes torch, whose import takes seconds.
    """
    from fastcifar.records.check import require_work
    from fastcifar.records.leaderboard import read_entry

    for file in files:
        try:
            entry = read_entry(file)
            if work:
                require_work(entry.record, file)
            yield file, entry
        except InputError as error:
            console.complain(f"{what}{error}")
