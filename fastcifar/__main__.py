"""The command `fastcifar`, and `python -m fastcifar`."""

import signal
import sys

from fastcifar.errors import Stopped


def main() -> int:
    """Run the command line. Ctrl-C, `kill` and a closed terminal end it with one line, from the first import on."""
    try:
        end_on_signals()
        from fastcifar import commands

        return commands.main()
    except Stopped as stop:
        print("fastcifar: interrupted", file=sys.stderr)
        return stop.exit_code


def end_on_signals() -> None:
    """From now on Ctrl-C, `kill` and a closed terminal raise `Stopped`, so that what is open is closed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _stop)


def _stop(number: int, frame: object) -> None:
    raise Stopped(number)


if __name__ == "__main__":
    sys.exit(main())
