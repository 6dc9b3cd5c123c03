"""How a recipe is executed: device, loader, precision, compilation. Never part of a recipe's identity."""

import importlib.util
import logging
import math
import os
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from fastcifar.errors import InputError, short

LoaderName = Literal["dali", "fused"]
NO_CUDA = "--device cuda: torch finds no CUDA device here; use --device cpu or auto"


@dataclass(frozen=True)
class Execution:
    """How training runs. `resolve` turns every `auto` into what this machine can do.

    >>> fastcifar.Execution(device="cpu", loader="fused").precision
    'auto'
    """

    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Device to train on; auto: the GPU if there is one (the first in $CUDA_VISIBLE_DEVICES), else the CPU."""
    loader: Literal["auto", "dali", "fused"] = "auto"
    """dali: NVIDIA DALI; fused: one compiled kernel. auto: fused, many times faster; dali if there is no compiler."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the arithmetic; auto: bfloat16 if the hardware has it, else float16 on GPUs, float32 on CPUs."""
    compile: Literal["auto", "off", "default", "reduce-overhead", "max-autotune", "cuda-graph"] = "auto"
    """Mode of torch.compile. auto: cuda-graph (a whole step as one graph) or reduce-overhead on GPUs, off on CPUs."""
    sync_batchnorm: bool = False
    """With several processes, take batch statistics over the whole batch instead of over each process's rows."""
    checkpoint_seconds: float = 60
    """Save the complete state of a run this often, and after epochs; 0: only when it is told to stop."""


def resolve(execution: Execution, *, own: bool = False) -> tuple[Execution, list[str]]:
    """What this machine will run for `execution`, no field `auto`, and the lines that a person should be told.

    `own`: the network or the optimizer is a custom one, of which nobody knows whether it fits into a CUDA graph.
    Raises `InputError` at a value that is none of a field's, and where a named device or precision is not there.
    """
    import torch

    if not isinstance(execution, Execution):
        raise InputError(f"execution: an Execution is needed, such as Execution(device='cpu'), not {short(execution)}")
    for name, kind in get_type_hints(Execution).items():
        if get_origin(kind) is Literal and getattr(execution, name) not in get_args(kind):
            gpu = ", of several GPUs the one that $CUDA_VISIBLE_DEVICES names" if name == "device" else ""
            raise InputError(f"{name}: {short(getattr(execution, name))} is none of {', '.join(get_args(kind))}{gpu}")
    if not 0 <= execution.checkpoint_seconds < math.inf:
        raise InputError(f"--checkpoint-seconds {execution.checkpoint_seconds:g}: must be 0 or more")
    notes: list[str] = []
    device = execution.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(NO_CUDA)

    loader = fastest_loader() if execution.loader == "auto" else execution.loader

    precision = execution.precision
    if precision == "auto":
        precision = _fastest_precision(device)
    elif precision == "float16" and device == "cpu":
        raise InputError("--precision float16: on the CPU only float32 and bfloat16 train; float16 needs CUDA")

    mode = execution.compile
    if mode == "auto":
        mode = "off" if device == "cpu" else "default" if processes()[1] > 1 else "cuda-graph"
        if mode == "cuda-graph" and (own or precision == "float16"):
            mode = "reduce-overhead"
    if mode != "off" and not compiler():
        notes.append("no C++ compiler with Python's headers on this machine, which torch.compile needs: running eager")
        mode = "off"
    if mode == "cuda-graph":
        if device == "cpu":
            raise InputError("--compile cuda-graph: needs a GPU")
        if precision == "float16":
            raise InputError("--compile cuda-graph: not with float16, whose gradient scaler looks at each step")
        if processes()[1] > 1:
            raise InputError("--compile cuda-graph: for one process")
    return replace(execution, device=device, loader=loader, precision=precision, compile=mode), notes


def fastest_loader() -> LoaderName:
    """What the loader `auto` is on this machine."""
    return "fused" if compiler() or not has_dali() else "dali"


def processes() -> tuple[int, int]:
    """Which process this is, from 0, and of how many: those that torchrun has started, as their environment says."""
    try:
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return 0, 1
    return (rank, count) if 0 <= rank < count else (0, 1)


def machines() -> int:
    """On how many machines those processes are, each with as many as this one."""
    try:
        return max(1, processes()[1] // int(os.environ["LOCAL_WORLD_SIZE"]))
    except (KeyError, ValueError, ZeroDivisionError):
        return 1


def launch() -> str | None:
    """The name of the job that torchrun's processes on all machines are of, which its restarts are of too."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return None if name == "none" else name  # which torchrun calls a job that was given no name


def possible(execution: Execution) -> Execution:
    """`execution`, resolved on some machine, with `auto` for what this one has not."""
    import torch

    if execution.device == "cuda" and not torch.cuda.is_available():
        execution = replace(execution, device="auto", precision="auto", compile="auto")
    if execution.loader == "dali" and not has_dali():
        execution = replace(execution, loader="auto")
    return execution


def _fastest_precision(device: str) -> Literal["float32", "bfloat16", "float16"]:
    import torch

    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    # With the CPU's bfloat16 instructions a step was 1.8 times as fast as in float32 (`fastcifar bench step`); without
    # them, where each value is converted, it is slower.
    return "bfloat16" if bfloat16_units() else "float32"


# Of oneDNN, torch's library of CPU kernels: what the environment may hold it to, of the instruction sets without them.
_WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")


def bfloat16_units() -> str | None:
    """The CPU's instructions for bfloat16 products, AMX or AVX512-BF16, unless `$ONEDNN_MAX_CPU_ISA` forbids them."""
    import torch

    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_BFLOAT16:
        return None
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else None


def has_gpu() -> bool:
    """Whether there is a GPU that CUDA may use, asked of the driver: to ask torch takes the seconds of its import."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    import pynvml

    try:
        pynvml.nvmlInit()
        return bool(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return False


def may_have_cuda() -> bool:
    """False where torch will surely find no CUDA device, which takes no import of torch to know.

    Not every device that torch trains on answers to NVIDIA's library as `has_gpu` asks it (Jetson, WSL, ROCm).
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    return has_gpu() or any(place.is_char_device() for place in map(Path, ("/dev/dxg", "/dev/kfd", "/dev/nvmap")))


def has_dali() -> bool:
    """Whether NVIDIA DALI is installed."""
    return importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None


def compiler() -> str | None:
    """Path of the C++ compiler that torch.compile would call (`$CXX`, else g++ or clang++).

    None where there is none, or no Python.h, which the code for it includes.
    """
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return None
    return next(
        (path for name in (os.environ.get("CXX"), "g++", "clang++") if name and (path := shutil.which(name))),
        None,
    )


_COMPILE_OR_FAIL = {
    "recompile_limit": 1000,
    "accumulated_recompile_limit": 10_000,
    "fail_on_recompile_limit_hit": True,
    "suppress_errors": False,
}


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """torch.compile, without the warning of its first use that a machine without a GPU has no CUDA runtime, and with an
    error where torch would leave `function` uncompiled, of which a warning is all that it says as it comes.

    That is after 8 variants of one function, such as the step of as many networks, or loaders of one process: here it
    is after 1000. It holds for whatever else this thread compiles.
    """
    import torch._dynamo

    for name, value in _COMPILE_OR_FAIL.items():
        if hasattr(torch._dynamo.config, name):
            setattr(torch._dynamo.config, name, value)
    logging.getLogger("torch.utils.cpp_extension").addFilter(_is_news)
    return torch.compile(function, dynamic=False, **options)


def _is_news(record: logging.LogRecord) -> bool:
    return "No CUDA runtime is found" not in record.getMessage()
