"""The terminal of the command line, and how it says a time."""

import codecs
import errno
import os
import re
import sys
from collections.abc import Iterable
from io import TextIOWrapper
from typing import Any

import rich.console
from rich.segment import Segment

from fastcifar.errors import printable

PLAIN_LINE_SECONDS = 30.0
"""How often a line is printed where the output is no terminal."""
LONGEST = 1000
"""Characters of a complaint; the middle of a longer one, which quotes what it complains of, is left out."""
# What of our own text is not ASCII, for an output that knows no more; anything else is escaped.
_IN_ASCII = {"–": "-", "±": "+-", "×": "x", "µ": "u", "→": "->", "…": ".", "─": "-", "│": "|", "├": "|", "└": "`"}


class Console(rich.console.Console):
    """rich's console, which prints plain text as it is and says so when the reader of its output has gone.

    All that is printed goes through `printable`, by way of `render` and `complain`: names, paths and texts of files may
    hold what a terminal takes for a command. An output that is not UTF-8 gets what it can show.
    """

    def __init__(self, **about: Any) -> None:
        # A size of 0, or of no number, is none: rich would print nothing, or fail.
        sizes = {"COLUMNS", "LINES"}
        environ = {k: v for k, v in os.environ.items() if k not in sizes or re.fullmatch(r"0*[1-9][0-9]{0,3}", v)}
        super().__init__(**{"_environ": environ, **about})
        if "file" not in about and isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="fastcifar")

    def render(
        self, renderable: rich.console.RenderableType, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """rich's, each text without what is no visible character, but for ends of lines."""
        for text, style, control in super().render(renderable, options):
            if not control and not text.isprintable():
                text = "\n".join(map(printable, text.split("\n")))
            yield Segment(text, style, control)

    def say(self, *lines: str) -> None:
        """Print each line unchanged: no markup, no highlighting, no emoji, no wrapping."""
        for line in lines:
            self.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)

    @staticmethod
    def complain(message: str) -> None:
        """One line on standard error, whatever line breaks the message has."""
        line = printable(" ".join(message.split()))
        if len(line) > LONGEST:
            line = f"{line[: LONGEST // 2]} [...] {line[-LONGEST // 2 :]}"
        print(f"fastcifar: {line}", file=sys.stderr)

    def on_broken_pipe(self) -> None:
        """Called by rich where a write fails; the text still held is dropped, lest the exit fails on it too."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise BrokenPipeError(errno.EPIPE, "stopped, since the reader of the output has gone") from None


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(one) or one.encode("ascii", "backslashreplace").decode() for one in text), error.end


codecs.register_error("fastcifar", _in_ascii)
