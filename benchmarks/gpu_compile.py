"""`python -m benchmarks.gpu_compile --json FILE RECIPE:MODE ...`: have torch compile, for recipes at once, what the
suite then measures one after the other.

torch keeps on disk what it has compiled, for the processes that come later; one alone compiles shape after shape.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from fastcifar.bench.environment import environment
from fastcifar.data.load import load_dataset
from fastcifar.execution import Execution, resolve
from fastcifar.files import write_whole
from fastcifar.recipe import Recipe, Resnet
from fastcifar.recipe.changes import merged
from fastcifar.recipe.files import load_recipe
from fastcifar.training.trainer import Trainer


def small(recipe: Recipe) -> Recipe:
    """`recipe` at toy size."""
    narrow = {"width": 4} if isinstance(recipe.model, Resnet) else {"widths": (4, 4, 4)}
    fields = {"dataset": "synthetic", "limit_train": 1024, "limit_test": 200, "batch_size": 64, "batch_sizes": ()}
    return merged(recipe, {**fields, "model": narrow})


def set_up(recipe: Recipe, device: str, mode: str, data: Path | None) -> float:
    """The seconds it takes to have a trainer of `recipe`, ready for its first step."""
    execution, _ = resolve(Execution(device=device, compile=mode))  # type: ignore[arg-type]
    return Trainer(recipe, load_dataset(recipe, data), execution).setup_seconds


def main() -> int:
    """The command line. Returns the exit code: 1 where one could not be set up."""
    parser = argparse.ArgumentParser(description="Have torch compile ahead what the suite for a GPU measures.")
    parser.add_argument("--json", type=Path, help="a process for each, and the seconds that each took, in this file")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("what", nargs="+", metavar="RECIPE:MODE")
    given = parser.parse_args()
    if given.json is None:
        for one in given.what:
            name, _, mode = one.partition(":")
            recipe = small(load_recipe(name)) if given.toy else load_recipe(name)
            print(set_up(recipe, given.device, mode, given.data))
        return 0
    here = environment()
    # torch compiles in as many processes as there are cores, for each of these.
    threads = {"TORCHINDUCTOR_COMPILE_THREADS": str(max(1, len(os.sched_getaffinity(0)) // len(given.what)))}
    flags = [*(["--toy"] if given.toy else []), *(["--data", str(given.data)] if given.data else [])]
    command = [sys.executable, "-m", "benchmarks.gpu_compile", "--device", given.device, *flags]
    # They end with the suite's part, which is a session of its own.
    running = {
        one: subprocess.Popen([*command, one], env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True)
        for one in given.what
    }
    seconds: dict[str, float] = {}
    for one, process in running.items():
        said, _ = process.communicate()
        if not process.returncode:
            seconds[one] = float(said.splitlines()[-1])
    values = {"format": 1, "environment": here, "seconds": seconds}
    write_whole(given.json, json.dumps(values, indent=2).encode())
    return int(len(seconds) < len(running))


if __name__ == "__main__":
    sys.exit(main())
