"""The subcommands that measure a recipe: `fastcifar bench` of accuracy, peers and profile."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from fastcifar.commands.command import (
    Trains,
    command,
    require_place,
)
from fastcifar.errors import InputError
from fastcifar.files import remove_leftovers, require_folder_of, write_whole
from fastcifar.recipe.tables import optional
from fastcifar.records.protocol import ProtocolName
from fastcifar.report.console import Console

if TYPE_CHECKING:
    from fastcifar.records.record import Record


@command("bench accuracy")
class Accuracy(Trains):
    """Train a recipe with several seeds and report the time to its target, in a record that can be checked."""

    runs: int = 3
    """Number of runs, with seeds seed, seed + 1 and so on."""
    minutes: Annotated[float | None, optional("X")] = None
    """Start no further run after this many minutes."""
    protocol: ProtocolName = "first-crossing"
    """Training seconds to the first epoch at the target; or of the whole recipe, whose mean accuracy must exceed it."""
    json: Annotated[Path | None, optional("FILE")] = None
    """The record, saved after every run; default: runs/<utc time>-<recipe>-<protocol>-seed<seed>.record.json."""
    resume: bool = False
    """Continue the record named by --json up to --runs, also in the middle of an interrupted run."""
    parallel: bool = False
    """Make runs at once on a Ray cluster or this machine, one per GPU (or machine without); needs the extra ray."""
    workers: Annotated[int | None, optional("N")] = None
    """With --parallel: number of runs at once."""
    allow_shared: bool = False
    """With --workers: allow several runs on one GPU or one machine's cores; their seconds compare with no others."""

    def run(self, console: Console) -> None:
        """Train, keeping the record after every run, and print what it comes to."""
        from fastcifar.records.check import read_record
        from fastcifar.records.measure import bench_accuracy
        from fastcifar.records.parallel import RayWorkers
        from fastcifar.records.record import to_json
        from fastcifar.report.progress import AccuracyConsole
        from fastcifar.report.tables import print_accuracy
        from fastcifar.runs.directory import default_path

        if self.runs < 1:
            raise InputError(f"--runs {self.runs}: at least one is needed")
        for flag, value in (("--workers", self.workers), ("--allow-shared", self.allow_shared)):
            if value and not self.parallel:
                raise InputError(f"{flag}: of runs that are made at once, which --parallel asks for")
        seconds = _seconds(self.minutes)
        require_place(self.json)
        if self.resume and self.json is None:
            raise InputError("--resume: name the record to continue with --json FILE")
        begun = self.json and (self.json.exists() or checkpoints_of(self.json).exists())
        if self.json and begun and not self.resume:
            there = self.json if self.json.exists() else checkpoints_of(self.json)
            raise InputError(f"--json {self.json}: {there} exists; continue it with --resume, or name another")
        earlier = read_record(self.json) if self.resume and self.json and (self.json.exists() or not begun) else None
        about = self.prepared(console)
        file = self.json
        if file is None:
            file = default_path(f"{about.name}-{self.protocol}", self.recipe, ".record.json")
        remove_leftovers(file.parent, file.name)
        kept = earlier

        def keep(record: "Record") -> None:
            nonlocal kept
            write_whole(file, to_json(record))
            kept = record

        console.say(about.describe())
        try:
            with AccuracyConsole(console, self.runs, self.recipe.target) as watcher, ExitStack() as stack:
                workers = None
                if self.parallel:
                    workers = stack.enter_context(
                        RayWorkers(
                            replace(about.recipe, dataset_sha256=about.dataset.sha256),
                            about.own,
                            about.execution,
                            data=self.data,
                            workers=self.workers,
                            allow_shared=self.allow_shared,
                            tell=watcher.note,
                            progress=watcher.making,
                        )
                    )
                record = bench_accuracy(
                    about.name,
                    about.recipe,
                    about.dataset,
                    about.execution,
                    own=about.own,
                    protocol=self.protocol,
                    runs=self.runs,
                    seconds=seconds,
                    earlier=earlier,
                    keep=keep,
                    watcher=watcher,
                    checkpoints=checkpoints_of(file),
                    workers=workers,
                )
        except BaseException as error:  # a person, a run that diverges, a full disk, too little memory
            if not isinstance(error, InputError) and (kept or checkpoints_of(file).exists()):
                runs = f"{len(kept.runs)} finished runs are kept in {file}; " if kept else ""
                error.add_note(f"{runs}--resume --json {file} continues it")
            raise
        print_accuracy(console, record)
        if len(record.runs) < self.runs:
            passed = f"{self.minutes:g} minutes had passed"
            console.say(f"{len(record.runs)} of {self.runs} runs: {passed}; --resume continues")
        console.say(f"kept in {file}")


@command("bench peers")
class Peers(Trains):
    """Run fastcifar and its rivals in turn, each program in its own process, and print the ratios.

    The recipe is for fastcifar and plain_pytorch; a rival's program trains its own.
    """

    runs: int = 1
    """Number of runs of each program."""
    minutes: Annotated[float | None, optional("X")] = None
    """Stop a program after this many minutes and count its finished runs; for its first it has four times as long."""
    protocol: ProtocolName = "first-crossing"
    """As in `fastcifar bench accuracy`."""
    peer: Annotated[tuple[str, ...], arg(metavar="NAME=PATH")] = ()
    """Rivals and the checkouts of their programs: airbench=DIR cifar10-speedrun=DIR hlb-CIFAR10=DIR."""
    out: Annotated[Path | None, optional("DIR")] = None
    """Folder for each program's record: written after every run, or at the end if the program makes many by itself."""

    def run(self, console: Console) -> None:
        """Run them, keeping each one's record after every run, and print the ratios."""
        from fastcifar.peers.compare import parse_paths, run_peers
        from fastcifar.records.record import to_json
        from fastcifar.report.tables import print_peers

        if self.out:
            require_folder_of(self.out)
            if self.out.exists() and (not self.out.is_dir() or list(self.out.glob("*.record.json"))):
                raise InputError(f"--out {self.out}: is no folder, or holds records; name another")
            remove_leftovers(self.out)
        paths = parse_paths(self.peer)
        kept: dict[str, int] = {}  # finished runs by program

        def keep(program: str, record: "Record") -> None:
            if self.out:
                self.out.mkdir(exist_ok=True)
                write_whole(self.out / f"{program}.record.json", to_json(record))
                kept[program] = len(record.runs)

        try:
            outcomes = run_peers(
                self.named(console),
                self.recipe,
                self.execution,
                data=self.data,
                runs=self.runs,
                paths=paths,
                protocol=self.protocol,
                seconds=_seconds(self.minutes),
                progress=console.say,
                keep=keep,
            )
        except BaseException as error:  # a person, fastcifar that fails, a full disk
            if kept:
                runs = ", ".join(f"{count} of {program}" for program, count in kept.items())
                error.add_note(f"finished runs are kept in {self.out}: {runs}")
            raise
        print_peers(console, outcomes, self.recipe.target)
        if self.out:
            console.say(f"records kept in {self.out}")


@command("bench profile")
class Profile(Trains):
    """Profile a recipe's training: time by kernel, gaps between kernels, share of the matrix product rate."""

    steps: int = 50
    """Number of steps to profile, in the third epoch."""
    json: Annotated[Path | None, optional("FILE")] = None
    """Write the results to this file."""
    trace: Annotated[Path | None, optional("FILE.json.gz")] = None
    """Write the profiler's trace for Perfetto or chrome://tracing."""

    def run(self, console: Console) -> None:
        """Profile, print, write."""
        from fastcifar.bench.environment import environment
        from fastcifar.bench.profile import profile_training, to_json
        from fastcifar.report.bench_tables import print_profile

        if self.steps < 1:
            raise InputError(f"--steps {self.steps}: at least one is needed")
        require_place(self.json, self.trace)
        if self.trace and self.trace.suffix != ".gz":
            raise InputError(f"--trace {self.trace}: is written gzipped; the name must end in .json.gz")
        about = self.prepared(console)
        console.say(about.describe())
        here = environment(about.execution.device)
        with console.status("setting up") as status:
            found = profile_training(
                about.recipe,
                about.dataset,
                about.execution,
                own=about.own,
                steps=self.steps,
                trace=self.trace,
                progress=status.update,
            )
        print_profile(console, found)
        if found.steps < self.steps:
            console.say(f"{self.steps} steps were to be profiled; the third epoch, warmed up, has {found.steps}")
        if self.json:
            text = to_json(found, about.name, about.recipe, about.execution, about.dataset, here)
            write_whole(self.json, text.encode())


def checkpoints_of(record: Path) -> Path:
    """The folder of the run under way, beside its record."""
    return record.with_name(f"{record.name}.checkpoints")


def _seconds(minutes: float | None) -> float | None:
    if minutes is not None and not 0 < minutes < float("inf"):
        raise InputError(f"--minutes {minutes:g}: must be above 0")
    return None if minutes is None else 60 * minutes
