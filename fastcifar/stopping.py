"""Signals that ask the process to end: Ctrl-C, `kill`, a closed terminal.

The first raises `Stopped` where the program is; while a run is trained (`held`) it is only noted, and training ends
itself, its state kept, once the step under way is done. A second Ctrl-C ends the process at once.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from fastcifar.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_AT_ONCE = (signal.SIGINT, signal.SIGQUIT)  # what a person at a terminal gives again; the others come from programs


class _Asked:
    """What the process was asked, and what is yet to be done in it whatever happens."""

    by: int | None = None
    """The first signal."""
    held = False
    last_words: list[Callable[[], None]]


_asked = _Asked()
_asked.last_words = []


def end_on_signals() -> None:
    """From now on `SIGNALS` end this process as this module says. For the main program, which owns the process."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _stop)
    # A handler waits for the main thread to come back from torch, which may take seconds; a thread does not.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True, name="signals").start()


def requested() -> int | None:
    """The signal that training has been asked to stop by."""
    return _asked.by if _asked.held else None


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Inside, a first signal is only noted, for `requested`; it raises `Stopped` at the end at the latest.

    It is for whoever looks at `requested` every few seconds. In a program of somebody else's, a notebook say, this
    concerns Ctrl-C alone, and the second one raises `KeyboardInterrupt`.
    """
    before = signal.getsignal(signal.SIGINT)
    theirs = before is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    if theirs:
        _asked.by = None
        signal.signal(signal.SIGINT, _note)
    _asked.held = True
    try:
        yield
        if _asked.by:
            raise Stopped(_asked.by)
    finally:
        _asked.held = False
        if theirs:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def last_words(say: Callable[[], None]) -> Iterator[None]:
    """Inside, `say` is called in a thread before the process ends at once; it must be short, and take no lock."""
    _asked.last_words.append(say)
    try:
        yield
    finally:
        _asked.last_words.remove(say)


def _stop(number: int, frame: object) -> None:
    """The handler of a program of ours. What interrupts a clean-up would leave half of it, so a second does nothing."""
    if _asked.by is None:
        _asked.by = number
        if not _asked.held:
            raise Stopped(number)


def _note(number: int, frame: object) -> None:
    """The handler of Ctrl-C in a program of somebody else's, while held."""
    if _asked.by is not None:
        raise KeyboardInterrupt
    _asked.by = number


def _watch(reader: int) -> None:
    """End the process at a second Ctrl-C; `reader` gives a byte a signal."""
    count = 0
    while numbers := os.read(reader, 1):
        if numbers[0] not in SIGNALS:
            continue
        count += 1
        if count > 1 and numbers[0] in _AT_ONCE:
            for say in reversed(_asked.last_words):
                with contextlib.suppress(Exception):  # nothing holds up the end
                    say()
            os.write(2, b"fastcifar: interrupted at once\n")
            os._exit(128 + (_asked.by or numbers[0]))
