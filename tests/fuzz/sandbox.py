"""A folder in which the command line is run in this process and held to how it may end, and to where it may write."""

import contextlib
import io
import os
import shutil
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from fastcifar import commands
from fastcifar.report.console import LONGEST

SECONDS = 60.0
"""Of one input, on two slow cores that others use too; the slowest command takes three by itself."""
Tree = dict[str, tuple[int, ...]]


class Hang(BaseException):
    """No `Exception`, which a command turns into its one line."""


@dataclass(frozen=True)
class Outcome:
    """How a command line ended."""

    code: int
    out: str
    err: str


@dataclass
class Sandbox:
    """`given` holds what a command reads, `out` is where it may write; `outside`, home and the present folder are
    whatever else a machine has."""

    root: Path
    seconds: float = SECONDS
    counts: Counter[str] = field(default_factory=Counter)
    """Inputs so far, by exit code."""

    def __post_init__(self) -> None:
        self.given, self.out, self.outside = (self.root / name for name in ("in", "out", "outside"))
        for name in ("home", "cwd", "outside/checkpoints", "tmp"):
            (self.root / name).mkdir(parents=True)
        for name in ("victim.json", "checkpoints/session.json", "checkpoints/heartbeat", "checkpoints/.a.01234567.tmp"):
            (self.outside / name).write_text("{}")
        self.fresh()

    def fresh(self) -> None:
        """Before the next input: nothing given, nothing written."""
        for folder in (self.given, self.out):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    def run(self, *words: str, trains: bool = False, also: Sequence[str] = ()) -> Outcome:
        """Run a command line and require that it ended well or badly as it may.

        `trains`: exit code 1, of a run that failed, is one of its ends. `also` are beginnings of paths below the root
        that it may write beside `out` and the cache.
        """
        before = self._tree()
        with self._here(), _streams() as (out, err), warnings.catch_warnings(record=True) as warned, self._limit(words):
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            code = commands.main(words)
        found = Outcome(code, _text(out), _text(err))
        self.counts[str(code)] += 1
        said = f"fastcifar {' '.join(map(ascii, words))[:2000]}\nexit code {code}\n{found.err[-3000:]!a}"
        assert code in ((0, 1, 2) if trains else (0, 2)), said
        assert "--debug prints the traceback" not in found.err, said
        assert "Traceback" not in found.err, said
        lines = found.err.splitlines()
        assert all(line.startswith("fastcifar: ") and len(line) <= LONGEST + 30 for line in lines), said
        assert bool(lines) or code == 0, said
        for text in (found.out, found.err):
            assert all(one.isprintable() for one in text.replace("\n", "")), f"{said}\n{ascii(text)[:3000]}"
        assert not warned, f"{said}\n{[str(one.message) for one in warned]}"
        after = self._tree()
        changed = {name for name in before | after if before.get(name) != after.get(name)}
        allowed = ("out", "home/.cache", *also)
        wrong = [name for name in changed if not any(name == one or name.startswith(f"{one}/") for one in allowed)]
        assert not wrong, f"{said}\nwritten: {wrong}"
        return found

    def _tree(self) -> Tree:
        """What each path below the root is. A folder's times are left out: what is written in it is seen itself."""
        found: Tree = {}
        folders = [self.root]
        while folders:
            for one in os.scandir(folders.pop()):
                about, name = one.stat(follow_symlinks=False), os.path.relpath(one.path, self.root)
                if one.is_dir(follow_symlinks=False):
                    found[name] = (about.st_mode,)
                    folders.append(Path(one.path))
                else:
                    found[name] = (about.st_mode, about.st_ino, about.st_size, about.st_mtime_ns)
        return found

    @contextlib.contextmanager
    def _here(self) -> Iterator[None]:
        """The present folder, home and the environment are the sandbox's."""
        environment, folder, temporary = dict(os.environ), Path.cwd(), tempfile.tempdir
        os.environ |= {
            "HOME": str(self.root / "home"),
            "XDG_CACHE_HOME": str(self.root / "home" / ".cache"),
            "FASTCIFAR_DATA": str(self.root / "cwd"),  # no images: nothing is downloaded, and nothing trained on them
            "COLUMNS": "100",
        }
        tempfile.tempdir = str(self.root / "tmp")
        os.chdir(self.root / "cwd")
        try:
            yield
        finally:
            os.chdir(folder)
            tempfile.tempdir = temporary
            os.environ.clear()
            os.environ.update(environment)

    @contextlib.contextmanager
    def _limit(self, words: Sequence[str]) -> Iterator[None]:
        def late(number: int, frame: FrameType | None) -> None:
            raise Hang(f"more than {self.seconds:g} s: fastcifar {' '.join(map(ascii, words))[:2000]}")

        earlier: Callable[..., object] | int | None = signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, earlier)


@contextlib.contextmanager
def counted(sandbox: Sandbox, kind: str) -> Iterator[None]:
    """Say in the end, however it comes, how many inputs of a kind there were; and at once what went wrong."""
    began = time.perf_counter()
    try:
        yield
    except Exception as error:
        print(f"\nfuzz: {kind}: {str(error)[:3000]}", flush=True)
        raise
    finally:
        by_code = ", ".join(f"{count:,} ended with {code}" for code, count in sorted(sandbox.counts.items()))
        seconds = time.perf_counter() - began
        print(f"\nfuzz: {kind}: {sandbox.counts.total():,} inputs in {seconds:.0f} s: {by_code}", flush=True)


@contextlib.contextmanager
def _streams() -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """stdout and stderr as a pipe has them: UTF-8, written as Python writes to each."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


def _text(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()
