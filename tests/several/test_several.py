"""Several processes that train one network, as torchrun starts them: what one alone would, and what fails is told."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from several.trained import answers

from fastcifar.commands import main

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def torchrun(count: int, *arguments: str | Path, cwd: Path, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """Run Python with `arguments` in so many processes."""
    program = [*TORCHRUN, f"--nproc-per-node={count}", f"--max-restarts={restarts}", *map(str, arguments)]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(program, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return answers()


@pytest.mark.parametrize("count", [2, 4])
def test_they_train_as_one_does(count: int, alone: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    done = torchrun(count, Path(__file__).with_name("trained.py"), file, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    found = json.loads(file.read_text())
    ranks = found["ranks"]
    for name in ("plain", "selected", "normed"):
        assert all(rank[name] == ranks[0][name] for rank in ranks)  # the network too, bit for bit
    for name in ("plain", "selected"):
        ours, its = ranks[0][name], alone[name]
        for of in ("losses", "test_losses"):
            assert ours[of] == pytest.approx(its[of], rel=1e-5)
        for of in ("accuracies", "test_accuracies"):
            assert ours[of] == its[of]
    # Batch statistics are each rank's own.
    assert ranks[0]["normed"]["losses"] == pytest.approx(alone["normed"]["losses"], rel=0.1)
    assert ranks[0]["normed"]["losses"] != alone["normed"]["losses"]
    for rank in ranks:
        assert rank["another recipe"] == "rank 1: recipe.epochs is 2, and that of rank 0 1"
        few = f"batch_size: a batch of 2 images, fewer than the {count} processes"
        assert rank.get("too few") == (few if count > 2 else None)
    assert "Ranks 1 failed to pass" in found["alone"]


NET = """
import os, signal, torch
class Net(torch.nn.Module):
    calls = 0
    def __init__(self, classes):
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, classes)
    def forward(self, images):
        Net.calls += self.training
        if Net.calls == 10 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        return self.head(self.conv(images).amax(dim=(2, 3)))
"""
FLAGS = [
    *("-m", "fastcifar", "train", "--model", "net.py:Net", "--dataset", "synthetic", "--limit-train", "512"),
    *("--limit-test", "100", "--batch-size", "128", "--epochs", "4", "--device", "cpu", "--loader", "fused"),
    *("--checkpoint-seconds", "1e-6", "--no-report", "--out", "run"),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def test_one_that_is_killed_is_started_again_and_the_run_goes_on(place: Path) -> None:
    done = torchrun(2, *FLAGS, cwd=place, restarts=1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 processes") == 2  # rank 0 alone prints, in each session
    assert "goes on in epoch" in done.stdout
    # Of what the other rank sees first: that its neighbour is gone, or torchrun's signal.
    assert re.search(r"^fastcifar: (rank 0 of 2: another process has gone|interrupted)", done.stderr, re.MULTILINE)
    said = json.loads((place / "run" / "run.json").read_text())
    assert (said["status"], said["result"]["interruptions"], said["environment"]["gpus"]) == ("finished", 1, 0)
    assert len((place / "run" / "steps.csv").read_text().splitlines()) == 1 + 4 * 4


def test_fewer_go_on_with_what_more_began(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert torchrun(2, *FLAGS, cwd=place).returncode != 0
    assert main(["train", "--resume", str(place / "run"), "--trust-code"]) == 0
    assert "goes on in epoch" in capsys.readouterr().out


def test_other_commands_are_for_one_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["bench", "step", "--device", "cpu"]) == 2
    assert "only fastcifar train works in them" in capsys.readouterr().err
