"""`python -m benchmarks checkpoints`: what keeping a run's whole state costs its training.

In one run, blocks of training steps with a checkpoint and without take turns. What a block with one takes more, copying
the state and the writing beside training together, is its cost; over the interval between two it is the share.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import machine
from fastcifar.bench.environment import environment
from fastcifar.data.load import load_dataset
from fastcifar.errors import InputError
from fastcifar.execution import Execution, resolve
from fastcifar.recipe.files import load_recipe
from fastcifar.training.checkpoint import Checkpoints, Spent
from fastcifar.training.clock import Clock
from fastcifar.training.log import Observer
from fastcifar.training.trainer import Trainer


class Enough(Exception):  # noqa: N818 (no error)
    """All blocks are measured."""


class Blocks(Observer):
    """Times `number` blocks of `steps` training steps; every other one has a checkpoint, which is on the disk at its
    end."""

    def __init__(self, trainer: Trainer, kept: Checkpoints, steps: int, number: int) -> None:
        self._trainer, self._kept, self._steps, self._number = trainer, kept, steps, number
        self._count = 0
        self.seconds: list[float] = []
        self.copying: list[float] = []

    def step(self, epoch: int, step: int) -> None:
        at = self._count % (2 * self._steps)
        if at in (0, self._steps):
            self._clock = Clock(self._trainer.device)
        if at == 0:
            began = time.perf_counter()
            self._kept.keep()
            self.copying.append(time.perf_counter() - began)
        self._count += 1
        if self._count % self._steps == 0:
            self._kept.written()
            self.seconds.append(self._clock.seconds())
            if len(self.seconds) == self._number:
                raise Enough


def suite(arguments: Sequence[str]) -> int:
    """Measure, print. Raises `InputError`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks checkpoints", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--recipe", default="seed", metavar="NAME|FILE.toml")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=12, metavar="N", help="in a block")
    parser.add_argument("--pairs", type=int, default=12, metavar="N", help="of blocks, with and without")
    parser.add_argument("--seconds", type=float, default=60.0, help="between two checkpoints")
    given = parser.parse_args(arguments)
    if min(given.batch_size, given.steps, given.pairs, given.seconds) <= 0:
        raise InputError("at least one is needed")
    number = 2 * (given.pairs + 1)  # a pair to warm up
    recipe = load_recipe(given.recipe)
    recipe = replace(recipe, batch_size=given.batch_size, batch_sizes=(), limit_test=given.batch_size)
    dataset = load_dataset(recipe)
    if number * given.steps * given.batch_size > len(dataset.train_images):
        raise InputError("so many steps are more than an epoch")
    execution, _ = resolve(Execution())
    trainer = Trainer(recipe, dataset, execution)
    with tempfile.TemporaryDirectory(prefix="fastcifar-checkpoints-") as name:
        spent = Spent("")
        kept = Checkpoints(Path(name), trainer, spent, seconds=0, wall=time.monotonic, tell=print)
        blocks = Blocks(trainer, kept, given.steps, number)
        with contextlib.suppress(Enough), kept:
            trainer.run([blocks])
        size = max(path.stat().st_size for path in Path(name).glob("*.safetensors"))
    with_one, without = blocks.seconds[2::2], blocks.seconds[3::2]
    cost = [one - other for one, other in zip(with_one, without, strict=True)]
    q1, median, q3 = statistics.quantiles(cost, n=4, method="inclusive")
    found = {
        "machine": machine(environment(execution.device)),
        "recipe": given.recipe,
        "bytes": size,
        "block_seconds": statistics.median(without),
        "copying_seconds": statistics.median(blocks.copying[1:]),
        "cost_seconds": {"q1": q1, "median": median, "q3": q3, "values": cost},
        "share": {"seconds": given.seconds, "q1": q1 / given.seconds, "median": median / given.seconds},
    }
    print(json.dumps(found, indent=1))
    return 0
