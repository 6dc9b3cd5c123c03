"""The machine and the software a figure was obtained on."""

import functools
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
from fastcifar.execution import bfloat16_units, compiler, machines, processes

RESULTS = "benchmarks/results"  # of the project's suite, in a checkout: no figure depends on what lies there


def environment(device: str | None = None) -> dict[str, Any]:
    """GPU, driver, CPU, memory, operating system, versions, compiler and git commit; None where there is none.

    `gpu` and `gpus` are what a run on `device` uses: a GPU for each process on cuda, none on cpu; without a `device`,
    what is there. `processes` are those that torchrun started, on so many `machines`; `sharing` is for
    whoever makes runs at once to say.
    `memory_gib` are GiB; nothing in it names a person, a host or a folder. `dirty`: something but results has changed
    since the commit. Both are looked up once in a process, which goes on with the source that it began with.
    """
    on_gpu = device != "cpu" and torch.cuda.is_available()
    commit, dirty = _source(Path(fastcifar.__file__).parents[1])
    return {
        "fastcifar": fastcifar.__version__,
        "commit": commit,
        "dirty": dirty,
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "gpus": (processes()[1] if device else torch.cuda.device_count()) if on_gpu else 0,
        "processes": processes()[1],
        "machines": machines(),
        "sharing": None,
        **_nvml(on_gpu),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "torch": torch.__version__,
        "torchvision": _version("torchvision"),
        "dali": _version("nvidia-dali-cuda120", "nvidia-dali-cuda130"),
        "python": platform.python_version(),
        "os": platform.platform(),
        "cpu": _cpu_model(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_bfloat16": bfloat16_units(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "compiler": Path(found).name if (found := compiler()) else None,
    }


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def process_start() -> float:
    """Unix time at which this process began."""
    return psutil.Process().create_time()


@functools.cache
def _source(checkout: Path) -> tuple[str | None, bool | None]:
    """Its commit, and whether it was changed since; None where there is no git."""
    if not (checkout / ".git").exists():  # git would take one further up, which is not ours
        return None, None
    changes = git(checkout, "status", "--porcelain", "--", ".", f":(exclude){RESULTS}")
    return git(checkout, "rev-parse", "HEAD"), None if changes is None else bool(changes)


def _version(*packages: str) -> str | None:
    for package in packages:
        try:
            return f"{metadata.version(package)} ({package})" if len(packages) > 1 else metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None


def _nvml(on_gpu: bool) -> dict[str, Any]:
    """The driver, and, `on_gpu`, the watts the present GPU may draw; None where NVML is not there or does not say."""
    found: dict[str, Any] = {"gpu_power_limit_watts": None, "driver": None}
    try:
        pynvml.nvmlInit()
        found["driver"] = pynvml.nvmlSystemGetDriverVersion()
        if on_gpu:
            gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties().uuid}")
            found["gpu_power_limit_watts"] = pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000
    except pynvml.NVMLError:
        pass  # no driver, or a virtual GPU, which does not tell
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def git(folder: Path, *command: str) -> str | None:
    """What git says in `folder`; None where there is no git, no checkout, or no commit that is asked for."""
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
