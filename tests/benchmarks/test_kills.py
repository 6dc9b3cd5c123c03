"""Runs that are killed: a small version of `python -m benchmarks kills` and `soak`, with real processes."""

import json
from pathlib import Path

import pytest

from benchmarks import kills
from benchmarks.__main__ import run as command


def test_five_kills(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["kills", "--kills", "5", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out[out.index("{\n") :])
    assert found["kills"] == sum(found["during"].values()) == 5
    assert found["finished"] >= 1
    assert [found[bad] for bad in ("different", "stuck", "orphans", "leftovers")] == [0, 0, 0, 0]


def test_a_short_soak(tmp_path: Path) -> None:
    lines: list[str] = []
    found = kills.soak(0.4, 1, tmp_path, lines.append)
    assert found.sessions == found.kills + found.stops >= 1, lines
    assert (found.failed, found.orphans, found.leftovers) == (0, 0, 0), lines
    assert found.runs >= 1


@pytest.mark.parametrize("arguments", [["kills", "--kills", "0"], ["soak", "--minutes", "-1"]])
def test_bad_input(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(arguments) == 2
    assert "at least one is needed" in capsys.readouterr().err
