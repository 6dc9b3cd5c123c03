"""Out of memory is one line, whoever says so and however it is worded."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fastcifar.commands import main
from fastcifar.errors import memory_problem, printable, short


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (Path("a [b] ü.png"), "a [b] ü.png"),
        (Path(os.fsdecode(b"a\xff\x1b[31m.png")), "a\\xff\\x1b[31m.png"),
        ("a\x9b\n\x7f", "a\\x9b\\n\\x7f"),
        ("a\u202e\u2066\u200b\u200f\u061c\ufeff", "a\\u202e\\u2066\\u200b\\u200f\\u061c\\ufeff"),
        ("a\U000e0041\U000e007f", "a\\U000e0041\\U000e007f"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_a_terminal_may_be_given(text: object, said: str) -> None:
    assert printable(text) == said


def test_values_too_large_to_show() -> None:
    assert short(10**5000) == "a int too large to show"
    assert len(short("a" * 100_000)) == 60


def test_the_command_line_says_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("fastcifar.commands.info.describe", lambda config: torch.empty(10**16))
    assert main(["summary", "--recipe", "laptop"]) == 1
    assert capsys.readouterr().err.startswith("fastcifar: out of memory (40000000000000000 bytes more")
