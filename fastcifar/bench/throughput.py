"""Rates that can be compared: measured in turn, block by block, in one run on one machine."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from fastcifar.training.clock import Clock


@dataclass(frozen=True)
class Measurement:
    """Median and quartiles of a rate over blocks, its limit on this machine, and the yardstick's rate it is held to.

    `limit` has the unit of the rate; `ratio_to_plain` is the median of the blocks' ratios to the yardstick. None where
    there is none. `values` are the blocks, in order; `other_cores` is how many of the CPU's cores other programs kept
    busy during them, a mean.
    """

    bench: str
    name: str
    unit: str
    median: float
    q1: float
    q3: float
    values: list[float]
    limit: float | None = None
    ratio_to_plain: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    other_cores: float | None = None

    @classmethod
    def of(cls, bench: str, name: str, unit: str, values: list[float], other_cores: float | None = None) -> Self:
        """The measurement of some blocks."""
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        return cls(bench, name, unit, median, q1, q3, values, other_cores=other_cores)

    def against(self, plain: Self, limit: float, **details: Any) -> Self:
        """With its limit, its yardstick and what else is to be said of it."""
        ratio = statistics.median(one / other for one, other in zip(self.values, plain.values, strict=True))
        return replace(self, limit=limit, ratio_to_plain=ratio, details=details)


@dataclass(frozen=True)
class Candidate:
    """Something with a rate: `block()` does a block of work and says how much (images, bytes, operations)."""

    name: str
    block: Callable[[], float]
    device: torch.device


class Blocks(NamedTuple):
    """Work a second of each block, and how many cores other programs kept busy during them, a mean."""

    values: list[float]
    other_cores: float


def in_turn(candidates: Iterable[Candidate], blocks: int, progress: Callable[[str], None]) -> dict[str, Blocks]:
    """The blocks of every candidate, after one of each to warm up; drift hits all alike."""
    candidates = list(candidates)
    rates: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    spent: dict[str, list[tuple[float, float]]] = {candidate.name: [] for candidate in candidates}
    for number in range(blocks + 1):
        for candidate in candidates:
            progress(f"block {number}/{blocks}: {candidate.name}" if number else f"warming up: {candidate.name}")
            clock = Clock(candidate.device)
            done = candidate.block()
            seconds, others = clock.seconds(), clock.others()
            if number:
                rates[candidate.name].append(done / seconds)
                spent[candidate.name].append((others, seconds))
    return {name: Blocks(rates[name], _share(spent[name])) for name in rates}


def _share(spent: Sequence[tuple[float, float]]) -> float:
    others, seconds = map(math.fsum, zip(*spent, strict=True))
    return others / seconds


def repeated(work: Callable[[], float], device: torch.device, seconds: float) -> Callable[[], float]:
    """A block of `work`, repeated as often as fills about `seconds`; how often is found at the first call."""
    times = 0

    def block() -> float:
        nonlocal times
        if not times:
            work()  # compiles, allocates
            clock = Clock(device)
            work()
            times = max(1, math.ceil(seconds / max(clock.seconds(), 1e-9)))
        return sum(work() for _ in range(times))

    return block


def copy_candidate(device: torch.device, seconds: float) -> Candidate:
    """Bytes read and written a second by a copy too large for any cache: the limit of a loader."""
    source = torch.zeros(2**26, device=device)
    target = torch.ones_like(source)
    size = 2 * source.nbytes

    def copy() -> float:
        target.copy_(source)
        return size

    return Candidate(f"copy-{device.type}", repeated(copy, device, seconds), device)


def matmul_candidate(device: torch.device, dtype: torch.dtype, seconds: float) -> Candidate:
    """Floating-point operations a second of a large square matrix product: the limit of a training step."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out: Tensor = torch.empty_like(a)

    def matmul() -> float:
        # In float32 as convolutions are computed, which on a GPU is TF32 where torch is left as it comes.
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
        try:
            torch.mm(a, b, out=out)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
        return 2.0 * side**3

    return Candidate(f"matmul-{str(dtype).removeprefix('torch.')}", repeated(matmul, device, seconds), device)
