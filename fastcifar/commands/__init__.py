"""The command line: one module a group of subcommands, and how a command ends."""

import errno
import sys
import traceback
from argparse import ArgumentError
from collections.abc import Sequence
from importlib import import_module

import fastcifar
from fastcifar.commands.parse import early, parse
from fastcifar.errors import InputError, RunError, Stopped, memory_problem, printable
from fastcifar.execution import processes
from fastcifar.report.console import Console

for _group in ("train", "runs", "rates", "bench", "records", "info", "completion"):  # the order of --help
    import_module(f"fastcifar.commands.{_group}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 for a failed run, 2 for bad input, 130 for Ctrl-C (128 + signal)."""
    parser, console, debug = early(), Console(), False
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--version", action="store_true")
    try:
        given, arguments = parser.parse_known_args(argv)
        debug = given.debug
        if given.version:
            console.say(f"fastcifar {fastcifar.__version__}")
        else:
            command = parse(arguments)
            if processes()[1] > 1 and not command.in_processes:
                raise InputError("started in several processes, as torchrun does: only fastcifar train works in them")
            command.check()
            command.run(console)
    except SystemExit as end:  # of tyro's --help
        return int(end.code or 0)
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            print(*map(printable, traceback.format_exc().splitlines()), sep="\n", file=sys.stderr)
        message, code = _end(error)
        # A note says what is kept of what was under way, and how to go on with it.
        console.complain("; ".join([message, *getattr(error, "__notes__", ())]))
        return code
    return 0


def _end(error: BaseException) -> tuple[str, int]:
    """The line for a person, and the exit code."""
    match error:
        case KeyboardInterrupt():
            return str(error) or "interrupted", error.exit_code if isinstance(error, Stopped) else 130
        case InputError() | ArgumentError():
            return str(error), 2
        case RunError():
            return str(error), 1
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            # No run fails by a name that no file can have: it was given, in a flag or a file.
            return f"{place}{error.strerror or error}", 2 if error.errno == errno.ENAMETOOLONG else 1
    summary = (str(error).splitlines() or [""])[0]
    return memory_problem(error) or f"{type(error).__name__}: {summary} (--debug prints the traceback)", 1
