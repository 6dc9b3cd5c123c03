"""The benchmarks together, and the JSON file of what they measured (its schema: bench.schema.json beside this)."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal

import torch

from fastcifar.bench.environment import environment
from fastcifar.bench.loaders import bench_loaders
from fastcifar.bench.step import bench_step
from fastcifar.bench.throughput import Measurement
from fastcifar.bench.train import bench_train
from fastcifar.data.dataset import Dataset
from fastcifar.recipe import Model

BenchName = Literal["all", "loaders", "step", "train"]


def run_benches(
    what: BenchName,
    dataset: Dataset,
    model: Model,
    *,
    device: torch.device,
    batch_size: int,
    blocks: int,
    short: bool,
    progress: Callable[[str], None],
) -> list[Measurement]:
    """The benchmark `what`, or all three; `short` ones have smaller blocks and fewer combinations."""
    common: dict[str, Any] = {"device": device, "batch_size": batch_size, "blocks": blocks}
    out: list[Measurement] = []
    if what in ("all", "loaders"):
        seconds = 0.2 if short else 0.5
        out += bench_loaders(dataset, seconds=seconds, progress=lambda line: progress(f"loaders: {line}"), **common)
    if what in ("all", "step"):
        seconds = 0.2 if short else 0.5
        step: dict[str, Any] = {"classes": len(dataset.classes), "short": short, **common}
        out += bench_step(model, seconds=seconds, progress=lambda line: progress(f"step: {line}"), **step)
    if what in ("all", "train"):
        seconds = 1.0 if short else 6.0
        out += bench_train(dataset, model, seconds=seconds, progress=lambda line: progress(f"train: {line}"), **common)
    return out


def to_json(measurements: Sequence[Measurement], dataset: Dataset, model: Model, batch_size: int, device: str) -> str:
    """The text of the JSON file; `device` is cpu or cuda."""
    return json.dumps(
        {
            "format": 1,
            "dataset": dataset.name,
            "batch_size": batch_size,
            "model": asdict(model),
            "environment": environment(device),
            "measurements": [asdict(one) for one in measurements],
        },
        indent=2,
        allow_nan=False,
    )
