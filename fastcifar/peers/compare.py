"""`fastcifar bench peers`: fastcifar and its rivals in turn, each program in a process of its own, and the ratios.

What it takes to run a rival is an adapter (`fastcifar.peers.peer.Peer`), a module a rival in this folder.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fastcifar.data.cifar import KINDS, find_cifar10, verify
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution, resolve
from fastcifar.files import expanded
from fastcifar.peers import peers
from fastcifar.peers.peer import BrokenError, Job, Peer
from fastcifar.peers.program import ProgramError, run_own
from fastcifar.recipe import Recipe
from fastcifar.recipe.files import seen_from, to_toml
from fastcifar.records.check import read_record
from fastcifar.records.protocol import ProtocolName
from fastcifar.records.record import Record
from fastcifar.records.summary import images_by_epoch, summarise

OURS = "fastcifar"
BAD_INPUT = 2  # fastcifar's exit code


@dataclass(frozen=True)
class Outcome:
    """A program's record of the runs it has finished, or else the reason that there is none."""

    program: str
    record: Record | None = None
    reason: str | None = None
    failure: str | None = None
    """Beside a record: the number, from 1, of the run that the program failed in, and why."""


@dataclass(frozen=True)
class Ratios:
    """A program's figures over fastcifar's: seconds to the target (None where either did not reach it), images/s."""

    seconds: float | None
    images_per_second: float


def parse_paths(values: Sequence[str]) -> dict[str, Path]:
    """Rival by name to its program, from NAME=PATH. Raises `InputError` at an unknown rival or a path that is not."""
    takes_path = {peer.name: peer.url for peer in peers() if peer.url}
    paths: dict[str, Path] = {}
    for value in values:
        name, separator, path = value.partition("=")
        if name not in takes_path:
            raise InputError(f"--peer {value}: no such rival; there are {', '.join(takes_path)}")
        if not separator or not path:
            raise InputError(f"--peer {value}: write {name}=PATH, the checkout of {takes_path[name]}")
        paths[name] = Path(path).expanduser().absolute()
        if not paths[name].exists():
            raise InputError(f"--peer {value}: there is no {path}")
    return paths


def run_peers(
    name: str,
    recipe: Recipe,
    execution: Execution,
    *,
    data: Path | None,
    runs: int,
    paths: Mapping[str, Path],
    protocol: ProtocolName = "first-crossing",
    seconds: float | None = None,
    progress: Callable[[str], None],
    keep: Callable[[str, Record], None] = lambda program, record: None,
) -> list[Outcome]:
    """Run fastcifar and every rival that can run here in turn, `runs` times over, to `recipe`'s target.

    Run i has the seed recipe.seed + i. `paths` are those of `parse_paths`; `progress` is told each run before it
    begins, and each rival that cannot run or fails; `keep` gets a program's name and the record of all that it has
    finished, whenever it has ended well. A program is ended after `seconds` (see `Job`). A rival that fails is not
    started again, and what it has finished counts. The outcomes begin with fastcifar's. Raises `RunError` if fastcifar
    itself fails, for then there is nothing to compare with.
    """
    if runs < 1:
        raise InputError(f"--runs {runs}: at least one is needed")
    recipe = seen_from(Path.cwd(), recipe)  # programs run in folders of their own
    images = _images_of(recipe, data)
    job = Job(name, recipe, protocol, resolve(execution)[0].device, data=images, path=None, seconds=seconds)
    programs: list[tuple[Peer, Job]] = [(_Ours(execution), job)]
    programs += [(peer, replace(job, path=paths.get(peer.name))) for peer in peers()]
    reasons = {peer.name: reason for peer, asked in programs if (reason := peer.missing(asked))}
    for rival, reason in reasons.items():
        progress(f"{rival} is left out: {reason}")
    records: dict[str, list[Record]] = {peer.name: [] for peer, _ in programs}
    for number in range(runs):
        for peer, asked in programs:
            if peer.name in reasons or (number and not peer.repeats(asked)):
                continue
            progress(f"run {number + 1}/{runs}: {peer.name}")
            seeded = replace(asked, recipe=replace(recipe, seed=recipe.seed + number))
            try:
                records[peer.name].append(peer.run(seeded))
            except RunError as error:
                if peer.name == OURS:
                    raise
                reasons[peer.name] = str(error)
                progress(f"{peer.name} failed: {error}")
                if not isinstance(error, BrokenError):
                    continue
                records[peer.name].append(error.record)
            keep(peer.name, merged(records[peer.name]))
    return [_outcome(program, found, reasons.get(program)) for program, found in records.items()]


def _images_of(recipe: Recipe, data: Path | None) -> Path | None:
    """The folder that every program is told to read the recipe's images from: see `Job.data`. Raises `InputError`."""
    if kind := KINDS.get(recipe.dataset):
        folder = find_cifar10(data, kind).absolute()
        verify(folder, kind)
        return folder
    return None if data is None or recipe.dataset == "synthetic" else expanded(data).absolute()


def _outcome(program: str, found: Sequence[Record], reason: str | None) -> Outcome:
    """What came of a program, whose records are `found`; `reason`: why it has no more of them."""
    if not found:
        return Outcome(program, reason=reason)
    record = merged(found)
    return Outcome(program, record, failure=reason and f"run {record.summary.runs + 1}: {reason}")


def merged(records: Sequence[Record]) -> Record:
    """One record of the runs of several, which are of one program on one machine; its recipe is the first one's."""
    first = records[0]
    runs = [run for record in records for run in record.runs]
    images = images_by_epoch(first.images, first.recipe, runs)
    summary = summarise(runs, first.protocol, first.target, images, first.work)
    return first.model_copy(update={"runs": runs, "summary": summary})


def seconds_to_target(record: Record) -> float | None:
    """Mean seconds by the record's protocol; None where its claim does not hold."""
    return record.summary.seconds.mean if record.summary.reached and record.summary.seconds else None


def ratios(outcomes: Sequence[Outcome]) -> dict[str, Ratios]:
    """What each program that ran came to, over what fastcifar came to, by the program's name."""
    found = {outcome.program: outcome.record for outcome in outcomes if outcome.record}
    ours = found[OURS]
    our_seconds = seconds_to_target(ours)
    result = {}
    for program, record in found.items():
        seconds = seconds_to_target(record)
        result[program] = Ratios(
            seconds=None if seconds is None or our_seconds is None else seconds / our_seconds,
            images_per_second=record.summary.images_per_second.mean / ours.summary.images_per_second.mean,
        )
    return result


class _Ours(Peer):
    """fastcifar, run as the rivals are: `fastcifar bench accuracy` in a process of its own."""

    name = OURS

    def __init__(self, execution: Execution) -> None:
        self._flags: list[str] = []
        for field, value in asdict(execution).items():
            name = field.replace("_", "-")
            if isinstance(value, bool):
                self._flags.append(f"--{name}" if value else f"--no-{name}")
            else:
                self._flags += [f"--{name}", str(value)]

    def run(self, job: Job) -> Record:
        with tempfile.TemporaryDirectory(prefix="fastcifar-") as folder:
            recipe, record = Path(folder, f"{job.name}.toml"), Path(folder, "record.json")
            recipe.write_text(to_toml(job.recipe), encoding="utf-8")
            flags = ["--recipe", str(recipe), "--runs", "1", "--protocol", job.protocol, "--json", str(record)]
            flags += [*self._flags, *(["--data", str(job.data)] if job.data else [])]
            try:
                output = run_own("fastcifar", ["bench", "accuracy", *flags], Path(folder), seconds=job.seconds)
            except ProgramError as error:
                if error.code == BAD_INPUT:
                    raise InputError(str(error)) from error
                raise
            if output.cut:
                raise RunError(f"fastcifar did not finish its run within {job.patience:g} s")
            return read_record(record)
