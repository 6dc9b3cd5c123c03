"""The ways a command ends badly: the user's input was wrong, the run failed, or it was told to stop."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class InputError(Exception):
    """Bad input: one line that says what was wrong, where, and what to do. Exit code 2."""


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end: Ctrl-C, `kill`, a closed terminal."""

    def __init__(self, signal: int) -> None:
        super().__init__("interrupted")
        self.exit_code = 128 + signal


class RunError(Exception):
    """A run that started well and failed: one line that says when and why. Exit code 1."""


def memory_problem(error: BaseException, remedy: str = "a smaller batch or network needs less") -> str | None:
    """The line for a person where memory ran out, the GPU's (torch, DALI, cuDNN) or the machine's; None otherwise."""
    text = str(error)
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text:
        where = "out of memory"
    elif re.search(r"CUDA.*out of memory|Can't allocate|STATUS_ALLOC_FAILED", text):
        where = "out of GPU memory"
    else:
        return None
    asked = re.search(r"allocate (\d[\d.]* ?(?:[KMGTP]?i?B|bytes))", text)
    return f"{where}{f' ({asked[1]} more were asked for)' if asked else ''}; {remedy}"


def complaint(error: "ValidationError") -> str:
    """The first of pydantic's complaints as one line: the field's dotted name, what is wrong, and what was given."""
    first = error.errors()[0]
    # Names and values are whatever stands in a file: nothing of them may reach a terminal but what can be printed.
    # A part in <> is no field: it says which kind of a table was looked at.
    places = [part for part in first["loc"] if not re.fullmatch(r"<\w+>", str(part))]
    field = "".join(f"{part}." for part in places)[:-1].encode("unicode_escape").decode()[:100]
    said = f"{first['msg'][0].lower()}{first['msg'][1:]}, got {short(first['input'])}"
    return f"{field}: {said}" if field else said


def short(value: object) -> str:
    """A value that stands in a file, as a line may show it: in ASCII, and at most 60 characters of it."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
