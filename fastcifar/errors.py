"""The ways a command ends badly: the user's input was wrong, the run failed, or it was told to stop."""

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class InputError(Exception):
    """Bad input: one line that says what was wrong, where, and what to do. Exit code 2.

    >>> try:
    ...     fastcifar.train("labtop")
    ... except fastcifar.InputError as error:
    ...     print(str(error).rpartition("(")[2])
    perhaps you meant laptop)
    """


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end: Ctrl-C, `kill`, a closed terminal."""

    def __init__(self, signal: int) -> None:
        super().__init__("interrupted")
        self.exit_code = 128 + signal


class RunError(Exception):
    """A run that started well and failed: one line that says when and why. Exit code 1.

    >>> try:
    ...     rates = {"max_lr": 1e30, "min_lr": 1e29}
    ...     fastcifar.train("seed", epochs=5, schedule=rates, model={"width": 2}, dataset="synthetic", limit_train=2048)
    ... except fastcifar.RunError as error:
    ...     print(str(error).partition(",")[0])
    the loss is nan in epoch 1
    """


def perhaps(word: object, names: Iterable[str], otherwise: str = "") -> str:
    """Of a word that is none of `names`, the end of its complaint: the name that it is most like, or `otherwise`."""
    similar = difflib.get_close_matches(str(word), names, n=1)
    return f" (perhaps you meant {similar[0]})" if similar else otherwise


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
    field = printable(".".join(map(str, places)))[:100]
    said = f"{first['msg'][0].lower()}{printable(first['msg'][1:])}, got {short(first['input'])}"
    return f"{field}: {said}" if field else said


def short(value: object) -> str:
    """A value that stands in a file, as a line may show it: in ASCII, and at most 60 characters of it."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes; lists in lists
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= 60 else f"{text[:57]}..."


def printable(text: object) -> str:
    """Text, or a path, as a terminal may be given it: what is no visible character is escaped.

    That is control characters, the ends of lines too; those of no width, that turn the direction of writing, or are
    tags (Unicode's Cf); and bytes of a path that are no UTF-8.
    """
    return "".join(one if one.isprintable() else _escaped(one) for one in str(text))


def _escaped(one: str) -> str:
    byte = ord(one) - 0xDC00  # as Python holds a byte of a path that is no UTF-8
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else ascii(one)[1:-1]
