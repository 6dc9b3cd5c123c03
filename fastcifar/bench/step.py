"""`fastcifar bench step`: one training step on a fixed batch, in every combination that `auto` could pick."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastcifar.bench.flops import flops_per_image
from fastcifar.bench.throughput import Candidate, Measurement, in_turn, matmul_candidate, repeated
from fastcifar.execution import Execution, compiler, resolve
from fastcifar.models import build
from fastcifar.optim import capturable
from fastcifar.own import NetworkFactory
from fastcifar.recipe import Model
from fastcifar.training.clock import Clock
from fastcifar.training.memory import release_pages
from fastcifar.training.step import DTYPES, TrainingStep
from fastcifar.training.step_graph import CudaGraphs, Graphed

FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
NAMES = {"off": "eager", "cuda-graph": "graph"}
PLAIN = "eager-float32-nchw"  # PyTorch as it comes


def bench_step(
    model: Model,
    *,
    classes: int,
    own: NetworkFactory | None = None,
    device: torch.device,
    batch_size: int = 512,
    blocks: int = 7,
    seconds: float = 0.5,
    short: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Measurement]:
    """Images/s of a step: eager / compiled, NCHW / channels_last, float32 / half precision; and on a GPU the last of
    these as one CUDA graph with its optimizer.

    The limit is the matrix product rate of the same precision, measured in the same run, over the step's operations an
    image (`fastcifar.bench.flops`). Details: teraflops, peak memory in bytes (of the GPU's allocator, or of the whole
    process), seconds the first step took (compilation), and whether it is what `auto` picks. `own` is the code of a
    network that does not ship; `short` leaves out the compiled steps but one, and NCHW but the yardstick.
    """
    chosen, _ = resolve(Execution(device="cuda" if device.type == "cuda" else "cpu"), own=own is not None)
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    half = chosen.precision if chosen.precision != "float32" else "bfloat16"
    combinations = [
        (compiled, precision, layout)
        for compiled in ("off", mode)
        if compiled == "off" or compiler()
        for precision in ("float32", half)
        for layout in FORMATS
        if not short
        or (compiled, precision, layout) == ("off", "float32", "nchw")
        or (layout == "channels_last" and (compiled == "off" or precision == chosen.precision))
    ]
    if device.type == "cuda" and half == "bfloat16" and compiler():
        combinations.append(("cuda-graph", half, "channels_last"))
    flops = flops_per_image(build(model, classes, own))
    matmuls = {precision: matmul_candidate(device, DTYPES[precision], seconds) for precision in ("float32", half)}
    candidates = list(matmuls.values())
    details: dict[str, dict[str, Any]] = {}
    for compiled, precision, layout in combinations:
        name = f"{NAMES.get(compiled, 'compiled')}-{precision}-{layout}"
        progress(f"setting up: {name}")
        others = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        train, batch = new_step(model, classes, own, batch_size, device, precision, compiled, FORMATS[layout])

        def step(train: TrainingStep | Graphed = train, batch: tuple[Tensor, Tensor] = batch) -> float:
            train(*batch)
            return batch_size

        clock = Clock(device)
        step()
        first_step = clock.seconds()
        auto = (compiled, precision, layout) == (chosen.compile, chosen.precision, "channels_last")
        details[name] = {
            "auto": auto,
            "first_step_seconds": first_step,
            "peak_memory": peak_memory(step, device, others),
            "precision": precision,
        }
        candidates.append(Candidate(name, repeated(step, device, seconds), device))

    rates = in_turn(candidates, blocks, progress)
    matmul_rates = {name: Measurement.of("step", c.name, "flop/s", *rates[c.name]) for name, c in matmuls.items()}
    steps = {name: Measurement.of("step", name, "images/s", *rates[name]) for name in details}
    out = list(matmul_rates.values())
    for name, one in steps.items():
        limit = matmul_rates[details[name]["precision"]].median / flops
        teraflops = one.median * flops / 1e12
        out.append(one.against(steps[PLAIN], limit, tflops=teraflops, flops_per_image=flops, **details[name]))
    return out


def new_step(
    model: Model,
    classes: int,
    own: NetworkFactory | None,
    batch_size: int,
    device: torch.device,
    precision: str,
    compiled: str,
    layout: torch.memory_format = torch.channels_last,
) -> tuple[TrainingStep | Graphed, tuple[Tensor, Tensor]]:
    """A training step of a new network, and a batch to give it that is already there."""
    torch.manual_seed(0)
    network = build(model, classes, own).to(device).to(memory_format=layout)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    step: TrainingStep | Graphed = TrainingStep(
        network, [optimizer], batch_sizes={batch_size}, device=device, precision=precision, compile=compiled
    )
    if compiled == "cuda-graph":
        capturable([optimizer])
        step = Graphed(step, CudaGraphs(device))
    images = torch.randn(batch_size, 3, 32, 32, device=device).to(memory_format=layout)
    return step, (images, torch.randint(0, classes, (batch_size,), device=device))


def peak_memory(step: Callable[[], float], device: torch.device, others: int) -> int | None:
    """Bytes at the peak of a step: allocated on the GPU above `others`, those that are not its own; or resident in this
    process (Linux; elsewhere None)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - others
    release_pages()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from the present
        step()
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
