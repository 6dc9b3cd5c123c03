"""Runs made at once on Ray: a cluster of this machine, with workers that are killed."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from fastcifar.commands import main
from fastcifar.data.synthetic import synthetic
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.own import sealed
from fastcifar.recipe import OwnModel, Recipe, Schedule
from fastcifar.records.check import read_record
from fastcifar.records.measure import Watcher, bench_accuracy
from fastcifar.records.parallel import RayWorkers, places
from fastcifar.records.record import Record, to_json

ray = pytest.importorskip("ray")

TOY = ["--dataset", "synthetic", "--limit-train", "200", "--limit-test", "100", "--width", "4", "--batch-size", "64"]
TOY += ["--epochs", "2", "--device", "cpu", "--loader", "dali", "--precision", "float32", "--target", "0.05"]
SLOW = """
import time
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, seconds=0.1, at=""):
        super().__init__()
        self.head, self.seconds = nn.Linear(3, classes), seconds

    def forward(self, images):
        if self.training:
            time.sleep(self.seconds)
        return self.head(images.mean((2, 3)))
"""
CPU = Execution("cpu", "dali", "float32", "off")
DATA = synthetic(limit_train=200, limit_test=100)


def node(name: str, host: str = "a", *, cpus: float = 4, gpus: int = 0, alive: bool = True) -> dict[str, Any]:
    resources = {"CPU": cpus, **({"GPU": float(gpus)} if gpus else {})}
    return {"NodeID": name, "NodeManagerHostname": host, "Alive": alive, "Resources": resources}


def test_a_worker_has_a_gpu_or_a_machine_to_itself() -> None:
    gpus = [node("1", "a", gpus=2), node("2", "b", gpus=1), node("3", "c", gpus=8, alive=False)]
    found = places(gpus, "cuda", None, allow_shared=False)
    assert [(one.node, one.gpus, one.cpus, one.sharing) for one in found] == [("1", 1, 0, 1)] * 2 + [("2", 1, 0, 1)]
    shared = places(gpus, "cuda", 6, allow_shared=True)
    halves = [("1", 0.5, 0), ("1", 0.5, 1), ("1", 0.5, 0), ("1", 0.5, 1), ("2", 0.5, 0), ("2", 0.5, 1)]
    assert [(one.node, one.gpus, one.share) for one in shared] == halves
    with pytest.raises(InputError, match="--workers 4: 3 GPUs cannot be shared out evenly among them"):
        places(gpus, "cuda", 4, allow_shared=True)

    cpus = [node("1", "a"), node("2", "b", cpus=6), node("3", "a")]  # two nodes of one machine
    found = places(cpus, "cpu", None, allow_shared=False)
    assert [(one.node, one.cpus, one.sharing) for one in found] == [("1", 4, 1), ("2", 6, 1)]
    assert len(places(cpus, "cpu", 1, allow_shared=False)) == 1
    shared = places(cpus, "cpu", 6, allow_shared=True)
    assert [(one.node, one.cpus, one.share) for one in shared] == [
        *(("1", 2, 0), ("3", 4, 1), ("1", 2, 2)),
        *(("2", 2, 0), ("2", 2, 1), ("2", 2, 2)),
    ]


@pytest.mark.parametrize(
    ("nodes", "device", "workers", "said"),
    [
        ([node("1")], "cuda", None, "--parallel: the Ray cluster has no GPU to train on"),
        ([node("1", alive=False)], "cpu", None, "--parallel: the Ray cluster has no CPU to train on"),
        (
            [node("1"), node("2", "b")],
            "cpu",
            3,
            "--workers 3: there are 2 machines, and the seconds of runs",
        ),
        ([node("1", gpus=1)], "cuda", 2, "--workers 2: there is 1 GPU, and the seconds of runs that share one compare"),
        ([node("1")], "cpu", 0, "--workers 0: at least one is needed"),
    ],
)
def test_what_is_refused(nodes: list[dict[str, Any]], device: str, workers: int | None, said: str) -> None:
    with pytest.raises(InputError) as refused:
        places(nodes, device, workers, allow_shared=False)
    assert str(refused.value).startswith(said)


def bench(*flags: str) -> list[str]:
    return ["bench", "accuracy", "--recipe", "laptop", *TOY, *flags]


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_runs_at_once_have_the_figures_of_runs_in_turn(
    cluster: Any, one_thread: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], restored_rng: object
) -> None:
    """With as many threads, by the command; the record says who made what, and what they shared."""
    for name, flags in (("turn", []), ("once", ["--parallel", "--workers", "2", "--allow-shared"])):
        assert main(bench("--runs", "3", "--json", str(tmp_path / f"{name}.record.json"), *flags)) == 0
        out, err = capsys.readouterr()
        assert err == ""
    assert "2 runs at once" in out
    turn, once = (read_record(tmp_path / f"{name}.record.json") for name in ("turn", "once"))
    assert [[epoch.train_loss for epoch in run.epochs] for run in once.runs] == [
        [epoch.train_loss for epoch in run.epochs] for run in turn.runs
    ]
    assert once.work == turn.work
    assert {run.worker for run in turn.runs} == {None}
    assert {run.worker for run in once.runs} <= {1, 2}
    assert (turn.environment.sharing, once.environment.sharing) == (None, 2)
    assert once.environment.cores == len(os.sched_getaffinity(0)) // 2
    assert not (tmp_path / "once.record.json.checkpoints").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["once.record.json", "turn.record.json"]


@pytest.mark.parametrize("flags", [["--workers", "2"], ["--allow-shared"]])
def test_flags_of_runs_at_once(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(bench(*flags)) == 2
    assert f"{flags[0]}: of runs that are made at once, which --parallel asks for" in capsys.readouterr().err


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs, and two nodes with one each: two that may be lost."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    found.nodes = [found.add_node(num_cpus=1) for _ in range(2)]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ray.init(address=found.address, log_to_driver=False)
    yield found
    ray.shutdown()
    found.shutdown()
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def slow(tmp_path: Path) -> Recipe:
    file = tmp_path / "net.py"
    file.write_text(SLOW)
    return Recipe(
        epochs=2,
        batch_size=50,
        target=0.01,
        dataset="synthetic",
        dataset_sha256=DATA.sha256,
        limit_train=200,
        limit_test=100,
        model=OwnModel(f"{file}:Net", {"seconds": 0.1}),
        schedule=Schedule(peak_epoch=1),
    )


class Said(Watcher):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ended: list[int] = []

    def note(self, line: str) -> None:
        self.lines.append(line)

    def end(self, number: int, run: Any) -> None:
        self.ended.append(number)


def measured(
    recipe: Recipe,
    said: Said,
    runs: int,
    folder: Path,
    progress: Callable[[int, int, int], None] = lambda *_: None,
    count: int = 2,
    **options: Any,
) -> Record:
    recipe, own = sealed(recipe)
    about: Any = {"data": None, "workers": count, "allow_shared": True, "tell": said.note, "progress": progress}
    workers = RayWorkers(recipe, own, CPU, **about)
    kept: list[Record] = []
    options = {"protocol": "fixed-budget", "earlier": None, "keep": kept.append, "checkpoints": folder, **options}
    with workers:
        return bench_accuracy("mine", recipe, DATA, CPU, own=own, runs=runs, watcher=said, workers=workers, **options)


def kill_a_worker() -> None:
    """One of Ray's processes that make runs, of whichever of our nodes: another test may have some of its own."""
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, IndexError):
            if one.cmdline()[0].startswith("ray::Worker"):
                one.kill()
                return
    raise AssertionError("no worker is there")


def test_what_a_lost_worker_was_making_is_made_again(cluster: Any, slow: Recipe, tmp_path: Path) -> None:
    """Though its minutes are over, after which no other run begins."""
    said, killed = Said(), list[int]()

    def progress(done: int, runs: int, making: int) -> None:
        if not killed:
            killed.append(making)
            kill_a_worker()

    record = measured(slow, said, 5, tmp_path / "checkpoints", progress, seconds=1e-9)
    assert killed == [2]
    assert [run.seed for run in record.runs] == [0, 1]
    assert said.ended == [0, 1]
    (line,) = said.lines
    assert line.startswith("worker ")
    assert "is lost, and run" in line
    (tmp_path / "mine.record.json").write_bytes(to_json(record))
    assert read_record(tmp_path / "mine.record.json") == record
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["runs.json"]  # of which three are to come


def test_a_run_that_loses_every_worker_ends_it(
    cluster: Any, slow: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastcifar.records.parallel.ATTEMPTS", 2)
    deadly = tmp_path / "net.py"
    deadly.write_text(SLOW.replace("time.sleep(self.seconds)", "__import__('os').kill(__import__('os').getpid(), 9)"))
    said = Said()
    with pytest.raises(RunError, match=r"run 1 has lost 2 workers, the last by: The actor died"):
        measured(slow, said, 1, tmp_path / "checkpoints", count=1)
    assert len(said.lines) == 1


def test_what_a_worker_raises_is_said_as_here(cluster: Any, slow: Recipe, tmp_path: Path) -> None:
    diverging = replace(slow, schedule=Schedule(max_lr=3e38, min_lr=3e38, peak_epoch=1))
    with pytest.raises(RunError, match=r"^the loss is (nan|inf) in epoch 1, step 2, at learning rate 3e\+38"):
        measured(diverging, Said(), 2, tmp_path / "checkpoints", count=1)
    other = replace(slow, dataset_sha256="0" * 64)
    with pytest.raises(InputError, match=r"^dataset: synthetic here .* has other images than the recipe's"):
        measured(other, Said(), 2, tmp_path / "checkpoints", count=1)


def test_a_run_that_was_over_before_its_turn_is_not_made_again(cluster: Any, slow: Recipe, tmp_path: Path) -> None:
    """The driver ends while the first run is under way and the second is over; the next one makes what is missing."""
    (waits := tmp_path / "waits").touch()  # the first run, until the driver ends
    longer = f"50 * (torch.initial_seed() == 0 and os.path.exists({str(waits)!r}))"
    text = SLOW.replace("time.sleep(self.seconds)", f"time.sleep(self.seconds * (1 + {longer}))")
    (tmp_path / "net.py").write_text(f"import os\nimport torch\n{text}")
    folder = tmp_path / "checkpoints"

    def stop(done: int, runs: int, making: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(slow, Said(), 3, folder, stop)
    waits.unlink()
    assert sorted(path.name for path in folder.glob("run-*")) == ["run-1.json", "run-2.json"]
    before = [json.loads((folder / f"run-{number}.json").read_text())["measured"]["run"] for number in (1, 2)]
    (folder / "run-2.json").write_text("{")  # damaged: it is made again
    said, made = Said(), list[tuple[int, int, int]]()
    record = measured(slow, said, 3, folder, lambda *counts: made.append(counts))
    assert made[0][1] == 2
    assert record.runs[1].model_dump(mode="json") == before[0]
    assert record.runs[2].started > before[1]["started"]
    assert said.ended == [0, 1, 2]
    assert not folder.exists()


def test_a_worker_trains_other_recipes_too(cluster: Any, slow: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a search asks it to, from a thread; once it is lost for good, or has no room at first, that is said."""
    monkeypatch.setattr("fastcifar.records.parallel.SLOW_SECONDS", 1.0)
    other = ray.remote(lambda: time.sleep(600)).options(num_cpus=1).remote()  # which has the CPU of a node

    def tell(line: str) -> None:
        said.note(line)
        ray.cancel(other, force=True)

    recipe, own = sealed(slow)
    said = Said()
    about: dict[str, Any] = {"data": None, "workers": 2, "allow_shared": True, "tell": tell}
    with RayWorkers(recipe, own, CPU, **about) as workers:
        workers.environment()
        assert said.lines.pop().endswith(
            "of 2 workers have not begun yet: `ray status` says whether there is room for them"
        )
        assert said.lines == []
        one, two = workers.numbers
        smoothed = replace(recipe, label_smoothing=0.2)
        first = workers.train(one, smoothed, own, 3)
        assert 0 <= first[0] <= 1
        assert first[1] > 0.7  # 8 steps of 0.1 s
        assert workers.train(one, smoothed, own, 3)[0] == first[0]
        assert workers.train(two, smoothed, own, 3)[0] == first[0]
        assert said.lines == []
        threading.Timer(0.3, kill_a_worker).start()
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda number: workers.train(number, smoothed, own, 3)[0], (one, two)))
        assert found == [first[0]] * 2
        (line,) = said.lines
        assert "is lost, and its trial begun again" in line
    with pytest.raises(LookupError, match=f"worker {one} is lost"):
        workers.train(one, smoothed, own, 3)


def test_a_lost_node_is_not_waited_for(cluster: Any, slow: Recipe, tmp_path: Path) -> None:
    """Last: the cluster is smaller then."""
    said, gone = Said(), list[int]()

    def progress(done: int, runs: int, making: int) -> None:
        if done == 1 and not gone:
            gone.append(making)
            cluster.remove_node(cluster.nodes.pop(), allow_graceful=False)

    record = measured(slow, said, 6, tmp_path / "checkpoints", progress)
    assert [run.seed for run in record.runs] == [0, 1, 2, 3, 4, 5]
    assert len({run.worker for run in record.runs[4:]}) == 1
    # Ray may first find that the worker does not answer, and then that its node is gone.
    assert 1 <= len(said.lines) <= 2, said.lines
