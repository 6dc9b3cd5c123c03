"""`python -m benchmarks`: run every benchmark in full and keep what it measured under benchmarks/results/; not from a
checkout with changes that are not committed, unless told to by --allow-dirty.

`python -m benchmarks gpu` is the suite for a machine with a GPU: see benchmarks/gpu.py; `kills` and `soak` try what
becomes of runs that are killed: see benchmarks/kills.py; `checkpoints` measures what keeping a run's state costs;
`search` looks for better recipes: see benchmarks/searching.py; `scaling` measures a step in several processes: see
benchmarks/scaling.py.
"""

import argparse
import sys
from datetime import UTC, datetime

import torch

from benchmarks import checkpoints, gpu, kills, scaling
from benchmarks.machine import RESULTS, machine, require_clean
from fastcifar.bench.environment import environment
from fastcifar.commands import main
from fastcifar.errors import InputError, RunError, Stopped
from fastcifar.stopping import end_on_signals

WIDTHS = (8, 16, 32, 64)


def suite(arguments: list[str]) -> int:
    """Run `fastcifar bench` loaders, step at full width, and train at several; `arguments` (--dataset synthetic, say)
    go to each of them, after its own; --allow-dirty is the suite's. Raises `InputError` in a dirty checkout."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--allow-dirty", action="store_true")
    given, arguments = parser.parse_known_args(arguments)
    here = environment()
    require_clean(here, allow_dirty=given.allow_dirty)
    stem = f"{datetime.now(UTC):%Y-%m-%d}-{machine(here)}"
    # A step of the full network on 512 images takes a CPU up to 20 seconds.
    smaller = [] if torch.cuda.is_available() else ["--batch-size", "64"]
    benches = {
        "loaders": ["loaders"],
        "step": ["step", "--width", "64", *smaller],
        **{f"train-width-{width}": ["train", "--width", str(width)] for width in WIDTHS},
    }
    RESULTS.mkdir(exist_ok=True)
    for name, bench in benches.items():
        command = ["bench", *bench, *arguments]
        print(f"fastcifar {' '.join(command)}", flush=True)
        file = RESULTS / f"{stem}-{name}.json"
        code = main([*command, "--json", str(file), "--figure", str(file.with_suffix(".png"))])
        if code:
            return code
        print(f"kept in {file}")
    return 0


def search(arguments: list[str]) -> int:
    """`search`, which alone needs Optuna: a machine that measures may lack it. Raises `InputError` where it does."""
    try:
        from benchmarks import searching
    except ModuleNotFoundError as error:
        raise InputError(f"search: no {error.name} here; pip install '.[search]'") from error
    return searching.suite(arguments)


def run(arguments: list[str]) -> int:
    """The command line. Returns the exit code."""
    others = {
        "gpu": gpu.suite,
        "kills": kills.kills_suite,
        "soak": kills.soak_suite,
        "checkpoints": checkpoints.suite,
        "search": search,
        "scaling": scaling.suite,
    }
    if arguments[:1] in (["--help"], ["-h"]):
        print(__doc__)
        return 0
    try:
        if not arguments or arguments[0] not in others:
            return suite(arguments)
        end_on_signals()
        return others[arguments[0]](arguments[1:])
    except InputError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"benchmarks: {f'{error.filename}: ' if error.filename else ''}{error.strerror}", file=sys.stderr)
        return 1
    except Stopped as stop:
        goes_on = "; run it again to continue with the parts that are not done" if arguments[:1] == ["gpu"] else ""
        print(f"benchmarks: interrupted{goes_on}", file=sys.stderr)
        return stop.exit_code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
