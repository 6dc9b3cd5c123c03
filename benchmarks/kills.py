"""`python -m benchmarks kills`: a small run killed again and again, which must end as one that never was.

`kills`: `kill -9` at random instants of `fastcifar train`, a third of them while a checkpoint is being written, and
each time `--resume`; weights and log of every run that gets to its end are compared, bit for bit, with those of a run
that nobody touched. `soak`: `fastcifar bench accuracy` killed, stopped and resumed at random for some minutes, with an
eye on its memory, open files, child processes and what it leaves.
"""

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

from fastcifar.data.cifar import locate_cifar10
from fastcifar.errors import InputError
from fastcifar.records.check import read_record

SMALL = ["--recipe", "laptop", "--width", "8", "--batch-size", "256", "--device", "cpu", "--precision", "float32"]
TIMES = ("train_seconds", "eval_seconds", "images_per_second", "other_cores")
KINDS = ("anywhere", "training", "writing")
SAMPLE_SECONDS = 0.5
SETTLING_SECONDS = 60.0
"""Of a soak's session, whose memory is not yet what it will be: imports, the first run's buffers."""


@dataclass
class Kills:
    """What became of them. `during`: by what the process was doing as its files say; `orphans`: processes it left."""

    kills: int = 0
    during: dict[str, int] = field(default_factory=dict)
    finished: int = 0
    different: int = 0
    stuck: int = 0
    orphans: int = 0
    leftovers: int = 0


def kills(number: int, seed: int, folder: Path, say: Callable[[str], None]) -> Kills:
    """Kill `number` times, in `folder`, and let the last run come to its end. `stuck` counts runs that could not go on,
    which ends it."""
    draw, done = random.Random(seed), Kills()
    flags = [*_images(8000), "--epochs", "4", "--no-report"]
    whole = folder / "whole"
    began = time.monotonic()
    _fastcifar("train", *SMALL, *flags, "--out", str(whole)).communicate()
    seconds = time.monotonic() - began
    run, path = 0, folder / "run-0"
    while done.kills < number or path.exists():
        if (path / "run.json").exists():
            process = _fastcifar("train", "--resume", str(path), "--no-report")
        else:
            process = _fastcifar("train", *SMALL, *flags, "--out", str(path), "--checkpoint-seconds", "0.2")
        if done.kills < number:
            kind = draw.choice(KINDS)
            _wait(process, kind, path / "checkpoints", draw, seconds)
            if process.poll() is None:
                done.orphans += _kill(process)
                done.kills += 1
                doing = _doing(path)
                done.during[doing] = done.during.get(doing, 0) + 1
                say(f"kill {done.kills}/{number} ({kind}): {doing}")
                continue
        said = process.communicate()[1]
        if process.returncode:
            done.stuck += 1
            say(f"it cannot go on: {said}")
            break
        done.finished += 1
        done.different += not _same(path, whole)
        if left := _leftovers(path, whole):
            done.leftovers += len(left)
            say(f"left behind: {', '.join(sorted(left))}")
        say(f"run {run} is over: {'as' if _same(path, whole) else 'NOT as'} one that was not killed")
        run, path = run + 1, folder / f"run-{run + 1}"
    return done


@dataclass
class Soak:
    """A soak's figures. Memory and open files are of sessions longer than `SETTLING_SECONDS`, from then on."""

    minutes: float
    cpu_minutes: float = 0.0
    sessions: int = 0
    kills: int = 0
    stops: int = 0
    runs: int = 0
    interruptions: int = 0
    lost_seconds: float = 0.0
    resident_mib: float = 0.0
    resident_mib_per_hour: float = 0.0
    most_files_more: int = 0
    orphans: int = 0
    leftovers: int = 0
    failed: int = 0


def soak(minutes: float, seed: int, folder: Path, say: Callable[[str], None]) -> Soak:
    """Measure, kill, stop and resume for so long, in `folder`."""
    draw, done, record = random.Random(seed), Soak(minutes), folder / "soak.record.json"
    command = [*SMALL, *_images(2000), "--epochs", "2", "--runs", "10000", "--json", str(record)]
    end = time.monotonic() + 60 * minutes
    resident: list[tuple[float, float]] = []  # seconds, MiB above the session's mean
    while time.monotonic() < end:
        process = _fastcifar("bench", "accuracy", *command, *_resumed(record), "--checkpoint-seconds", "0.5")
        done.sessions += 1
        last = min(end, time.monotonic() + draw.choice((10, 20, 60, 120, 300)) * draw.uniform(0.5, 1.5))
        samples, cpu = _watched(process, last)
        done.cpu_minutes += cpu / 60
        if process.poll() is not None:
            done.failed += 1
            say(f"it ended by itself: {process.communicate()[1]}")
            break
        if draw.random() < 0.5:
            done.orphans += _kill(process)
            done.kills += 1
        else:
            process.send_signal(draw.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)))
            process.communicate(timeout=60)
            done.stops += 1
        settled = [sample for sample in samples if sample[0] > SETTLING_SECONDS]
        if len(settled) > 20:
            mean = statistics.fmean(size for _, size, _ in settled)
            done.resident_mib = max(done.resident_mib, mean)
            resident += [(at, size - mean) for at, size, _ in settled]
            files = [number for *_, number in settled]
            done.most_files_more = max(done.most_files_more, max(files[len(files) // 2 :]) - max(files[:20]))
        took = samples[-1][0] if samples else 0
        say(f"session {done.sessions}: {took:.0f} s, {done.kills} kills, {done.stops} stops")
    if len({at for at, _ in resident}) > 1:
        done.resident_mib_per_hour = 3600 * statistics.linear_regression(*zip(*resident, strict=True)).slope
    if record.exists():
        found = read_record(record)
        done.runs = len(found.runs)
        done.interruptions = sum(run.interruptions for run in found.runs)
        done.lost_seconds = sum(run.lost_seconds for run in found.runs)
    done.leftovers = _after_the_last(command, record)
    return done


def _after_the_last(command: Sequence[str], record: Path) -> int:
    """How many files there are but the record, once a last process has gone on and come to its end."""
    done = len(read_record(record).runs) if record.exists() else 0
    last = [*command, "--runs", str(done + 1), *_resumed(record)]
    _fastcifar("bench", "accuracy", *last, "--checkpoint-seconds", "0.5").communicate()
    return sum(path != record for path in record.parent.rglob("*"))


def _resumed(record: Path) -> list[str]:
    """How a measurement goes on that has a record, or a run under way."""
    return ["--resume"] if record.exists() or list(record.parent.glob("*.checkpoints")) else []


def _images(train: int) -> list[str]:
    name = "cifar10" if locate_cifar10() else "synthetic"
    return ["--dataset", name, "--limit-train", str(train), "--limit-test", "1000"]


def _fastcifar(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "fastcifar", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=_hears_signals
    )


def _hears_signals() -> None:
    """Also where this one was begun by nohup, or in the background of a script."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _wait(process: "subprocess.Popen[str]", kind: str, checkpoints: Path, draw: random.Random, seconds: float) -> None:
    """Until an instant of this kind, or the end; `seconds` is how long a whole process takes."""
    if kind == "anywhere":
        _poll(process, draw.uniform(0, seconds))
        return
    before = {path.name for path in checkpoints.glob("*.safetensors")}
    _poll(process, 60, lambda: {path.name for path in checkpoints.glob("*.safetensors")} - before)
    _poll(process, draw.uniform(0, seconds / 3))
    if kind == "writing":
        _poll(process, 60, lambda: list(checkpoints.glob(".*.safetensors.*.tmp")))


def _poll(process: "subprocess.Popen[str]", seconds: float, until: Callable[[], Any] = lambda: False) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None and not until():
        time.sleep(0.0002)


def _kill(process: "subprocess.Popen[str]") -> int:
    """`kill -9`; how many of its children are still there five seconds later."""
    process.send_signal(signal.SIGSTOP)  # at this instant, while its children are looked for
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=5)
    return len(alive)


def _doing(path: Path) -> str:
    """What the process was doing when it ended, as its files say."""
    if list((path / "checkpoints").glob(".*.tmp")):
        return "writing a checkpoint"
    if not (path / "run.json").exists():
        return "starting"
    status = json.loads((path / "run.json").read_bytes())["status"]
    return {"running": "training", "starting": "setting up"}.get(status, status)


def _same(path: Path, whole: Path) -> bool:
    """Weights and log are equal, bit for bit, times aside."""
    one, other = (load_file(run / "model.safetensors") for run in (path, whole))
    logs = [[json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()] for run in (path, whole)]
    timeless = [[line | dict.fromkeys(TIMES) for line in log] for log in logs]
    equal = one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    return equal and timeless[0] == timeless[1]


def _leftovers(path: Path, whole: Path) -> set[str]:
    return {file.name for file in path.rglob("*")} - {file.name for file in whole.rglob("*")}


def _watched(process: "subprocess.Popen[str]", end: float) -> tuple[list[tuple[float, float, int]], float]:
    """Seconds, resident MiB and open files of a process until `end` or its own, and the CPU seconds it took."""
    watched, began, cpu = psutil.Process(process.pid), time.monotonic(), 0.0
    samples: list[tuple[float, float, int]] = []
    while time.monotonic() < end and process.poll() is None:
        time.sleep(SAMPLE_SECONDS)
        try:
            size, files, times = watched.memory_info().rss, watched.num_fds(), watched.cpu_times()
        except psutil.NoSuchProcess:
            break
        samples.append((time.monotonic() - began, size / 2**20, files))
        cpu = times.user + times.system
    return samples, cpu


def kills_suite(arguments: Sequence[str]) -> int:
    """`python -m benchmarks kills`. Returns 0 where all is as it should be, else 1. Raises `InputError`."""
    parser = _parser("kills", "kill -9 a run at random instants, and continue it each time")
    parser.add_argument("--kills", type=int, default=50, metavar="N")
    given = parser.parse_args(arguments)
    if given.kills < 1:
        raise InputError(f"--kills {given.kills}: at least one is needed")
    with tempfile.TemporaryDirectory(prefix="fastcifar-kills-") as name:
        found = kills(given.kills, given.seed, Path(name), _say)
    print(json.dumps(asdict(found), indent=1))
    return int(any((found.different, found.stuck, found.orphans, found.leftovers)))


def soak_suite(arguments: Sequence[str]) -> int:
    """`python -m benchmarks soak`. Returns 0 where nothing failed and nothing is left, else 1. Raises `InputError`."""
    parser = _parser("soak", "a measurement killed, stopped and resumed at random: its memory, files and processes")
    parser.add_argument("--minutes", type=float, default=30.0, metavar="N")
    given = parser.parse_args(arguments)
    if not given.minutes > 0:
        raise InputError(f"--minutes {given.minutes:g}: must be above 0")
    with tempfile.TemporaryDirectory(prefix="fastcifar-soak-") as name:
        found = soak(given.minutes, given.seed, Path(name), _say)
    print(json.dumps(asdict(found), indent=1))
    return int(any((found.failed, found.orphans, found.leftovers)))


def _parser(name: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=about)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    return parser


def _say(line: str) -> None:
    print(line, flush=True)
