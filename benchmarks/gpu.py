"""`python -m benchmarks gpu`: all that only a GPU can show, unattended, part by part, a record file each.

A part is a program of its own with a limit on its time. What it leaves is kept whatever becomes of the later ones, and
the command, given again, goes on with those that are not done. Nothing but CUDA itself is new on a GPU's machine:
`--dry-run` goes through the same at toy size on the CPU.
"""

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ValidationError
from rich.table import Table
from rich.text import Text

from benchmarks import headlines
from benchmarks.machine import RESULTS, machine, require_clean
from fastcifar.bench.environment import environment
from fastcifar.commands.bench import checkpoints_of
from fastcifar.data.cifar import find_cifar10
from fastcifar.errors import InputError
from fastcifar.files import write_whole
from fastcifar.peers.compare import OURS, parse_paths
from fastcifar.peers.program import PATIENT, ProgramError, run_program
from fastcifar.recipe.files import load_recipe, shipped_recipes
from fastcifar.report.console import Console

ROOT = Path(__file__).parents[1]
STATE = "suite.json"
FOR_CPUS = ("laptop",)  # recipes that no GPU is measured with
PEER_MINUTES = 2.0  # for each program, and more for one that has not finished a run by then
YARDSTICK = "reduce-overhead"  # the way of compiling that a graph of the whole step is measured against
COMPILING = 90.0  # seconds allowed for torch.compile, nothing of it being cached, of a step at one shape

SMALL = ["--dataset", "synthetic", "--limit-train", "1024", "--batch-size", "64"]
NARROW = {"resnet": ["--width", "4"], "speednet": ["--model.widths", "4", "4", "4"]}
TOY_BENCH = [*SMALL, *NARROW["resnet"], "--blocks", "1", "--short"]
TOY = [*SMALL, "--limit-test", "200", "--epochs", "1", "--target", "0.05"]


@dataclass(frozen=True)
class Part:
    """A program to be run, the file or folder that it leaves, and the seconds it has."""

    name: str
    command: list[str]
    leaves: Path
    seconds: float
    headline: Callable[[Path], str]
    """What `leaves` comes to, in a line."""
    needs: tuple[Path, ...] = ()
    """The files in a folder that it leaves."""


@dataclass(frozen=True)
class Done:
    """How a part ended: "done", "failed" or "time is up"; the problem is a line, or None."""

    outcome: str
    seconds: float
    problem: str | None = None


class State(BaseModel):
    """How the parts run so far ended, on which machine."""

    format: Literal[1] = 1
    dry_run: bool
    environment: dict[str, Any]
    parts: dict[str, Done]

    @classmethod
    def read(cls, file: Path, here: dict[str, Any], dry_run: bool) -> Self:
        """What an earlier call kept in `file`, which must have been on this machine; or a new one."""
        if not file.exists():
            return cls(dry_run=dry_run, environment=here, parts={})
        try:
            found = cls.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise InputError(f"{file}: cannot be read; --out names another folder") from error
        if found.dry_run != dry_run:
            kind = "a dry run" if found.dry_run else "a real run"
            raise InputError(f"{file.parent}: its results are of {kind}; --out names another folder")
        for field in ("gpu", "cpu", "torch", "dali"):
            if (then := found.environment.get(field)) != here[field]:
                raise InputError(
                    f"{file.parent}: its {field} is {then}, here it is {here[field]}; --out names another folder"
                )
        return found.model_copy(update={"environment": here})

    def keep(self, file: Path) -> None:
        """Write it whole."""
        write_whole(file, self.model_dump_json(indent=2).encode())


def parts(folder: Path, *, toy: bool, peers: Sequence[str], data: Path | None) -> list[Part]:
    """The suite, in order; the files are in `folder`, absolute, as `data` is. `peers` are NAME=PATH."""
    python = [sys.executable, "-m"]
    bench = [*python, "fastcifar", "--debug", "bench"]
    device = ["--device", "cpu" if toy else "cuda"]
    where = ["--data", str(data)] if data else []
    rates = [*device, *(TOY_BENCH if toy else ["--blocks", "5"]), *where]
    train = [*device, *([*TOY, *NARROW["resnet"]] if toy else []), *where]

    def benchmark(name: str, seconds: float, headline: Callable[[Path], str]) -> Part:
        file = folder / f"{name}.json"
        files = ["--json", str(file), "--figure", str(file.with_suffix(".png"))]
        return Part(name, [*bench, name, *rates, *files], file, seconds, headline)

    def accuracy(recipe: str, runs: int, minutes: float | None = None, mode: str = "auto") -> Part:
        name = recipe if mode == "auto" else f"{recipe}-{mode}"
        file = folder / f"{name}.record.json"
        loaded = load_recipe(recipe)
        shapes = {(loaded.batch_size_of(epoch), loaded.image_size_of(epoch)) for epoch in range(loaded.epochs)}
        compiling = COMPILING * len(shapes)
        many = ["--runs", str(runs)]
        if minutes is not None:
            many += ["--minutes", f"{minutes + compiling / 60:g}"]
        small = ["--runs", "2", *TOY, *NARROW[loaded.model.name]] if toy else many
        flags = ["--recipe", recipe, *small, *device, *where, "--json", str(file)]
        # What is made for a target has it in the mean of its runs, not in each.
        flags += ["--compile", mode, *([] if recipe == "seed" else ["--protocol", "fixed-budget"])]
        return Part(name, [*bench, "accuracy", *flags], file, 240 + compiling, headlines.accuracy)

    tests, compiled = folder / "tests.json", folder / "compile.json"
    out = folder / "peers"
    rivals = [OURS, "plain_pytorch", *(peer.partition("=")[0] for peer in peers)]
    profile = folder / "profile.json"
    recipes = [recipe for recipe in shipped_recipes() if recipe not in (*FOR_CPUS, "seed")]
    yardsticks = [] if toy else ["seed", "sprint94"]  # with torch's own graphs, which no CPU has
    ahead = [*(f"{one}:auto" for one in ("seed", *recipes)), *(f"{one}:{YARDSTICK}" for one in yardsticks)]
    return [
        Part("tests", [*python, "benchmarks.gpu_tests", "--json", str(tests)], tests, 1800, headlines.tests),
        Part(
            "compile",
            [*python, "benchmarks.gpu_compile", "--json", str(compiled), *device, *where, *(["--toy"] if toy else [])]
            + (ahead[-1:] if toy else ahead),
            compiled,
            5 * COMPILING,  # all at once
            headlines.compiled,
        ),
        benchmark("loaders", 150 + COMPILING, headlines.loaders),
        benchmark("step", 150 + 5 * COMPILING, headlines.step),  # in two precisions and two layouts, and as one graph
        benchmark("train", 150 + 3 * COMPILING, headlines.train),  # of batches in two precisions and two layouts
        accuracy("seed", 3),
        *(accuracy(recipe, 20, minutes=2) for recipe in recipes),
        *(accuracy(recipe, 3, mode=YARDSTICK) for recipe in yardsticks),
        Part(
            "peers",
            [*bench, "peers", "--recipe", "seed", "--minutes", f"{PEER_MINUTES:g}", *train, "--out", str(out)]
            + (["--peer", *peers] if peers else []),
            out,
            # A rival may be installed, and named by no path.
            60 * PEER_MINUTES * PATIENT * (3 + len(peers)) + 60,
            lambda out: headlines.peers(out, rivals),
            tuple(out / f"{rival}.record.json" for rival in rivals),
        ),
        Part(
            "profile",
            [*bench, "profile", "--recipe", "seed", *train, "--json", str(profile)] + (["--steps", "3"] if toy else []),
            profile,
            120 + COMPILING,
            headlines.profile,
        ),
    ]


def run(part: Part, resume: bool = False) -> Done:
    """Run `part`, anew or going on with the runs that its record has and the one that it was ended in.

    What it said on standard error is kept beside its record where it did not end well.
    """
    log = part.leaves.with_name(f"{part.name}.log")
    log.unlink(missing_ok=True)
    command = list(part.command)
    checkpoints, whole = checkpoints_of(part.leaves), _came_to(part)[1]
    if resume and part.leaves.name.endswith(".record.json") and (whole or checkpoints.exists()):
        command.append("--resume")
        if not whole:
            part.leaves.unlink(missing_ok=True)
    else:
        shutil.rmtree(checkpoints, ignore_errors=True)
        for file in part.leaves.glob("*.record.json") if part.leaves.is_dir() else [part.leaves]:
            file.unlink(missing_ok=True)
    start, outcome, problem = time.perf_counter(), "done", None
    try:
        output = run_program(command, ROOT, seconds=part.seconds, show=True)
        said = output.said
        if output.cut:
            outcome, problem = "time is up", f"ended after {part.seconds:g} s"
    except ProgramError as error:
        said, outcome, problem = error.said, "failed", str(error)
        if part.name == "tests" and part.leaves.exists():
            problem = "some tests failed: see above"  # by pytest, on its standard output, which is ours
    if problem:
        write_whole(log, said.encode())
    return Done(outcome, time.perf_counter() - start, problem)


def _came_to(part: Part) -> tuple[str, bool]:
    """What is to be said of the record that `part` has left, and whether that is whole."""
    if not part.leaves.exists():
        return "no record", False
    try:
        found = part.headline(part.leaves)
    except (InputError, OSError, LookupError, ValueError, TypeError, AttributeError, StopIteration) as error:
        return f"its record cannot be read: {type(error).__name__}", False
    return found, all(file.exists() for file in part.needs)


def suite(arguments: Sequence[str]) -> int:
    """Run the suite. Returns the exit code: 0 if every part is done, 1 if one is not. Raises `InputError`."""
    given = _parse(arguments)
    if not (given.dry_run or torch.cuda.is_available()):
        raise InputError("there is no CUDA device here; --dry-run goes through every part at toy size on the CPU")
    # All paths absolute, since the parts run in the checkout.
    peers = [f"{name}={path.resolve()}" for name, path in parse_paths(given.peer).items()]
    data = None if given.dry_run else find_cifar10(given.data).resolve()
    here = environment()
    if not given.dry_run:
        require_clean(here, allow_dirty=given.allow_dirty)
    shown = given.out or _default_folder(given.dry_run, here)
    folder = shown.resolve()
    planned = parts(folder, toy=given.dry_run, peers=peers, data=data)
    names = [part.name for part in planned]
    if unknown := [name for name in given.only if name not in names]:
        raise InputError(f"--only {unknown[0]}: no such part; there are {', '.join(names)}")
    state = State.read(folder / STATE, here, given.dry_run)
    ended = state.parts
    folder.mkdir(parents=True, exist_ok=True)

    # Into a file, a table is as wide as it needs to be.
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)
    asked = [part for part in planned if part.name in given.only] if given.only else planned
    for part in asked:
        number = f"[{names.index(part.name) + 1}/{len(planned)}] {part.name}"
        if not given.only and _is_done(part, ended):
            console.say(f"{number}: done before")
            continue
        console.print(Text(f"{number}, {part.seconds:g} s at most", "bold"), soft_wrap=True)
        sys.stdout.flush()
        ended.pop(part.name, None)
        state.keep(folder / STATE)  # so that an end from outside leaves it not done
        ended[part.name] = run(part, resume=not given.only)
        if problem := ended[part.name].problem:
            console.print(Text(f"{part.name}: {ended[part.name].outcome}: {problem}", "red"), soft_wrap=True)
        state.keep(folder / STATE)
    _print(console, planned, ended)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    console.say(f"kept in {shown} ({size / 2**20:.1f} MiB)")
    return 0 if all(_is_done(part, ended) for part in asked) else 1


def _is_done(part: Part, ended: dict[str, Done]) -> bool:
    return part.name in ended and ended[part.name].outcome == "done" and _came_to(part)[1]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu",
        description="Test and measure everything that needs a GPU; run it again to continue.",
    )
    parser.add_argument("--dry-run", action="store_true", help="every part at toy size on the CPU")
    parser.add_argument("--allow-dirty", action="store_true", help="with changes that are not committed too")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: a folder in benchmarks/results")
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="these parts, also if done before")
    parser.add_argument(
        "--peer", nargs="+", action="extend", default=[], metavar="NAME=PATH", help="as for fastcifar bench peers"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder that holds cifar-10-batches-py")
    return parser.parse_args(arguments)


def _default_folder(dry_run: bool, here: dict[str, Any]) -> Path:
    """This machine's suite that is not done yet, or a new one's folder, named after the day."""
    if dry_run:
        return Path("runs", "gpu-dry-run")
    unfinished = []
    for file in RESULTS.glob(f"*-{machine(here)}/{STATE}"):
        with contextlib.suppress(InputError):  # of another machine or other software
            ended = State.read(file, here, dry_run=False).parts
            if not all(_is_done(part, ended) for part in parts(file.parent, toy=False, peers=[], data=None)):
                unfinished.append(file.parent)
    return max(unfinished, default=RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-{machine(here)}")


def _print(console: Console, planned: Sequence[Part], ended: dict[str, Done]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("part", "", "s", "what it came to"):
        table.add_column(heading, justify="right" if heading == "s" else "left", no_wrap=heading in ("part", "s"))
    for part in planned:
        done = ended.get(part.name)
        found = "; ".join(filter(None, (_came_to(part)[0], done.problem))) if done else ""
        style = None if done is None or done.outcome == "done" else "red"
        seconds = f"{done.seconds:.0f}" if done else ""
        table.add_row(part.name, done.outcome if done else "not run", seconds, Text(found), style=style)
    console.print(table)
