"""Runs that are killed: a small version of `python -m benchmarks kills` and `soak`, with real processes."""

import json
import random
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from finished import RECIPE

from benchmarks import kills
from benchmarks.__main__ import run as command
from fastcifar.recipe.files import to_toml


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough to be trained for a few seconds."""
    flags = ["--dataset", "synthetic", "--limit-train", "2000", "--limit-test", "100", "--loader", "dali"]
    monkeypatch.setattr(kills, "_images", lambda train: flags)


def test_three_kills(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One of each kind, in the first tenth of the seconds in which they may be: most of a process is its beginning, and
    one that is over before it is killed takes another."""
    uniform = random.Random.uniform
    monkeypatch.setattr(random.Random, "uniform", lambda draw, low, high: uniform(draw, low, low + (high - low) / 10))
    assert command(["kills", "--kills", "3", "--seed", "6"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out[out.index("{\n") :])
    assert found["kills"] == sum(found["during"].values()) == 3
    assert found["finished"] >= 1
    assert [found[bad] for bad in ("different", "stuck", "orphans", "leftovers")] == [0, 0, 0, 0]


def test_a_short_soak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its one session is as long as it takes to finish a run, and the last process goes on with it."""
    lines: list[str] = []
    watched, record = kills._watched, tmp_path / "soak.record.json"

    def until_a_run(process: "subprocess.Popen[str]", end: float) -> tuple[list[tuple[float, float, int]], float]:
        found = watched(process, end)
        while not record.exists() and process.poll() is None:
            found = watched(process, time.monotonic() + kills.SAMPLE_SECONDS)
        return found

    monkeypatch.setattr(kills, "_watched", until_a_run)
    found = kills.soak(0.01, 1, tmp_path, lines.append)
    assert found.sessions == found.kills + found.stops == 1, lines
    assert found.cpu_minutes > 0
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
