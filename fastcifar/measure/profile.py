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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.measure.bench_step import flops_per_image
from fastcifar.measure.environment import environment
from fastcifar.measure.throughput import in_turn, matmul_candidate
from fastcifar.recipe import Recipe
from fastcifar.training.clock import Clock
from fastcifar.training.log import EpochLog
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
_GPU_WORK = ("kernel", "gpu_memcpy", "gpu_memset")
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


@dataclass(frozen=True)
class Span:
    """Something that ran from `start` for `seconds`; `own` are those in which nothing that it called ran."""

    name: str
    start: float
    seconds: float
    own: float


def profile_training(
    recipe: Recipe,
    dataset: Dataset,
    execution: Execution,
    *,
    steps: int = 50,
    trace: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Profile:
    """Train three epochs of `recipe`: one to warm up, one for the time of a step, and one in part under the profiler.

    `execution` is resolved. `trace` gets the profiler's trace for a viewer such as Perfetto, gzipped. Raises
    `InputError` where an epoch is less than two batches.
    """
    progress("setting up")
    if len(dataset.train_images) < 2 * recipe.batch_size:
        raise InputError(f"batch_size: two batches of {recipe.batch_size:,} are more than the training images")
    trainer = Trainer(recipe.with_epochs(max(recipe.epochs, 3)), dataset, execution)
    progress("epoch 1: warming up")
    trainer.train_epoch(1)
    progress("epoch 2: timing")
    log = trainer.train_epoch(2)
    window = _Window(trainer.device, *warm_and_profiled(trainer.steps_per_epoch, steps))
    progress("epoch 3: profiling")
    trainer.train_epoch(3, [window])
    progress("measuring matrix products")
    matmul = matmul_candidate(trainer.device, DTYPES[execution.precision], seconds=0.5)
    rate = statistics.median(in_turn([matmul], 5, progress)[matmul.name])
    with tempfile.TemporaryDirectory(prefix="fastcifar-") as folder:
        file = Path(folder, "trace.json")
        window.profiler.export_chrome_trace(str(file))
        found = json.loads(file.read_bytes())
    if trace:
        found = {key: value for key, value in found.items() if key not in ("host_name", "traceName")}
        trace.write_bytes(gzip.compress(json.dumps(found).encode()))
    spans = gpu_spans(found) if trainer.device.type == "cuda" else cpu_spans(found)
    if not spans:
        raise RunError(f"the profiler saw nothing run on {trainer.device}; it may not be allowed to here")
    return summarise(
        spans,
        steps=window.steps,
        batch_size=recipe.batch_size,
        step_seconds=log.train_seconds / trainer.steps_per_epoch,
        images_per_second=log.images_per_second,
        profiled_seconds=window.seconds,
        flops=flops_per_image(recipe.model),
        matmul_rate=rate,
    )


def warm_and_profiled(steps_per_epoch: int, asked: int) -> tuple[int, int]:
    """Of an epoch's steps, two at least: how many come before those that the profiler sees, and how many it sees."""
    warm = min(_WARM, max(steps_per_epoch - asked, 1))
    return warm, min(asked, steps_per_epoch - warm)


class _Window:
    """Observes an epoch, of which it has the profiler see `steps` steps after `warm` others."""

    def __init__(self, device: torch.device, warm: int, steps: int) -> None:
        # On a GPU the kernels alone: watching the host too would slow it down, and make the gaps that are sought.
        os.environ.setdefault(
            "KINETO_LOG_LEVEL", "99"
        )  # else it reports its starting, and each GPU not there, on stderr
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

    def epoch(self, log: EpochLog) -> None:
        """Nothing is to be done."""


def gpu_spans(trace: dict[str, Any]) -> list[Span]:
    """Kernels, copies and fills of a trace, in order of their beginning."""
    events = (event for event in trace["traceEvents"] if event.get("cat") in _GPU_WORK)
    spans = [Span(event["name"], event["ts"] / 1e6, event["dur"] / 1e6, event["dur"] / 1e6) for event in events]
    return sorted(spans, key=lambda span: span.start)


def cpu_spans(trace: dict[str, Any]) -> list[Span]:
    """torch's operators in a trace, in order of their beginning: `own` seconds are those outside what they call."""
    events = sorted(
        (event for event in trace["traceEvents"] if event.get("cat") == "cpu_op"),
        key=lambda event: (event["tid"], event["ts"], -event["dur"]),
    )
    own = [event["dur"] for event in events]
    open_: list[int] = []  # the operators that the present one is inside of
    for number, event in enumerate(events):
        while open_ and not _inside(event, events[open_[-1]]):
            open_.pop()
        if open_:
            own[open_[-1]] -= event["dur"]
        open_.append(number)
    spans = [
        Span(event["name"], event["ts"] / 1e6, event["dur"] / 1e6, max(seconds, 0.0) / 1e6)
        for event, seconds in zip(events, own, strict=True)
    ]
    return sorted(spans, key=lambda span: span.start)


def _inside(event: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(event["tid"] == other["tid"] and event["ts"] < other["ts"] + other["dur"])


def summarise(
    spans: Sequence[Span],
    *,
    steps: int,
    batch_size: int,
    step_seconds: float,
    images_per_second: float,
    profiled_seconds: float,
    flops: float,
    matmul_rate: float,
) -> Profile:
    """The profile of `spans`, those of `steps` steps in order of their beginning; `flops` are an image's."""
    busy, gaps = _coverage(spans)
    kernels = _sums(spans, steps, lambda span: span.name)
    kinds = _sums(spans, steps, lambda span: kind_of(span.name))
    matmul = next((kind for kind in kinds if kind.name == MATMUL), None)
    return Profile(
        steps=steps,
        batch_size=batch_size,
        step_seconds=step_seconds,
        profiled_step_seconds=profiled_seconds / steps,
        busy_seconds=busy / steps,
        gap_share=sum(gaps) / (busy + sum(gaps)) if spans else 0.0,
        gaps=round(len(gaps) / steps),
        gap_median_seconds=statistics.median(gaps) if gaps else 0.0,
        gap_longest_seconds=max(gaps, default=0.0),
        matmul_share=matmul.share if matmul else 0.0,
        matmul_rate=matmul_rate,
        matmul_efficiency=flops * batch_size / matmul.seconds / matmul_rate if matmul and matmul.seconds else None,
        efficiency=images_per_second * flops / matmul_rate,
        images_per_second=images_per_second,
        flops_per_image=flops,
        kinds=kinds,
        kernels=kernels,
    )


def kind_of(name: str) -> str:
    """The kind of a kernel (see KINDS), by its name."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), OTHER)


def _coverage(spans: Iterable[Span]) -> tuple[float, list[float]]:
    """Seconds in which something ran, of whatever stream, and the gaps between; `spans` by their beginning."""
    busy, gaps, end = 0.0, [], None
    for span in spans:
        stop = span.start + span.seconds
        if end is not None and span.start > end:
            gaps.append(span.start - end)
        begin = span.start if end is None else max(span.start, end)
        busy += max(stop - begin, 0.0)
        end = stop if end is None else max(end, stop)
    return busy, gaps


def _sums(spans: Sequence[Span], steps: int, key: Callable[[Span], str]) -> list[Kernel]:
    total = sum(span.own for span in spans)
    calls: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for span in spans:
        calls[key(span)] = calls.get(key(span), 0) + 1
        seconds[key(span)] = seconds.get(key(span), 0.0) + span.own
    found = [
        Kernel(
            name=name,
            kind=name if name in KINDS else kind_of(name),
            calls=calls[name] / steps,
            seconds=seconds[name] / steps,
            share=seconds[name] / total if total else 0.0,
        )
        for name in calls
    ]
    return sorted(found, key=lambda kernel: -kernel.seconds)


def to_json(found: Profile, name: str, recipe: Recipe, execution: Execution, dataset: Dataset) -> str:
    """The text of the JSON file: the profile, and what it is of."""
    about = {
        "format": 1,
        "recipe_name": name,
        "recipe": asdict(recipe),
        "execution": asdict(execution),
        "dataset": dataset.name,
        "environment": environment(),
    }
    return json.dumps({**about, "profile": asdict(found)}, indent=2, allow_nan=False)
