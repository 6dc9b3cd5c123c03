"""Signals, given to real processes: noted while training, at once a second time, and left alone in a notebook."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastcifar import stopping
from fastcifar.errors import Stopped

PROGRAM = """
import contextlib, os, sys, time
from pathlib import Path
from fastcifar import stopping
from fastcifar.errors import Stopped

def busy(seconds):  # as a step in torch, which no handler interrupts
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))

stopping.end_on_signals()
place = Path(sys.argv[2])
try:
    with stopping.last_words(lambda: place.write_text("said")):
        if sys.argv[1] == "held":
            with stopping.held():
                print("ready", flush=True)
                for _ in range(2000):
                    time.sleep(0.01)
                    if stopping.requested():
                        place.write_text("kept")
                        break
                time.sleep(float(sys.argv[3]))
        else:
            print("ready", flush=True)
            time.sleep(20)
except Stopped as stop:
    print("stopped", flush=True)
    sys.exit(stop.exit_code)
"""


def hears_signals() -> None:
    """Whatever the tests were begun with: a shell's background, or nohup."""
    for number in stopping.SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def started(mode: str, place: Path, after: float = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, mode, str(place), str(after)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hears_signals
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", stopping.SIGNALS)
@pytest.mark.parametrize("mode", ["held", "free"])
def test_the_first_signal_ends_what_runs_and_says_which(mode: str, number: signal.Signals, tmp_path: Path) -> None:
    process = started(mode, tmp_path / "place")
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (out, err, process.returncode) == ("stopped\n", "", 128 + number)
    assert (tmp_path / "place").exists() == (mode == "held")


@pytest.mark.parametrize("times", [2, 11])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_second_ctrl_c_ends_it_at_once(number: signal.Signals, times: int, tmp_path: Path) -> None:
    """Within ten milliseconds too, with one line, its last words said."""
    process = started("held", tmp_path / "place", after=20)
    began = time.monotonic()
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.01 if times == 2 else 0.002)
    out, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 5
    assert (out, err, process.returncode) == ("", "fastcifar: interrupted at once\n", 128 + number)
    assert (tmp_path / "place").read_text() == "said"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_programs_give_twice_does_no_more(number: signal.Signals, tmp_path: Path) -> None:
    """A terminal that closes gives two."""
    process = started("held", tmp_path / "place", after=0.5)
    for _ in range(5):
        process.send_signal(number)
        time.sleep(0.05)
    out, err = process.communicate(timeout=10)
    assert (out, err, process.returncode) == ("stopped\n", "", 128 + number)
    assert (tmp_path / "place").read_text() == "kept"


def test_what_is_ignored_stays_so(tmp_path: Path) -> None:
    """As nohup has it."""
    command = [sys.executable, "-c", PROGRAM, "free", str(tmp_path / "place")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.kill()
    process.communicate()


def test_in_a_program_of_somebody_elses_it_is_about_ctrl_c_alone(heard: None) -> None:
    """The first is noted, the second raises, and afterwards all is as it was."""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def once() -> None:
        with stopping.held():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            assert stopping.requested() == signal.SIGINT
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    with pytest.raises(Stopped):
        once()
    assert stopping.requested() is None

    def twice() -> None:
        with stopping.held():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with stopping.held():
        assert stopping.requested() is None


def test_in_a_thread_nothing_is_asked_of_signals(heard: None) -> None:
    found: list[object] = []

    def inside() -> None:
        with stopping.held():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
