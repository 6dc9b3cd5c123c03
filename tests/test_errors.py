"""Out of memory is one line, whoever says so and however it is worded."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fastcifar.commands import main
from fastcifar.errors import memory_problem


@pytest.mark.parametrize(
    ("allocate", "asked"),
    [
        (lambda: torch.empty(10**16), " (40000000000000000 bytes more were asked for)"),
        (lambda: np.zeros(10**15), " (7.11 PiB more were asked for)"),
        (lambda: bytearray(10**17), ""),
    ],
)
def test_this_machines_memory(allocate: Callable[[], object], asked: str) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert memory_problem(caught.value) == f"out of memory{asked}; a smaller batch or network needs less"


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.19 GiB", "20.00 GiB"),
        ("Critical error in pipeline:\n\nCan't allocate 4294967296 bytes on device 0.", "4294967296 bytes"),
        ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", ""),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", ""),
    ],
)
def test_a_gpus_memory(text: str, asked: str) -> None:
    said = memory_problem(RuntimeError(text))
    assert said is not None
    assert said.startswith(f"out of GPU memory{f' ({asked} more' if asked else ';'}")


def test_other_errors_are_left_alone() -> None:
    assert memory_problem(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_the_command_line_says_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("fastcifar.commands.info.describe", lambda config: torch.empty(10**16))
    assert main(["summary", "--recipe", "laptop"]) == 1
    assert capsys.readouterr().err.startswith("fastcifar: out of memory (40000000000000000 bytes more")
