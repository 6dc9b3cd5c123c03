"""The terminal of the command line, and how it says a time."""

import errno
import os
import sys

import rich.console

PLAIN_LINE_SECONDS = 30.0
"""How often a line is printed where the output is no terminal."""


class Console(rich.console.Console):
    """rich's console, which prints plain text as it is and says so when the reader of its output has gone."""

    def say(self, *lines: str) -> None:
        """Print each line unchanged: no markup, no highlighting, no emoji, no wrapping."""
        for line in lines:
            self.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)

    @staticmethod
    def complain(message: str) -> None:
        """One line on standard error, whatever line breaks the message has."""
        print(f"fastcifar: {' '.join(message.split())}", file=sys.stderr)

    def on_broken_pipe(self) -> None:
        """Called by rich where a write fails; the text still held is dropped, lest the exit fails on it too."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise BrokenPipeError(errno.EPIPE, "stopped, since the reader of the output has gone") from None


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
