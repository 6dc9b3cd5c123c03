"""Runs that are killed: a small version of `python -m benchmarks kills` and `soak`, with real processes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from finished import RECIPE

from benchmarks import kills
from benchmarks.__main__ import run as command
from fastcifar.recipe.files import to_toml


def test_three_kills(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["kills", "--kills", "3", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out[out.index("{\n") :])
    assert found["kills"] == sum(found["during"].values()) == 3
    assert found["finished"] >= 1
    assert [found[bad] for bad in ("different", "stuck", "orphans", "leftovers")] == [0, 0, 0, 0]


def test_a_short_soak(tmp_path: Path) -> None:
    lines: list[str] = []
    found = kills.soak(0.6, 1, tmp_path, lines.append)  # beside another test a session takes a quarter minute to begin
    assert found.sessions == found.kills + found.stops >= 1, lines
    assert (found.failed, found.orphans, found.leftovers) == (0, 0, 0), lines
    assert found.runs >= 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["kills", "--kills", "0"], "--kills 0: at least one is needed"),
        (["soak", "--minutes", "-1"], "--minutes -1: must be above 0"),
        (["checkpoints", "--pairs", "0"], "at least one is needed"),
        (["checkpoints", "--pairs", "5000"], "so many steps are more than an epoch"),
    ],
)
def test_bad_input(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(arguments) == 2
    assert f"benchmarks: {complaint}" in capsys.readouterr().err


def test_what_a_checkpoint_costs(capsys: pytest.CaptureFixture[str], tmp_path: Path, restored_rng: object) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(to_toml(replace(RECIPE, limit_train=None if RECIPE.dataset == "cifar10" else 5000)))
    flags = ["--recipe", str(recipe), "--batch-size", "50", "--steps", "3", "--pairs", "3"]
    assert command(["checkpoints", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["cost_seconds"]["values"]) == 3
    assert found["bytes"] > 300_000
    assert 0 < found["copying_seconds"] < found["block_seconds"]
