"""`python -m benchmarks scaling`: a recipe's training step in 1, 2, 4, ... processes of this machine, and what of it is
communication.

The batch is the recipe's, whatever the number of processes: this is the time of one run that is shared out. Each
process has a GPU, or the same number of CPU threads. In one run, blocks of three kinds take turns: steps as they are;
the same rows of each process without the others; and the exchange of all gradients alone. What a step takes longer than
without the others is the communication that is not hidden behind the backward pass.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.machine import require_clean
from fastcifar import models
from fastcifar.bench.environment import cores, environment
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution, processes, resolve
from fastcifar.files import require_folder_of, write_whole
from fastcifar.optim import capturable, make
from fastcifar.recipe import OwnModel, OwnOptimizer, Recipe, validated
from fastcifar.recipe.files import load_recipe
from fastcifar.report.console import Console
from fastcifar.report.tables import table
from fastcifar.training.clock import Clock
from fastcifar.training.ranks import Ranks, joined
from fastcifar.training.step import DTYPES, TrainingStep
from fastcifar.training.step_graph import CudaGraphs, Graphed

CLASSES = 10


@dataclass(frozen=True)
class Scaled:
    """Medians over blocks, in seconds a step: as it is, without the other processes, and of the exchange alone."""

    processes: int
    threads: int
    batch: int
    side: int
    parameters: int
    step: float
    alone: float
    exchange: float

    @property
    def images_per_second(self) -> float:
        return self.batch / self.step

    @property
    def communication(self) -> float:
        """Seconds of a step that would not be there without the others."""
        return max(0.0, self.step - self.alone)

    @property
    def hidden(self) -> float | None:
        """The share of the exchange that happens behind the backward pass; None of a process on its own."""
        return None if self.processes == 1 else max(0.0, 1 - self.communication / self.exchange)


def measured(recipe: Recipe, execution: Execution, ranks: Ranks, blocks: int, seconds: float) -> Scaled:
    """Of this process and the others that torchrun started; all give the same."""
    device, side = ranks.device(execution.device), recipe.image_size_of(recipe.epochs - 1)
    batch = recipe.batch_size_of(recipe.epochs - 1)
    rows = ranks.rows(batch)
    torch.manual_seed(0)
    dtype = DTYPES[execution.precision]
    images = torch.randn(rows, 3, 32, 32, device=device).to(dtype=dtype, memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (rows,), device=device)

    def step_of(together: Ranks) -> TrainingStep | Graphed:
        network = models.build(recipe.model, CLASSES).to(device).to(memory_format=torch.channels_last)
        optimizers = make(network, recipe, None, compile=execution.compile)
        step = TrainingStep(
            network,
            optimizers,
            batch_sizes={rows},
            device=device,
            precision=execution.precision,
            compile=execution.compile,
            label_smoothing=recipe.label_smoothing,
            ranks=together,
        )
        step.image_size = side
        if execution.compile != "cuda-graph":
            return step
        capturable(optimizers)
        return Graphed(step, CudaGraphs(device))

    joint, single = step_of(ranks), step_of(Ranks())
    parameters = sum(one.numel() for one in models.build(recipe.model, CLASSES).parameters() if one.requires_grad)
    gradients = torch.zeros(parameters, device=device)

    def exchange() -> None:
        if ranks.count > 1:
            dist.all_reduce(gradients)

    kinds = {
        "step": lambda: joint(images, labels, batch=batch),
        "alone": lambda: single(images, labels),
        "exchange": exchange,
    }
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    times: dict[str, int] = {}
    for block in range(-2, blocks):  # one to warm up, one to see how many fill a block
        for kind, work in kinds.items():
            number = times.get(kind, 3)
            ranks.meet()
            clock = Clock(device)
            for _ in range(number):
                work()
            # All take as long as the slowest, and as many times.
            found = ranks.greatest(torch.tensor(clock.seconds() / number, dtype=torch.float64)).item()
            if block == -1:
                times[kind] = min(10_000, max(3, math.ceil(seconds / max(found, 1e-9))))
            elif block >= 0:
                taken[kind].append(found)
    medians = {kind: statistics.median(values) for kind, values in taken.items()}
    return Scaled(ranks.count, torch.get_num_threads(), batch, side, parameters, **medians)


def rows(found: Sequence[Scaled]) -> list[tuple[str, ...]]:
    """A row a number of processes; efficiency is that of each process, beside the first row's."""
    first = found[0]
    out: list[tuple[str, ...]] = []
    for one in found:
        efficiency = one.images_per_second / first.images_per_second * first.processes / one.processes
        shared = ("–", "–", "–")
        if one.hidden is not None:
            communication = f"{1e3 * one.communication:,.2f} ms, {one.communication / one.step:.0%}"
            shared = (communication, f"{1e3 * one.exchange:,.2f} ms", f"{one.hidden:.0%}")
        step = f"{1e3 * one.step:,.2f} ms"
        out.append((str(one.processes), f"{one.images_per_second:,.0f}", f"{efficiency:.0%}", step, *shared))
    return out


def suite(arguments: Sequence[str]) -> int:
    """Measure, print, keep. Raises `InputError`, and `RunError` where a program fails."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks scaling", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--recipe", default="seed", metavar="NAME|FILE.toml")
    parser.add_argument("--batch-size", type=int, metavar="N", help="in place of the recipe's")
    parser.add_argument("--processes", type=int, nargs="+", metavar="N", help="default 1, 2, 4, ... GPUs or cores")
    parser.add_argument("--blocks", type=int, default=5, metavar="N")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="X", help="of a block")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--allow-dirty", action="store_true")
    given = parser.parse_args(arguments)
    execution, notes = resolve(Execution(device=given.device, loader="fused"))
    if processes()[1] > 1:
        raise InputError("this begins its own processes; run it without torchrun")
    there = torch.cuda.device_count() if execution.device == "cuda" else cores()
    counts = given.processes or [2**power for power in range(there.bit_length())]
    if min(*counts, given.blocks) < 1 or given.seconds <= 0:
        raise InputError("at least one process, one block and some seconds are needed")
    if execution.device == "cuda" and max(counts) > there:
        raise InputError(f"--processes {max(counts)}: there are {there} GPUs")
    recipe = load_recipe(given.recipe)
    if isinstance(recipe.model, OwnModel) or isinstance(recipe.optimizer, OwnOptimizer):
        raise InputError(f"--recipe {given.recipe}: only what ships is measured here")
    if given.batch_size is not None:
        recipe = validated(asdict(recipe) | {"batch_size": given.batch_size, "batch_sizes": ()}, prefix="--")
    if (batch := recipe.batch_size_of(recipe.epochs - 1)) < max(counts):
        raise InputError(f"--batch-size {batch}: fewer images than the {max(counts)} processes")
    if given.json:
        require_folder_of(given.json)
    here = environment(execution.device)
    require_clean(here, allow_dirty=given.allow_dirty)
    console = Console()
    console.say(*notes, f"{given.recipe}, batch {batch}, {execution.device}, {execution.precision}")
    asked = {"recipe": asdict(recipe), "device": given.device, "blocks": given.blocks, "seconds": given.seconds}
    threads = max(1, there // max(counts)) if execution.device == "cpu" else max(1, cores() // max(counts))
    found = []
    for count in counts:
        with console.status(f"{count} processes"):
            found.append(_run(count, threads, asked))
    headings = ("processes", "images/s", "efficiency", "step", "not hidden", "exchange", "hidden")
    console.print(table(headings, rows(found), left=()))
    console.say(f"{found[0].parameters:,} gradients exchanged; {threads} threads a process")
    if given.json:
        values = {"environment": here, "recipe": given.recipe, "scaled": [asdict(one) for one in found]}
        write_whole(given.json, (json.dumps(values, indent=1) + "\n").encode())
        console.say(f"kept in {given.json}")
    return 0


def _run(count: int, threads: int, asked: dict[str, Any]) -> Scaled:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    done = subprocess.run(
        [*command, "-m", "benchmarks.scaling", json.dumps(asked, default=str)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RunError(f"{count} processes: {(done.stderr.strip() or 'nothing was measured').splitlines()[-1][:300]}")
    return Scaled(**json.loads(lines[-1]))


def _worker(asked: dict[str, Any]) -> None:
    execution, _ = resolve(Execution(device=asked["device"], loader="fused"))
    with joined(execution) as ranks:
        found = measured(validated(asked["recipe"]), execution, ranks, asked["blocks"], asked["seconds"])
        if ranks.first:
            print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    _worker(json.loads(sys.argv[1]))
