"""The command `fastcifar`, and `python -m fastcifar`."""

import sys

from fastcifar.errors import Stopped
from fastcifar.stopping import end_on_signals


def main() -> int:
    """Run the command line. Ctrl-C, `kill` and a closed terminal end it with one line, from the first import on."""
    try:
        end_on_signals()
        from fastcifar import commands

        return commands.main()
    except Stopped as stop:
        print("fastcifar: interrupted", file=sys.stderr)
        return stop.exit_code


if __name__ == "__main__":
    sys.exit(main())
