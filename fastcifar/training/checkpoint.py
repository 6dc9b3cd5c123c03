"""A run's whole state on the disk as it goes: safetensors and JSON, whole at every instant, never unpickled.

A checkpoint is one safetensors file, NUMBER-SHA256.safetensors: the tensors of `TrainState.state_dict`, and in the
file's metadata the rest as JSON. Its name has the sha256 of its content, so that a damaged one is known. Beside them
lie session.json, what the run had taken when the process began, and heartbeat, what it has taken since.
"""

import contextlib
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fastcifar import stopping
from fastcifar.errors import InputError, Stopped, complaint
from fastcifar.files import read_regular, remove_leftovers, require_no_link, write_whole
from fastcifar.recipe import Recipe, validated
from fastcifar.recipe.changes import differences
from fastcifar.training.log import EpochLog, Observer
from fastcifar.training.packed import Packed, pack, unpack
from fastcifar.training.trainer import Trainer

FORMAT: Literal[1] = 1
KEPT = 2  # files: one may turn out to be damaged
BEAT_SECONDS = 0.1
_NAME = re.compile(r"(\d{6,18})-([0-9a-f]{64})\.safetensors")
_BEAT = re.compile(rb"(\d+) (\d+\.\d{6}) (\d+\.\d{6})\n *")


@dataclass(frozen=True)
class Spent:
    """What a run had taken in its earlier sessions.

    `started` is UTC in ISO 8601, the first one's; `wall_seconds` are as `Checkpoints` was told to count them;
    `lost_seconds` is what was trained and tested after the last checkpoint before an interruption, to be done again.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    started: str
    setup_seconds: float = 0.0
    wall_seconds: float = 0.0
    interruptions: int = 0
    lost_seconds: float = 0.0


@dataclass(frozen=True)
class Session:
    """session.json: what the process that began last trained, and after what; `about` is whatever its owner keeps."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    format: Literal[1]
    recipe: dict[str, Any]
    spent: Spent
    about: dict[str, Any] = field(default_factory=dict)


class Checkpoints(Observer):
    """Keeps the state of `trainer` in `folder`: after each epoch, every `seconds` within one, and when a signal asks
    the process to stop (`fastcifar.stopping`), which ends in `Stopped`.

    As a context manager it makes the folder, notes signals instead of being interrupted by them, and waits for a file
    being written. Tensors are copied while training waits, which is part of its seconds; the writing goes on beside it,
    one file at a time, and the newest `KEPT` stay. What cannot be written is a line for `tell`, and training goes on.
    After an epoch nothing is kept if that was done less than a tenth of `seconds` ago, or is being done; with 0 seconds
    only a stop is kept. `wall` gives the wall seconds so far, those of `spent` included. It is to be the last observer
    told of an epoch.
    """

    def __init__(
        self,
        folder: Path,
        trainer: Trainer,
        spent: Spent,
        *,
        seconds: float,
        wall: Callable[[], float],
        tell: Callable[[str], None],
        about: dict[str, Any] | None = None,
    ) -> None:
        self._folder, self._trainer, self._spent, self._about = folder, trainer, spent, about or {}
        self._seconds, self._wall, self._tell = seconds, wall, tell
        self._writer: threading.Thread | None = None
        self._failed: str | None = None
        self._held = stopping.held()

    def __enter__(self) -> Self:
        require_no_link(self._folder)
        self._folder.mkdir(exist_ok=True)
        remove_leftovers(self._folder)
        self._number = max(map(_number, _files(self._folder)), default=0)
        spent = replace(self._spent, setup_seconds=self._trainer.setup_seconds)
        session = Session(FORMAT, asdict(self._trainer.recipe), spent, self._about)
        write_whole(self._folder / "session.json", json.dumps(asdict(session), allow_nan=False).encode())
        heartbeat = self._folder / "heartbeat"
        if heartbeat.is_symlink():
            heartbeat.unlink()
        self._beats = os.open(heartbeat, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        self._kept = time.monotonic()
        self._beat()
        self._held.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._beat()
            self.written()
        finally:
            os.close(self._beats)
            self._held.__exit__(kind, error, trace)

    def step(self, epoch: int, step: int) -> None:
        self._look(training=True)

    def testing(self) -> None:
        self._look(training=False)

    def epoch(self, log: EpochLog) -> None:
        self._look(training=False)
        since = time.monotonic() - self._kept
        if self._trainer.over or not self._seconds or since < self._seconds / 10:
            return
        began = time.perf_counter()
        self.keep()
        self._trainer.state.seconds += time.perf_counter() - began  # the next epoch's

    def _look(self, *, training: bool) -> None:
        now = time.monotonic()
        if now - self._beaten >= BEAT_SECONDS:
            self._beat()
        if signal := stopping.requested():
            if training:
                self._trainer.lap()
            self.keep(wait=True)
            raise Stopped(signal)
        if self._failed:
            self.written()
        if self._seconds and now - self._kept >= self._seconds:
            if training:
                self._trainer.lap()
            self.keep()

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        line = f"{self._spent.interruptions} {self._trainer.spent_seconds:.6f} {self._wall():.6f}\n"
        with contextlib.suppress(OSError):  # only what an interruption cost would not be known to the second
            os.pwrite(self._beats, line.ljust(64).encode(), 0)

    def keep(self, *, wait: bool = False) -> None:
        """Copy the state now and write it beside training; with `wait`, whatever is being written, until it is done."""
        if self._writer and self._writer.is_alive() and not wait:
            return  # a disk slower than the interval
        self.written()
        self._kept = time.monotonic()
        try:
            state = pack(self._trainer.state.state_dict())
        except ValueError as error:
            self._tell(f"no checkpoint: {error}")
            return
        self._number += 1
        metadata = {"format": str(FORMAT), "recipe": _digest(self._trainer.recipe)}
        self._writer = threading.Thread(target=self._write, args=(self._number, state, metadata), name="checkpoint")
        self._writer.start()
        if wait:
            self.written()

    def written(self) -> None:
        """Wait for the writer, and say if it failed."""
        if self._writer:
            self._writer.join()
            self._writer = None
        if self._failed:
            self._tell(self._failed)
            self._failed = None

    def _write(self, number: int, state: Packed, metadata: dict[str, str]) -> None:
        try:
            content = state.to_bytes(metadata)
            write_whole(self._folder / f"{number:06d}-{hashlib.sha256(content).hexdigest()}.safetensors", content)
            for old in _files(self._folder)[KEPT:]:
                old.unlink(missing_ok=True)
        except Exception as error:  # the thread's, so training does not end by it
            said = error.strerror if isinstance(error, OSError) else error
            self._failed = f"{self._folder}: checkpoint {number} could not be written: {said}"


def earlier(folder: Path, recipe: Recipe) -> Session | None:
    """The run of `recipe` whose checkpoints are in `folder`, with what all its sessions took; None if there is none,
    or one of another seed, which is over by now.

    Raises `InputError` where `folder` is another recipe's, or cannot be read.
    """
    file = folder / "session.json"
    try:
        session = TypeAdapter(Session).validate_json(read_regular(file))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(f"{file}: {complaint(error)}") from error
    trained = validated(session.recipe, prefix=f"{file}: recipe.")
    if other := differences(replace(recipe, seed=trained.seed), trained):
        raise InputError(f"{folder}: a run of another recipe: {other[0]}")
    if trained.seed != recipe.seed:
        return None
    spent = session.spent
    _, wall = _heart(folder, spent)
    spent = replace(spent, wall_seconds=max(spent.wall_seconds, wall), interruptions=spent.interruptions + 1)
    return replace(session, spent=spent)


def go_on(folder: Path, trainer: Trainer, spent: Spent) -> tuple[Spent, list[str]]:
    """Put `trainer` where the newest checkpoint in `folder` that is whole and fits it says; where none is, it begins.

    Gives `spent` with what was lost, and lines for a person.
    """
    notes: list[str] = []
    for path in _files(folder):
        try:
            trainer.restore(_read(path, _digest(trainer.recipe)))
            break
        except InputError as error:
            notes.append(f"{path}: {error}; the one before it is used")
    else:
        setup_seconds = trainer.setup_seconds
        trainer.restart(trainer.recipe)
        trainer.setup_seconds += setup_seconds
        notes.append(f"{folder}: there is no{' other' if notes else ''} checkpoint, so the run begins again")
    reached, _ = _heart(folder, replace(spent, interruptions=spent.interruptions - 1))
    lost, state = max(0.0, reached - trainer.spent_seconds), trainer.state
    if not trainer.over and (state.log or state.step):
        again = f"; {lost:.1f} s of training and testing are done again" if lost >= 0.05 else ""
        steps = trainer.steps[state.epoch]
        notes.append(f"continuing in epoch {state.epoch + 1} after {state.step} of {steps} steps{again}")
    trainer.setup_seconds += spent.setup_seconds
    lost += spent.lost_seconds
    # A checkpoint may be later than the last beat before the kill.
    wall = max(spent.wall_seconds, trainer.spent_seconds + lost)
    return replace(spent, wall_seconds=wall, lost_seconds=lost), notes


def clear(folder: Path) -> None:
    """The run is over and kept elsewhere: remove what `Checkpoints` left, if it is there and may be removed.

    What a link leads to is not the run's, and stays.
    """
    if folder.is_symlink():
        return
    remove_leftovers(folder)
    with contextlib.suppress(OSError):
        (folder / "session.json").unlink(missing_ok=True)  # first: without it there is no run to go on with
        for path in (*_files(folder), folder / "heartbeat"):
            path.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """`clear`, and remove the folder, unless somebody has put something else there."""
    clear(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _files(folder: Path) -> list[Path]:
    """The checkpoints, the newest first."""
    found = (path for path in folder.glob("*.safetensors") if _NAME.fullmatch(path.name))
    return sorted(found, key=_number, reverse=True)


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _read(path: Path, recipe: str) -> dict[str, Any]:
    """The state in a checkpoint of the recipe with the digest `recipe`. Raises `InputError`."""
    found = _NAME.fullmatch(path.name)
    assert found is not None
    try:
        content = read_regular(path)
        if hashlib.sha256(content).hexdigest() != found[2]:
            raise InputError("damaged: its sha256 is not the one in its name")
        metadata, state = unpack(content)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"not a checkpoint: {error}") from error
    if metadata.get("format") != str(FORMAT) or metadata.get("recipe") != recipe:
        raise InputError("not a checkpoint of this recipe")
    return state


def _heart(folder: Path, spent: Spent) -> tuple[float, float]:
    """The seconds of training and testing, and the wall seconds, that the session which began with `spent` came to."""
    try:
        found = _BEAT.fullmatch(read_regular(folder / "heartbeat")[:64])
    except OSError:
        found = None
    if found is None or int(found[1]) != spent.interruptions:
        return 0.0, 0.0  # it ended before its first beat
    return float(found[2]), float(found[3])


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode()).hexdigest()
