"""`--resume` as a person types it, and what a signal leaves behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from finished import RECIPE, finished_run
from safetensors.torch import load_file

from fastcifar.commands import main
from fastcifar.records.check import read_record

CPU = ["--device", "cpu", "--loader", "dali", "--precision", "float32", "--compile", "off"]
SLOW = """
import time
import torch
class Net(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = torch.nn.Linear(3, classes)
    def forward(self, images):
        time.sleep(0.05 if images.requires_grad or self.training else 0)
        return self.head(images.mean(dim=(2, 3)))
"""


def started(*arguments: str, cwd: Path) -> "subprocess.Popen[str]":
    """The command as a program of its own."""
    command = [sys.executable, "-m", "fastcifar", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # whatever the tests were begun with
    )


def until_trained(process: "subprocess.Popen[str]", checkpoints: Path, steps: float = 0.3) -> None:
    """Until it has trained for `steps` seconds, as its heartbeat says."""
    heartbeat = checkpoints / "heartbeat"
    while not heartbeat.exists() or float((heartbeat.read_text().split() or [0, 0])[1]) < steps:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.fixture
def slow(tmp_path: Path) -> list[str]:
    """Flags of a custom network that takes its time, of eight steps an epoch."""
    (tmp_path / "net.py").write_text(SLOW)
    flags = ["--recipe", "laptop", "--model", "net.py:Net", "--batch-size", "50", "--limit-train", "400"]
    flags += ["--limit-test", "200", "--dataset", "synthetic", "--epochs", "4", *CPU]
    return flags


def test_stopped_it_says_how_to_go_on_and_ends_as_if_it_had_not_been(
    tmp_path: Path,
    slow: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    restored_rng: object,
) -> None:
    """SIGTERM, then Ctrl-C in the next session, then to the end."""
    monkeypatch.chdir(tmp_path)
    flags = ["--no-report", "--checkpoint-seconds", "0"]
    process = started("train", *slow, *flags, "--out", "run", cwd=tmp_path)
    until_trained(process, tmp_path / "run" / "checkpoints")
    process.terminate()
    _, err = process.communicate()
    assert (process.returncode, err) == (
        143,
        "fastcifar: interrupted; finished epochs: 0, kept in run; --resume run continues it\n",
    )
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"

    process = started("train", "--resume", "run", *flags, cwd=tmp_path)
    until_trained(process, tmp_path / "run" / "checkpoints", 0.9)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert re.fullmatch(r"fastcifar: interrupted; finished epochs: \d, kept in run; --resume run continues it\n", err)

    assert main(["train", "--resume", "run", *flags]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "continuing in epoch" in out
    assert main(["train", *slow, *flags, "--out", "whole"]) == 0
    assert capsys.readouterr().err == ""
    one, other = (load_file(tmp_path / run / "model.safetensors") for run in ("run", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    result = json.loads((tmp_path / "run" / "run.json").read_text())["result"]
    assert result["interruptions"] == 2
    assert result["lost_seconds"] < 0.3  # the steps in flight were finished
    rows = [line.split() for line in out.splitlines() if line.startswith("    ")]
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]  # those of the sessions before too


@pytest.mark.parametrize("times", [2, 11])
def test_a_second_ctrl_c_leaves_one_line_and_no_traceback(times: int, tmp_path: Path, slow: list[str]) -> None:
    process = started("train", *slow, "--out", "run", cwd=tmp_path)
    until_trained(process, tmp_path / "run" / "checkpoints", 0.1)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01 if times == 2 else 0.002)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, "fastcifar: interrupted at once\n")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


def test_a_measurement_goes_on_inside_a_run(
    tmp_path: Path,
    slow: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    restored_rng: object,
) -> None:
    """Killed before its first run is over, so that there is no record yet; then refused, resumed, and read."""
    monkeypatch.chdir(tmp_path)
    flags = [*slow, "--runs", "2", "--target", "0.01", "--json", "one.record.json", "--checkpoint-seconds", "0.1"]
    process = started("bench", "accuracy", *flags, cwd=tmp_path)
    place = tmp_path / "one.record.json.checkpoints"
    until_trained(process, place, 1.0)
    process.kill()
    process.communicate()
    assert main(["bench", "accuracy", *flags]) == 2
    assert "one.record.json.checkpoints exists; continue it with --resume" in capsys.readouterr().err
    assert main(["bench", "accuracy", *flags, "--resume", "--epochs", "5"]) == 2
    said = "one.record.json.checkpoints: a run of another recipe: epochs is 5, not 4"
    assert said in capsys.readouterr().err
    assert main(["bench", "accuracy", *flags, "--resume"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "interrupted 1 time, " in out
    record = read_record(tmp_path / "one.record.json")
    first, second = record.runs
    assert (first.interruptions, second.interruptions, second.lost_seconds) == (1, 0, 0.0)
    assert 0 <= first.lost_seconds < 2
    assert not place.exists()


def test_a_finished_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And has nothing in it that a process killed at its very end left."""
    path = shutil.copytree(finished_run()[0], tmp_path / "run")
    (path / "checkpoints").mkdir()
    (path / "checkpoints" / "session.json").touch()
    assert main(["train", "--resume", str(path)]) == 0
    assert f"{path}: the run is finished" in capsys.readouterr().out
    assert not (path / "checkpoints").exists()
    assert main(["train", "--resume", str(path), "--epochs", "3"]) == 2
    assert capsys.readouterr().err.endswith("is finished, and of another recipe: epochs is 3, not 2\n")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--epochs", "3"], "a run of another recipe: epochs is 3, not 2"),
        (["--seed", "5"], "a run of another recipe: seed is 5, not 0"),
        (["--recipe", "laptop"], "a run of another recipe: epochs is 12, not 2"),
        (["--dataset", "cifar100"], "a run of another recipe: dataset is cifar100"),
        (["--out", "x"], "--out: not with --resume"),
        (["--find-lr"], "--find-lr: not with --resume"),
        (["--checkpoint-seconds", "-1"], "--checkpoint-seconds -1: must be 0 or more"),
    ],
)
def test_what_does_not_go_with_it(
    flags: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = finished_run()
    run = tmp_path / "run"
    run.mkdir()
    values = json.loads((path / "run.json").read_text())
    asked = {"find_lr": False, "data": None, "dataset": RECIPE.dataset, "files": {}}
    (run / "run.json").write_text(json.dumps(values | {"status": "interrupted", "asked": asked}))
    assert main(["train", "--resume", str(run), *flags]) == 2
    assert complaint in capsys.readouterr().err
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"


def test_a_machine_that_lacks_memory_says_what_would_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], restored_rng: object
) -> None:
    """A network that asks for 16 GiB an image."""
    (tmp_path / "net.py").write_text(
        SLOW.replace(
            "time.sleep(",
            "torch.empty(len(images) * 2**40 // 64 if self.training else 0, dtype=torch.uint8); time.sleep(",
        )
    )
    flags = ["--recipe", "laptop", "--model", f"{tmp_path / 'net.py'}:Net", "--dataset", RECIPE.dataset]
    flags += ["--limit-train", "1000", "--limit-test", "10", *CPU, "--out", str(tmp_path / "run")]
    assert main(["train", *flags]) == 1
    error = capsys.readouterr().err
    assert "fastcifar: out of memory (" in error
    assert "a smaller network needs less" in error or "would fit (--batch-size " in error
    assert error.count("\n") == 1
