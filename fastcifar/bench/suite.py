"""The benchmarks together, and the JSON file of what they measured (its schema: bench.schema.json beside this)."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import torch

from fastcifar.bench.loaders import bench_loaders
from fastcifar.bench.step import bench_step
from fastcifar.bench.throughput import Measurement
from fastcifar.bench.train import bench_train
from fastcifar.data.dataset import Dataset
from fastcifar.own import NetworkFactory
from fastcifar.recipe import Model

BenchName = Literal["all", "loaders", "step", "train"]


def run_benches(
    what: BenchName,
    dataset: Dataset,
    model: Model,
    *,
    own: NetworkFactory | None = None,
    device: torch.device,
    batch_size: int,
    blocks: int,
    short: bool,
    progress: Callable[[str], None],
) -> list[Measurement]:
    """The benchmark `what`, or all three; `short` ones have smaller blocks and fewer combinations.

    `own` is the code of a network that does not ship.
    """
    benches: dict[str, tuple[float, float, Callable[..., list[Measurement]]]] = {  # seconds of a block, of a short one
        "loaders": (0.5, 0.5, partial(bench_loaders, dataset)),
        "step": (0.5, 0.2, partial(bench_step, model, classes=len(dataset.classes), own=own, short=short)),
        "train": (6.0, 1.0, partial(bench_train, dataset, model, own=own)),
    }
    out: list[Measurement] = []
    for name in benches if what == "all" else [what]:
        seconds, fewer, bench = benches[name]
        out += bench(
            device=device,
            batch_size=batch_size,
            blocks=blocks,
            seconds=fewer if short else seconds,
            progress=lambda line, name=name: progress(f"{name}: {line}"),
        )
    return out


def to_json(
    measurements: Sequence[Measurement], dataset: Dataset, model: Model, batch_size: int, here: dict[str, Any]
) -> str:
    """The text of the JSON file; `here` is the environment as it was before anything was measured."""
    return json.dumps(
        {
            "format": 1,
            "dataset": dataset.name,
            "batch_size": batch_size,
            "model": asdict(model),
            "environment": here,
            "measurements": [asdict(one) for one in measurements],
        },
        indent=2,
        allow_nan=False,
    )
