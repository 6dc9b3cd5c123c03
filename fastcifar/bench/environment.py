"""The machine and the software a figure was obtained on."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pynvml
import torch

import fastcifar
from fastcifar.execution import compiler


def environment(device: str | None = None) -> dict[str, Any]:
    """GPU, driver, CPU, memory, operating system, versions, compiler and git commit; None where there is none.

    `gpu` and `gpus` are what a run on `device` uses: one GPU on cuda, none on cpu; without a `device`, what is there.
    `memory_gib` are GiB; nothing in it names a person, a host or a folder.
    """
    on_gpu = device != "cpu" and torch.cuda.is_available()
    return {
        "fastcifar": fastcifar.__version__,
        **_git(),
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "gpus": (1 if device else torch.cuda.device_count()) if on_gpu else 0,
        **_nvml(on_gpu),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "torch": torch.__version__,
        "torchvision": _version("torchvision"),
        "dali": _version("nvidia-dali-cuda120", "nvidia-dali-cuda130"),
        "python": platform.python_version(),
        "os": platform.platform(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "compiler": Path(found).name if (found := compiler()) else None,
    }


def process_start() -> float:
    """Unix time at which this process began."""
    return psutil.Process().create_time()


def _version(*packages: str) -> str | None:
    for package in packages:
        try:
            return f"{metadata.version(package)} ({package})" if len(packages) > 1 else metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None


def _nvml(on_gpu: bool) -> dict[str, Any]:
    """The driver, and, `on_gpu`, the watts the first GPU may draw; None where NVML is not there or does not say."""
    found: dict[str, Any] = {"gpu_power_limit_watts": None, "driver": None}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return found
    try:
        found["driver"] = pynvml.nvmlSystemGetDriverVersion()
        if on_gpu:
            gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
            found["gpu_power_limit_watts"] = pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000
    except pynvml.NVMLError:
        pass  # a virtual GPU does not tell
    finally:
        pynvml.nvmlShutdown()
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git() -> dict[str, Any]:
    """Commit of the checkout that fastcifar runs from, and whether it was changed; None outside one."""
    checkout = Path(fastcifar.__file__).parents[1]
    if not (checkout / ".git").exists():
        return {"commit": None, "dirty": None}
    try:
        commit = _git_output(checkout, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git_output(checkout, "status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):  # no git here, or a checkout without a commit
        return {"commit": None, "dirty": None}


def _git_output(checkout: Path, *command: str) -> str:
    return subprocess.run(
        ["git", "-C", str(checkout), *command], capture_output=True, text=True, check=True
    ).stdout.strip()
