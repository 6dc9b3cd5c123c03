"""`fastcifar bench profile`: where a training step's time goes, kernel by kernel, and how long the device does nothing.

On a GPU the kernels are those that torch.profiler sees run, of the network, the optimizer and the loader alike; on a
CPU they are torch's operators, each without those it calls.
"""

import gzip
import json
import os
import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from fastcifar.bench.flops import flops_per_image, work_of
from fastcifar.bench.throughput import in_turn, matmul_candidate
from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.own import OwnCode
from fastcifar.recipe import Recipe
from fastcifar.training.clock import Clock
from fastcifar.training.log import Observer
from fastcifar.training.step import DTYPES
from fastcifar.training.trainer import Trainer

MATMUL = "matmul"
# A kernel is of the first kind whose pattern its name has. Names: cuDNN's, cuBLAS's, Triton's, DALI's, torch's.
KINDS = {
    "loader": r"dali|SliceFlipNormalize|vectorized_gather|index_elementwise|CatArray",
    "generated": r"^triton_(?!tem)|CompiledFxGraph",
    "batch norm": r"batch_?norm|bn_?(fw|bw|add|bwd|fwd)",
    "pooling": r"pool",
    "optimizer": r"adam|multi_tensor",
    MATMUL: r"conv(?!ert)|gemm|wgrad|dgrad|fprop|xmma|cutlass|nvjet|triton_tem|\b(add)?mm\b|linear",
    "copy": r"memcpy|memset|copy|nchw|nhwc|fill|zero_",
    "element-wise": r"elementwise|reduce_kernel|clamp|threshold|\badd_?$",
}
OTHER = "other"
_WARM = 10  # steps of the profiled epoch before those that count


@dataclass(frozen=True)
class Kernel:
    """Something that ran on the device: `calls` and `seconds` a step, and its share of the device's busy time."""

    name: str
    kind: str
    calls: float
    seconds: float
    share: float


@dataclass(frozen=True)
class Profile:
    """A training step's time. Seconds are those of one step; shares and rates are 0 to 1 unless said otherwise."""

    steps: int
    """How many were profiled."""
    batch_size: int
    step_seconds: float
    """In an epoch without the profiler, loading included."""
    profiled_step_seconds: float
    busy_seconds: float
    """In which something ran on the device."""
    gap_share: float
    """Of the profiled time: nothing ran, between the first kernel and the last."""
    gaps: int
    """A step, of the profiled ones: how often nothing ran."""
    gap_median_seconds: float
    gap_longest_seconds: float
    matmul_share: float
    """Of the busy time: matrix products and convolutions."""
    matmul_rate: float
    """Floating-point operations a second of a large square matrix product at the same precision, in the same run."""
    matmul_efficiency: float | None
    """The rate inside the step's matrix products over `matmul_rate`; None if the profile names none."""
    efficiency: float
    """The whole step's operations a second, without the profiler, over `matmul_rate`."""
    images_per_second: float
    """Without the profiler."""
    flops_per_image: float
    kinds: list[Kernel]
    """The kernels summed by kind, the longest first."""
    kernels: list[Kernel]


def profile_training(
    recipe: Recipe,
    dataset: Dataset,
    execution: Execution,
    *,
    own: OwnCode | None = None,
    steps: int = 50,
    trace: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Profile:
    """Train three epochs of `recipe`: one to warm up, one for the time of a step, and one in part under the profiler.

    Where sizes of batches and images change, all three have those of the third. `execution` is resolved, and `own` the
    custom code that the recipe names. `trace` gets the profiler's trace for a viewer such as Perfetto, gzipped.
    Raises `InputError` where an epoch is less than two batches.
    """
    progress("setting up")
    batch_size, image_size = recipe.batch_size_of(2), recipe.image_size_of(2)
    recipe = replace(recipe, batch_size=batch_size, batch_sizes=(), image_sizes=(image_size,))
    recipe = replace(recipe, epochs=max(recipe.epochs, 3))
    if recipe.images_of(2, len(dataset.train_images)) < 2 * batch_size:
        raise InputError(f"batch_size: two batches of {batch_size:,} are more than the training images of an epoch")
    trainer = Trainer(recipe, dataset, execution, own)
    progress("epoch 1: warming up")
    trainer.train_epoch()
    progress("epoch 2: timing")
    log = trainer.train_epoch()
    window = _Window(trainer.device, *warm_and_profiled(trainer.steps[2], steps))
    progress("epoch 3: profiling")
    trainer.train_epoch([window])
    progress("measuring matrix products")
    matmul = matmul_candidate(trainer.device, DTYPES[execution.precision], seconds=0.5)
    rate = statistics.median(in_turn([matmul], 5, progress)[matmul.name].values)
    if trace:
        _keep_trace(window.profiler, trace)
    ran = device_work(window.profiler.events(), trainer.device)
    if not ran:
        raise RunError(f"the profiler saw nothing run on {trainer.device}; it may not be allowed to here")
    spent = "self_device_time_total" if trainer.device.type == "cuda" else "self_cpu_time_total"  # microseconds
    sums = device_work(window.profiler.key_averages(), trainer.device)
    return summarise(
        [(one.key, one.count, getattr(one, spent) / 1e6) for one in sums],
        [(event.time_range.start / 1e6, event.time_range.end / 1e6) for event in ran],
        steps=window.steps,
        batch_size=batch_size,
        step_seconds=log.train_seconds / trainer.steps[1],
        images_per_second=log.images_per_second,
        profiled_seconds=window.seconds,
        flops=flops_per_image(trainer.model, image_size),
        optimizer_flops=work_of(recipe, classes=len(dataset.classes), own=trainer.own, device=trainer.device)[1],
        matmul_rate=rate,
    )


def warm_and_profiled(steps_per_epoch: int, asked: int) -> tuple[int, int]:
    """Of an epoch's steps, two at least: how many come before those that the profiler sees, and how many it sees."""
    warm = min(_WARM, max(steps_per_epoch - asked, 1))
    return warm, min(asked, steps_per_epoch - warm)


class _Window(Observer):
    """Observes an epoch, of which it has the profiler see `steps` steps after `warm` others."""

    def __init__(self, device: torch.device, warm: int, steps: int) -> None:
        # On a GPU the kernels alone: watching the host too would slow it down, and make the gaps that are sought.
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it reports its start, and each absent GPU, on stderr
        activity = ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU
        self.profiler = profile(activities=[activity])
        self.steps, self.seconds = steps, 0.0
        self._device, self._warm = device, warm

    def step(self, epoch: int, step: int) -> None:
        if step == self._warm:
            Clock(self._device)  # what was asked before is over
            self.profiler.start()
            self._clock = Clock(self._device)
        if step == self._warm + self.steps:
            self.seconds = self._clock.seconds()
            self.profiler.stop()


def _keep_trace(profiler: profile, file: Path) -> None:
    """The profiler's own trace, without the names of the machine and of a folder on it."""
    with tempfile.TemporaryDirectory(prefix="fastcifar-") as folder:
        profiler.export_chrome_trace(f"{folder}/trace.json")
        found = json.loads(Path(folder, "trace.json").read_bytes())
    kept = {key: value for key, value in found.items() if key not in ("host_name", "traceName")}
    file.write_bytes(gzip.compress(json.dumps(kept).encode()))


def device_work(events: Iterable[Any], device: torch.device) -> list[Any]:
    """Of the profiler's events a GPU's kernels, copies and fills, or a CPU's operators; no call to CUDA, no mark."""
    kind = DeviceType.CUDA if device.type == "cuda" else DeviceType.CPU
    return [event for event in events if event.device_type == kind and not event.is_user_annotation]


def summarise(
    sums: Sequence[tuple[str, int, float]],
    spans: Iterable[tuple[float, float]],
    *,
    steps: int,
    batch_size: int,
    step_seconds: float,
    images_per_second: float,
    profiled_seconds: float,
    flops: float,
    optimizer_flops: float,
    matmul_rate: float,
) -> Profile:
    """The profile of `steps` steps.

    `sums` are names, calls and seconds of what ran, `spans` the beginnings and ends of each; `flops` are an image's,
    `optimizer_flops` those of a step, which are among the matrix products, and in no `efficiency`.
    """
    busy, gaps = _coverage(spans)
    kinds = _kernels([(kind_of(name), calls, seconds) for name, calls, seconds in sums], steps)
    matmul = next((kind for kind in kinds if kind.name == MATMUL), None)
    return Profile(
        steps=steps,
        batch_size=batch_size,
        step_seconds=step_seconds,
        profiled_step_seconds=profiled_seconds / steps,
        busy_seconds=busy / steps,
        gap_share=sum(gaps) / (busy + sum(gaps)),
        gaps=round(len(gaps) / steps),
        gap_median_seconds=statistics.median(gaps) if gaps else 0.0,
        gap_longest_seconds=max(gaps, default=0.0),
        matmul_share=matmul.share if matmul else 0.0,
        matmul_rate=matmul_rate,
        matmul_efficiency=(flops * batch_size + optimizer_flops) / matmul.seconds / matmul_rate
        if matmul and matmul.seconds
        else None,
        efficiency=images_per_second * flops / matmul_rate,
        images_per_second=images_per_second,
        flops_per_image=flops,
        kinds=kinds,
        kernels=_kernels(sums, steps),
    )


def kind_of(name: str) -> str:
    """The kind of a kernel (see KINDS), by its name."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), OTHER)


def _coverage(spans: Iterable[tuple[float, float]]) -> tuple[float, list[float]]:
    """Seconds in which something ran, of whatever stream, and the gaps between."""
    starts, stops = np.array(sorted(spans)).T
    until = np.maximum.accumulate(stops)
    gaps = starts[1:] - until[:-1]
    gaps = gaps[gaps > 0]
    return float(until[-1] - starts[0] - gaps.sum()), gaps.tolist()


def _kernels(sums: Sequence[tuple[str, int, float]], steps: int) -> list[Kernel]:
    """Those of one name together, the longest first."""
    calls: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    for name, times, spent in sums:
        calls[name] += times
        seconds[name] += spent
    total = sum(seconds.values())
    return [
        Kernel(name, name if name in KINDS else kind_of(name), calls[name] / steps, spent / steps, spent / total)
        for name, spent in sorted(seconds.items(), key=lambda item: -item[1])
    ]


def to_json(
    found: Profile, name: str, recipe: Recipe, execution: Execution, dataset: Dataset, here: dict[str, Any]
) -> str:
    """The text of the JSON file: the profile, and what it is of; `here` is the environment as it was before."""
    content = {
        "format": 1,
        "recipe_name": name,
        "recipe": asdict(recipe),
        "execution": asdict(execution),
        "dataset": dataset.name,
        "environment": here,
        "profile": asdict(found),
    }
    return json.dumps(content, indent=2, allow_nan=False)
