"""Several processes that train one network, as torchrun starts them: what one alone would, and what fails is told."""

import contextlib
import copy
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from several.trained import answers
from torch import nn

from fastcifar.commands import main
from fastcifar.execution import launch
from fastcifar.models.batch_norm import BatchNorm2d
from fastcifar.training import ranks
from fastcifar.training.sync_batchnorm import SyncBatchNorm, synchronise

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}


def torchrun(count: int, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with `arguments` in so many processes."""
    program = [*TORCHRUN, "--standalone", f"--nproc-per-node={count}", *map(str, arguments)]
    return subprocess.run(program, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=280, check=False)


def test_they_train_as_one_does(tmp_path: Path) -> None:
    """Three: more than two, and the batch is of no multiple of them."""
    file, alone = tmp_path / "found.json", answers()
    done = torchrun(3, Path(__file__).with_name("trained.py"), file, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    found = json.loads(file.read_text())
    of_ranks = found["ranks"]
    for name in ("plain", "logging", "selected", "normed", "synchronised"):
        assert all(rank[name] == of_ranks[0][name] for rank in of_ranks)  # the network too, bit for bit
    for name in ("plain", "logging", "selected"):
        ours, its = of_ranks[0][name], alone[name]
        for of in ("losses", "test_losses"):
            assert ours[of] == pytest.approx(its[of], rel=1e-5)
        for of in ("accuracies", "test_accuracies"):
            assert ours[of] == its[of]
    assert alone["synchronised"] == alone["normed"]  # of one process nothing changes
    for of in ("losses", "test_losses"):  # in float32 a ReLU or a maximum is soon on its other side
        assert of_ranks[0]["synchronised"][of] == pytest.approx(alone["synchronised"][of], rel=0.02)
    assert max(rank["off"] for rank in of_ranks) < 1e-6
    # Batch statistics are each rank's own.
    assert of_ranks[0]["normed"]["losses"] == pytest.approx(alone["normed"]["losses"], rel=0.1)
    assert of_ranks[0]["normed"]["losses"] != alone["normed"]["losses"]
    for rank in of_ranks:
        assert rank["another recipe"] == "rank 1: recipe.epochs is 2, and that of rank 0 1"
        assert rank["no batch norm"].startswith("--sync-batchnorm: the network has no batch normalisation")
        assert rank["too few"] == "batch_size: a batch of 2 images, fewer than the 3 processes"
        assert rank["enough"] is None
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
        if Net.calls == 10 and os.environ.get("RANK") == "1" and os.path.exists("die"):
            os.remove("die")
            os.kill(os.getpid(), signal.SIGKILL)
        return self.head(self.conv(images).amax(dim=(2, 3)))
"""
FLAGS = [
    *("-m", "fastcifar", "train", "--model", "net.py:Net", "--dataset", "synthetic", "--limit-train", "512"),
    *("--limit-test", "100", "--batch-size", "128", "--epochs", "4", "--device", "cpu", "--loader", "dali"),
    *("--checkpoint-seconds", "1e-6", "--no-report", "--out", "run"),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "die").touch()
    return tmp_path


def test_one_that_is_killed_is_started_again_and_the_run_goes_on(place: Path) -> None:
    """By two of torchrun's agents, as on two machines, each of which counts its own process's restarts."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        where = f"localhost:{free.getsockname()[1]}"
    program = [*TORCHRUN, "--nnodes=2", "--rdzv-backend=c10d", "--rdzv-id=job", "--rdzv-endpoint", where]
    program += ["--nproc-per-node=1", "--max-restarts=1", *FLAGS]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:
        agents = [stack.enter_context(subprocess.Popen(program, cwd=place, env=ENVIRONMENT, **pipes)) for _ in range(2)]
        for agent in agents:
            stack.callback(agent.kill)
        both = [agent.communicate(timeout=280) for agent in agents]
    out, err = ("".join(texts) for texts in zip(*both, strict=True))
    assert [agent.returncode for agent in agents] == [0, 0], err
    assert out.count("2 processes") == 2  # rank 0 alone prints, in each session
    assert "continuing in epoch" in out
    # Of what the other rank sees first: that its neighbour is gone, or torchrun's signal.
    assert re.search(r"^fastcifar: (rank 0 of 2: another process has gone|interrupted)", err, re.MULTILINE)
    said = json.loads((place / "run" / "run.json").read_text())
    assert (said["status"], said["result"]["interruptions"], said["environment"]["gpus"]) == ("finished", 1, 0)
    assert len((place / "run" / "steps.csv").read_text().splitlines()) == 1 + 4 * 4


def test_fewer_go_on_with_what_more_began(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Started by the same job, if one that counts no restart of this process; another job is refused."""
    assert torchrun(2, *FLAGS, cwd=place).returncode != 0
    job = json.loads((place / "run" / "run.json").read_text())["launch"]
    monkeypatch.chdir(place)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    for other in ("another", "none"):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", other)
        assert main(FLAGS[2:]) == 2
        assert capsys.readouterr().err.startswith("fastcifar: --out run: exists and is not empty")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", job)
    assert main(FLAGS[2:]) == 0
    assert "continuing in epoch" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "job"), [("job", "job"), ("none", None), (None, None)])
def test_a_job_without_a_name_is_none(name: str | None, job: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all that torchrun started without --rdzv-id would be one job."""
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    if name:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", name)
    assert launch() == job


def test_processes_meet_under_a_name_of_their_own() -> None:
    store = dist.HashStore()
    names = set()
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:  # the others first, who find the earlier ones' name
            found = [pool.submit(ranks._meeting, store, rank, 3) for rank in (2, 1)]
            time.sleep(0.1)
            found.append(pool.submit(ranks._meeting, store, 0, 3))
        (name,) = {one.result() for one in found}
        names.add(name)
    assert len(names) == 2


def test_who_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "PATIENCE", timedelta(seconds=0.1))
    store = dist.HashStore()
    with pytest.raises(RuntimeError, match=r"^rank 1 did not come within 0 s"):
        ranks._meeting(store, 0, 2)
    with pytest.raises(RuntimeError, match=r"^rank 0 did not come"):
        ranks._meeting(store, 1, 2)  # which finds the name, and not its own signature


class Ghost(nn.BatchNorm2d):
    """One that is not torch's own."""


@contextmanager
def gloo() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_synchronised_layers_are_torchs_in_all_else() -> None:
    """Of one process: gradients and running statistics too; the names of its tensors are a plain network's."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), BatchNorm2d(4, momentum=0.3), nn.BatchNorm2d(4, affine=False), Ghost(4))
    other = copy.deepcopy(plain)
    parameters = list(other.parameters())
    with gloo():
        synchronise(other)
        assert [type(one) for one in other] == [nn.Conv2d, SyncBatchNorm, SyncBatchNorm, Ghost]
        assert all(one is two for one, two in zip(parameters, other.parameters(), strict=True))
        images = 5 + 3 * torch.rand(6, 3, 8, 8)
        for network in (plain, other):
            network(images).square().sum().backward()
        for name, one in plain.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], one)
        for one, two in zip(plain.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(two.grad, one.grad)
        assert other[1](torch.ones(2, 4, 3, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16
        plain[1](torch.ones(2, 4, 3, 3, dtype=torch.bfloat16))
    torch.testing.assert_close(other.eval()(images), plain.eval()(images))


def test_other_commands_are_for_one_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["bench", "step", "--device", "cpu"]) == 2
    assert "only fastcifar train works in them" in capsys.readouterr().err
