"""A program in a process of its own: what it prints, how it ends, and that it ends with us or when its time is up."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import fastcifar
from fastcifar import stopping
from fastcifar.errors import RunError, printable

PATIENCE = 5.0  # seconds from asking a program to end to killing it
PATIENT = 4  # times its seconds, before a program is ended that has not done enough


class ProgramError(RunError):
    """A program ended with another exit code than 0; `said` is all of its standard error, `lines` what it printed."""

    def __init__(self, message: str, code: int, said: str, lines: Sequence["Line"] = ()) -> None:
        super().__init__(message)
        self.code, self.said, self.lines = code, said, list(lines)


@dataclass(frozen=True)
class Line:
    """A line of a program's output, and the Unix time it came at."""

    at: float
    text: str


@dataclass(frozen=True)
class Output:
    """What a program printed, and its standard error; `cut` if it was ended because its time was up."""

    lines: list[Line]
    said: str
    cut: bool


def run_own(module: str, arguments: Sequence[str], folder: Path, *, seconds: float | None = None) -> Output:
    """`run_program` of `python -m module`, a module of this fastcifar, be it installed or run from a checkout.

    It makes one run and ends, so that nothing it prints is enough before.
    """
    places = [str(Path(fastcifar.__file__).absolute().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-m", module, *arguments]
    return run_program(command, folder, seconds=seconds, environment=environment, enough=lambda lines: False)


def run_program(
    command: Sequence[str],
    folder: Path,
    *,
    seconds: float | None = None,
    show: bool = False,
    environment: Mapping[str, str] | None = None,
    enough: Callable[[Sequence[Line]], bool] = lambda lines: True,
) -> Output:
    """Run `command` in `folder` and wait for it, `seconds` at most: then it is ended, with all that it has started.

    It dies with us: what ends the wait ends the program. `environment` is ours unless given. `show` lets it write to
    our own output; then there are no lines. A program that has not printed `enough` when its `seconds` are over has up
    to `PATIENT` times as many. Raises `ProgramError`, the last line of its standard error, where its exit
    code is not 0.
    """
    cut, ended, lines = threading.Event(), threading.Event(), list[Line]()
    with tempfile.TemporaryFile() as errors:
        process: subprocess.Popen[str] | None = None

        def watch(process: "subprocess.Popen[str]", seconds: float) -> None:
            last, wait = time.monotonic() + PATIENT * seconds, seconds
            while not ended.wait(wait):
                if enough(tuple(lines)) or time.monotonic() >= last:
                    if process.poll() is None:
                        cut.set()
                        _end(process)
                    return
                wait = seconds / 20

        try:
            with stopping.held():  # ended in the middle of it, we would leave a program that nobody knows of
                # A session of its own, so that the program ends together with the processes that it starts.
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=None if show else subprocess.PIPE,
                    stderr=errors,
                    encoding="utf-8",
                    errors="replace",
                    start_new_session=True,
                )
            if seconds is not None:
                threading.Thread(target=watch, args=(process, seconds), daemon=True).start()
            for line in process.stdout or ():
                lines.append(Line(time.time(), line.rstrip("\n")))
            code = process.wait()
        except BaseException:
            if process:
                _end(process)
            raise
        finally:
            ended.set()
            if process and process.stdout:
                process.stdout.close()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if code and not cut.is_set():
        raise ProgramError(_last_words(said) or _exit(code), code, said, lines)
    return Output(lines, said, cut.is_set())


def _end(process: "subprocess.Popen[str]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(PATIENCE)
            return
        except subprocess.TimeoutExpired:
            continue


def _last_words(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines()]
    return printable(next((line for line in reversed(lines) if line), "")).removeprefix("fastcifar: ")[:300]


def _exit(code: int) -> str:
    return f"it was ended by signal {-code}" if code < 0 else f"it ended with exit code {code} and said nothing"
