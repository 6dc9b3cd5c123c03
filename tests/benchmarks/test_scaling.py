"""`python -m benchmarks scaling`: the arithmetic of its rows, and two real processes."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import run
from benchmarks.scaling import Scaled, rows

SMALL = ["--recipe", "laptop", "--batch-size", "8", "--blocks", "1", "--seconds", "0.01", "--device", "cpu"]


def scaled(processes: int, step: float, alone: float, exchange: float) -> Scaled:
    return Scaled(processes, 1, 100, 32, 1000, step=step, alone=alone, exchange=exchange)


def test_what_is_hidden_is_what_a_step_does_not_take_longer() -> None:
    alone, half, all_of_it, slower = (
        scaled(2, 0.010, *times) for times in ((0.010, 0.002), (0.009, 0.002), (0.008, 0.002), (0.006, 0.002))
    )
    assert [one.hidden for one in (alone, half, all_of_it, slower)] == [1.0, pytest.approx(0.5), pytest.approx(0), 0]
    assert half.communication == pytest.approx(0.001)
    assert scaled(1, 0.01, 0.01, 1e-9).hidden is None


def test_a_row_says_what_each_process_is_worth() -> None:
    found = rows([scaled(1, 0.020, 0.020, 0.0), scaled(2, 0.0125, 0.0115, 0.004), scaled(4, 0.010, 0.006, 0.004)])
    assert found[0] == ("1", "5,000", "100%", "20.00 ms", "–", "–", "–")
    assert found[1] == ("2", "8,000", "80%", "12.50 ms", "1.00 ms, 8%", "4.00 ms", "75%")
    assert found[2] == ("4", "10,000", "50%", "10.00 ms", "4.00 ms, 40%", "4.00 ms", "0%")


def test_two_processes_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scaling.json"
    assert run(["scaling", *SMALL, "--processes", "1", "2", "--allow-dirty", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert "laptop, batch 8, cpu" in out
    one, two = json.loads(file.read_text())["scaled"]
    assert (one["processes"], two["processes"], one["threads"], one["batch"]) == (1, 2, two["threads"], 8)
    assert two["exchange"] > 10 * one["exchange"]
    assert min(one["step"], one["alone"], two["step"], two["alone"]) > 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--processes", "0"], "at least one process, one block and some seconds are needed"),
        (["--processes", "9"], "--batch-size 8: fewer images than the 9 processes"),
        (["--batch-size", "0"], "--batch-size: input should be greater than or equal to 1, got 0"),
        (["--json", "no/such/folder.json"], "no/such/folder.json: there is no folder no/such"),
    ],
)
def test_what_is_refused(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scaling", *SMALL, "--allow-dirty", *flags]) == 2
    assert said in capsys.readouterr().err
