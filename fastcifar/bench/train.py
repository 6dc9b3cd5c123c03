"""`fastcifar bench train`: training end to end with each loader, and how long the device waits for its data."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import torch

from fastcifar.bench.loaders import AUGMENTATION, YARDSTICK, Batches, epochs
from fastcifar.bench.plain import PlainLoader
from fastcifar.bench.step import new_step
from fastcifar.bench.throughput import Candidate, Measurement, in_turn
from fastcifar.data.dataset import Dataset
from fastcifar.data.loader import open_loader
from fastcifar.execution import Execution, has_dali, resolve
from fastcifar.own import NetworkFactory
from fastcifar.recipe import Model
from fastcifar.training.clock import Clock
from fastcifar.training.step import DTYPES

READY = "ready"


def bench_train(
    dataset: Dataset,
    model: Model,
    *,
    own: NetworkFactory | None = None,
    device: torch.device,
    batch_size: int = 512,
    blocks: int = 7,
    seconds: float = 6.0,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Measurement]:
    """Images/s of training with each loader, each block a new epoch of as many steps as fill about `seconds`.

    `ready` is the same step on a batch that is already there, and the limit. Details: `stall`, the median share of a
    block's time that it would not take with `ready`'s data: what the device waits, and on a CPU also what the loader's
    threads take of the training's cores. Of `fused` on a GPU it is more than in `fastcifar train`, where a step's graph
    makes its own batch.
    """
    execution, _ = resolve(Execution(device="cuda" if device.type == "cuda" else "cpu"), own=own is not None)
    classes = len(dataset.classes)
    step, fixed = new_step(model, classes, own, batch_size, device, execution.precision, execution.compile)
    fixed = fixed[0].to(DTYPES[execution.precision]), fixed[1]  # as `fused` gives it
    for _ in range(3):
        step(*fixed)
    clock = Clock(device)
    step(*fixed)
    whole = len(dataset.train_images) // batch_size
    steps = min(whole, max(2, math.ceil(seconds / clock.seconds())))

    def block(source: Iterator[Batches]) -> float:
        batches = iter(next(source))
        for _ in range(steps):
            step(*next(batches))
        return steps * batch_size

    sources: dict[str, Iterator[Batches]] = {READY: itertools.repeat([fixed] * steps)}
    for name in ("dali", "fused") if has_dali() else ("fused",):
        progress(f"setting up: {name}")
        loader = open_loader(
            name, dataset, AUGMENTATION, batch_size=batch_size, device=device, dtype=DTYPES[execution.precision]
        )
        sources[name] = epochs(loader, dataset, steps * batch_size)
    plain = PlainLoader(dataset, batch_size=batch_size, batches=steps, workers=2, device=device)
    sources[YARDSTICK] = itertools.repeat(plain)
    candidates = [Candidate(name, partial(block, source), device) for name, source in sources.items()]
    rates = in_turn(candidates, blocks, progress)
    measured = {name: Measurement.of("train", name, "images/s", *taken) for name, taken in rates.items()}
    ready = measured[READY]
    out = []
    for one in measured.values():
        shares = [1 - rate / free for rate, free in zip(one.values, ready.values, strict=True)]
        stall = max(0.0, statistics.median(shares))
        out.append(one.against(measured[YARDSTICK], ready.median, stall=stall, steps=steps, model=model.name))
    return out
