"""Rivals beside fastcifar: what they print is read right, the plain program trains the same network, ratios follow."""

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fastcifar.bench.environment import environment
from fastcifar.bench.plain import PilImages, normalised
from fastcifar.commands import main
from fastcifar.commands.bench import Accuracy
from fastcifar.commands.parse import parse
from fastcifar.data.load import load_dataset
from fastcifar.data.synthetic import synthetic
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.peers import airbench, compare, cuda_script, peers, plain_pytorch, program
from fastcifar.peers.airbench import Airbench
from fastcifar.peers.compare import Outcome, _Ours, merged, parse_paths, ratios, run_peers
from fastcifar.peers.hlb_cifar10 import HlbCifar10
from fastcifar.peers.peer import BrokenError, Job, Peer
from fastcifar.peers.plain_pytorch import PlainPytorch
from fastcifar.peers.program import PATIENT, Line, Output
from fastcifar.peers.speedrun import Speedrun
from fastcifar.recipe import Augmentation, Recipe, Resnet, Schedule
from fastcifar.records.check import read_record
from fastcifar.records.record import Epoch, Images, Record, Run, to_json
from fastcifar.records.summary import make_record
from fastcifar.report.console import Console
from fastcifar.report.tables import print_peers

TOY = Recipe(
    epochs=2,
    batch_size=128,
    dataset="synthetic",
    limit_train=300,
    limit_test=200,
    model=Resnet(width=4),
    schedule=Schedule(min_lr=0.001, max_lr=0.01, peak_epoch=1),
)
CPU = Job("toy", TOY, "first-crossing", "cpu", data=None, path=None)
CUDA = replace(CPU, recipe=Recipe(target=0.94), device="cuda", data=Path("/data"))


AIRBENCH_HEADINGS = ["run   ", "epoch", "train_loss", "train_acc", "val_acc", "tta_val_acc", "total_time_seconds"]
HLB_HEADINGS = ["epoch", "train_loss", "val_loss", "train_acc", "val_acc", "ema_val_acc", "total_time_seconds"]


def row(headings: list[str], *cells: str) -> str:
    return "".join(f"|  {cell.rjust(len(heading))}  " for heading, cell in zip(headings, cells, strict=True)) + "|"


airbench_row, hlb_row = partial(row, AIRBENCH_HEADINGS), partial(row, HLB_HEADINGS)


def stamped(texts: Sequence[str], start: float = 1_700_000_000.0, cut: bool = False) -> Output:
    """A line a second."""
    return Output([Line(start + number, text) for number, text in enumerate(texts, start=1)], said="", cut=cut)


AIRBENCH = [
    "-" * 90,
    airbench_row(*AIRBENCH_HEADINGS),
    "-" * 90,
    airbench_row("warmup", "0", "2.1", "0.1", "0.1001", "", "0.9000"),
    airbench_row("", "eval", "2.1", "0.1", "0.1001", "0.1002", "0.9500"),
    "-" * 90,
    airbench_row("0", "0", "1.5", "0.5", "0.6001", "", "0.4000"),
    airbench_row("", "1", "1.2", "0.9", "0.9302", "", "0.7500"),
    airbench_row("", "eval", "1.2", "0.9", "0.9302", "0.9403", "0.8000"),
    "-" * 90,
    airbench_row("1", "0", "1.5", "0.5", "0.6004", "", "0.4100"),
    airbench_row("", "1", "1.2", "0.9", "0.9305", "", "0.7700"),
    airbench_row("", "eval", "1.2", "0.9", "0.9305", "0.9399", "0.8200"),
    "-" * 90,
    "Mean: 0.9401    Std: 0.0003",
    "/tmp/somewhere/log.pt",
]
HLB = [
    hlb_row(*HLB_HEADINGS),
    *[
        row
        for first in ("0.5010", "0.5001")
        for row in (
            hlb_row("0", "2.0", "2.0", "0.5", first, "", "0.6000"),
            hlb_row("1", "1.5", "1.5", "0.8", "0.8502", "0.9003", "1.1000"),
            hlb_row("2", "1.2", "1.2", "0.9", "0.9204", "0.9405", "1.6000"),
            hlb_row("3", "1.2", "1.2", "0.9", "0.9306", "0.9407", "1.6500"),
            "-" * 90,
        )
    ],
    "Mean and variance: (0.9407, 0.0)",
]


def foreign(runs: list[Run], target: float = 0.94, train: int = 49_152) -> Record:
    return make_record(
        program="rival 1",
        name="script",
        protocol="first-crossing",
        target=target,
        recipe=None,
        execution=None,
        images=Images(train=train, test=10_000),
        environment=environment("cpu"),
        runs=runs,
    )


def checked(record: Record, folder: Path) -> Record:
    """The record, read back from a file."""
    file = folder / "one.record.json"
    file.write_bytes(to_json(record))
    return read_record(file)


def record_of(seconds: float, accuracy: float, target: float = 0.9, day: int = 1) -> Record:
    """A record of a single run of a single epoch of 1,000 images, on a day of January."""
    epoch = Epoch(epoch=1, train_seconds=seconds, test_accuracy=accuracy, images_per_second=1000 / seconds)
    started = f"2026-01-{day:02}T00:00:00+00:00"
    run = Run(seed=None, started=started, setup_seconds=0.0, wall_seconds=seconds, epochs=[epoch])
    return foreign([run], target, train=1000)


def test_airbench_table(tmp_path: Path) -> None:
    """The warm-up is no run; the last epoch has the accuracy and the seconds of the evaluation on augmented images."""
    runs = Airbench().parse(stamped(AIRBENCH), 1_700_000_000.0, 49_152)
    assert [[epoch.test_accuracy for epoch in run.epochs] for run in runs] == [[0.6001, 0.9403], [0.6004, 0.9399]]
    assert [epoch.train_seconds for epoch in runs[0].epochs] == pytest.approx([0.4, 0.35])
    assert [epoch.eval_seconds for epoch in runs[0].epochs] == [None, pytest.approx(0.05)]
    assert runs[0].setup_seconds == pytest.approx(7 - 0.4)  # the warm-up is part of it
    record = checked(foreign(runs), tmp_path)
    assert record.summary.runs == 2
    assert record.summary.seconds is None  # the second run ends at 93.99 %
    assert record.summary.images_per_second.mean == pytest.approx(49_152 / 0.375, rel=0.02)


def test_airbench_muon_table() -> None:
    """It has no losses, and another heading over the seconds."""
    lines = [
        "|  run     |  epoch  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |",
        "|       0  |      0  |     0.5000  |   0.6001  |               |        0.4000  |",
        "|          |   eval  |     0.5000  |   0.6001  |       0.6102  |        0.4500  |",
    ]
    (run,) = Airbench().parse(stamped(lines), 1_700_000_000.0, 50_000)
    assert run.epochs[0].test_accuracy == 0.6102
    assert run.epochs[0].images_per_second == 50_000 / 0.4


def test_airbench_package_warms_up_by_a_single_step() -> None:
    """Its warm-up prints a row without epoch and accuracy, then the headings again."""
    lines = [AIRBENCH[1], airbench_row("warmup", "", "", "", "", "", "0.1000"), *AIRBENCH[1:3], *AIRBENCH[6:9]]
    assert len(Airbench().parse(stamped(lines), 1_700_000_000.0, 49_152)) == 1


def test_speedrun_table(tmp_path: Path) -> None:
    """A row a run, and between the rows what overwrites itself on a terminal."""
    lines = [
        "|  run     |  epoch  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |",
        "|  warmup  |   eval  |     0.1000  |   0.1001  |       0.1002  |        9.0000  |",
        "|       1  |   eval  |     0.9800  |   0.9301  |       0.9402  |        2.0000  |",
        "Mean accuracy after 1 runs: 0.940200 | Mean time: 2.000000s",
        "|       2  |   eval  |     0.9800  |   0.9303  |       0.9404  |        2.5000  |",
        "Mean accuracy after 2 runs: 0.940300 | Mean time: 2.250000s",
        "|       3  |   eval  |     0.9800  |   0.9303  |       0.9404  |        2.0000  |",
    ]
    assert Speedrun.train_images == math.ceil(7.59 * (50_000 // 1536)) * 1536  # as the script has it
    runs = Speedrun().parse(stamped(lines, cut=True), 1_700_000_000.0, Speedrun.train_images)
    assert [[(one.test_accuracy, one.train_seconds) for one in run.epochs] for run in runs] == [
        [(0.9402, 2.0)],
        [(0.9404, 2.5)],
    ]
    record = checked(foreign(runs, train=Speedrun.train_images), tmp_path)
    assert record.summary.seconds is not None
    assert record.summary.seconds.mean == 2.25


def test_hlb_table(tmp_path: Path) -> None:
    """The averaged network's accuracy counts from where there is one; the tenth of an epoch joins the one before."""
    runs = HlbCifar10().parse(stamped(HLB), 1_700_000_000.0, 49_152)
    assert [len(run.epochs) for run in runs] == [3, 3]
    assert [epoch.test_accuracy for epoch in runs[1].epochs] == [0.5001, 0.9003, 0.9407]
    assert [epoch.train_seconds for epoch in runs[1].epochs] == pytest.approx([0.6, 0.5, 0.55])
    record = checked(foreign(runs), tmp_path)
    assert record.summary.seconds is not None
    assert record.summary.seconds.mean == pytest.approx(1.65)


@pytest.mark.parametrize(
    "lines",
    [
        [AIRBENCH[1], airbench_row("0", "0", "1.5", "0.5", "much", "", "0.4")],
        AIRBENCH[:8],  # cut off
        [AIRBENCH[1], airbench_row("0", "eval", "1.5", "0.5", "0.5", "0.5", "0.4")],
        ["|  run  |  epoch  |", "|  0  |  0  |", "|    |  eval  |"],
    ],
)
def test_a_table_that_has_changed_is_refused_in_one_line(lines: list[str]) -> None:
    with pytest.raises(RunError, match="its table cannot be read"):
        Airbench().parse(stamped(lines), 1_700_000_000.0, 49_152)


def test_the_plain_cutout_is_the_recipes() -> None:
    """A square of the recipe's side, of the mean colour, wholly inside."""
    dataset = synthetic(train=20, test=1)
    bare = normalised(dataset)
    transform = plain_pytorch.train_transform(Augmentation(pad=0, flip="none", cutout=8), bare)
    one = PilImages(dataset.train_images, dataset.train_labels, transform)
    other = PilImages(dataset.train_images, dataset.train_labels, bare)
    for index in range(20):
        changed = (one[index][0] != other[index][0]).any(dim=0)
        assert one[index][0].shape == (3, 32, 32)
        assert changed.any(dim=0).sum() <= 8
        assert changed.any(dim=1).sum() <= 8
        assert changed.sum() >= 60  # nearly every pixel of 64 differs from the mean in some channel


def test_plain_pytorch_is_run_and_read(tmp_path: Path) -> None:
    record = checked(PlainPytorch().run(CPU), tmp_path)
    assert record.recipe == replace(TOY, dataset_sha256=load_dataset(TOY).sha256)
    assert record.images == Images(train=300, test=200)
    (run,) = record.runs
    assert len(run.epochs) == 2
    assert run.epochs[0].learning_rate == pytest.approx(0.01)
    assert run.epochs[1].learning_rate == pytest.approx(0.001)


def test_rivals_that_cannot_run_say_why(tmp_path: Path) -> None:
    for rival in (Airbench(), HlbCifar10()):
        assert rival.missing(CPU) == "it needs CUDA, and the device is cpu"
        assert "all of CIFAR-10" in str(rival.missing(replace(CPU, device="cuda")))
        assert str(tmp_path) in str(rival.missing(replace(CUDA, path=tmp_path)))
    assert f"--peer hlb-CIFAR10=PATH with a checkout of {HlbCifar10.url}" in str(HlbCifar10().missing(CUDA))
    assert PlainPytorch().missing(CPU) is None


def test_airbench_scripts_are_found(tmp_path: Path) -> None:
    (tmp_path / "legacy").mkdir()
    script = tmp_path / "legacy" / "airbench94.py"
    script.touch()
    assert airbench.find_script(tmp_path) == airbench.find_script(script) == script
    assert Airbench().missing(replace(CUDA, path=tmp_path)) is None
    other = tmp_path / "setup.py"
    other.touch()
    assert airbench.find_script(other) is None


@pytest.mark.parametrize(
    ("script", "evaluation"),
    [
        ("airbench94_muon.py", "flip+shift (last epoch)"),
        ("airbench94.py", "flip+shift of lookahead (last epoch)"),
    ],
)
def test_airbench_says_what_it_tests(tmp_path: Path, script: str, evaluation: str) -> None:
    (tmp_path / "data" / "cifar-10-batches-py").mkdir(parents=True)
    (tmp_path / script).write_text(f"print(*{AIRBENCH!r}, sep='\\n')\n")
    record = checked(Airbench().run(replace(CUDA, data=tmp_path / "data", path=tmp_path)), tmp_path)
    assert (record.evaluation, record.work, record.sources) == (evaluation, None, [])


def test_a_rivals_program_runs_unmodified_beside_the_data(tmp_path: Path) -> None:
    """A stand-in for hlb-CIFAR10 that finds CIFAR-10 where that one looks, prints its table, and leaves a file."""
    checkout, data = tmp_path / "hlb", tmp_path / "data"
    checkout.mkdir()
    (data / "cifar-10-batches-py").mkdir(parents=True)
    (data / "cifar-10-batches-py" / "batches.meta").touch()
    (checkout / "main.py").write_text(
        "from pathlib import Path\n"
        "assert Path('cifar10/cifar-10-batches-py/batches.meta').exists()\n"
        "Path('data.pt').touch()\n"
        f"print(*{HLB!r}, sep='\\n')\n"
    )
    record = HlbCifar10().run(replace(CUDA, data=data, path=checkout))
    assert (record.summary.runs, record.recipe, record.images.train) == (2, None, 49_152)
    assert (record.program, record.evaluation) == ("hlb-CIFAR10 unknown", "flip of EMA")
    assert [path.name for path in checkout.iterdir()] == ["main.py"]


def test_of_a_program_that_is_ended_the_finished_runs_count(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    program = tmp_path / "main.py"
    job = replace(CUDA, data=tmp_path, path=tmp_path, seconds=2.0)
    program.write_text(f"import time\nprint(*{HLB!r}, sep='\\n', flush=True)\ntime.sleep(60)\n")
    assert HlbCifar10().run(job).summary.runs == 1  # the second of its table may have been the one that was cut
    program.write_text(f"import time\nprint(*{HLB[:3]!r}, sep='\\n', flush=True)\ntime.sleep(60)\n")
    with pytest.raises(RunError, match=f"it did not finish a run within {2 * PATIENT} s"):
        HlbCifar10().run(job)
    with pytest.raises(RunError, match=rf"did not finish its run within {0.1 * PATIENT:g} s"):
        PlainPytorch().run(replace(CPU, seconds=0.1))
    assert len(Airbench().parse(stamped(AIRBENCH[:-4], cut=True), 1_700_000_000.0, 49_152)) == 1


def test_of_a_program_that_fails_the_finished_runs_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of its table but the last, which it may have been in the middle of."""
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "main.py").write_text(f"print(*{HLB!r}, sep='\\n', flush=True)\nraise SystemExit('no disk')\n")
    with pytest.raises(BrokenError, match=r"^no disk$") as caught:
        HlbCifar10().run(replace(CUDA, data=tmp_path, path=tmp_path))
    assert caught.value.record.summary.runs == 1
    kept: list[str] = []
    two = merged([record_of(10.0, 0.95), record_of(20.0, 0.95)])
    rival = Scripted("broken", [BrokenError("no disk", two)], repeats=False)
    stand_in(monkeypatch, Scripted("fastcifar", [two]), rival)
    about: dict[str, Any] = {"data": None, "runs": 1, "paths": {}, "progress": lambda line: None}
    outcomes = run_peers("toy", TOY, Execution("cpu"), keep=lambda name, record: kept.append(name), **about)
    assert kept == ["fastcifar", "broken"]
    assert (outcomes[1].record, outcomes[1].failure) == (two, "run 3: no disk")
    (tmp_path / "main.py").write_text("raise SystemExit('no GPU')\n")
    with pytest.raises(RunError, match=r"^no GPU$") as failed:
        HlbCifar10().run(replace(CUDA, data=tmp_path, path=tmp_path))
    assert not isinstance(failed.value, BrokenError)


def test_paths_of_rivals(tmp_path: Path) -> None:
    assert parse_paths([f"airbench={tmp_path}"]) == {"airbench": tmp_path}
    for value, complaint in {
        "other=/": "no such rival; there are airbench, cifar10-speedrun, hlb-CIFAR10",
        "plain_pytorch=/": "no such rival",
        "airbench": "write airbench=PATH",
        f"airbench={tmp_path / 'none'}": "there is no ",
    }.items():
        with pytest.raises(InputError, match=complaint):
            parse_paths([value])


class Scripted(Peer):
    """A program whose runs are known beforehand."""

    def __init__(self, name: str, runs: Sequence[Record | BaseException], repeats: bool = True) -> None:
        self.name, self._runs, self._repeats = name, list(runs), repeats
        self.jobs: list[Job] = []

    def missing(self, job: Job) -> str | None:
        return None if self._runs else "it is not here"

    def repeats(self, job: Job) -> bool:
        return self._repeats

    def run(self, job: Job) -> Record:
        self.jobs.append(job)
        one = self._runs.pop(0)
        if isinstance(one, BaseException):
            raise one
        return one


def stand_in(monkeypatch: pytest.MonkeyPatch, ours: Peer, *rivals: Peer) -> None:
    """For fastcifar and all its rivals."""
    monkeypatch.setattr(compare, "_Ours", lambda execution: ours)
    monkeypatch.setattr(compare, "peers", lambda: rivals)


def test_programs_run_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run 1 of each, then run 2; one that fails drops out, one that makes all its runs at once is started once. What
    each has finished is kept after every run."""
    one = record_of(10.0, 0.95)
    ours = Scripted("fastcifar", [one, record_of(20.0, 0.95)])
    rivals = [
        Scripted("steady", [record_of(30.0, 0.95), record_of(60.0, 0.95)]),
        Scripted("failing", [RunError("no disk"), one]),
        Scripted("failing later", [one, RunError("out of memory [/b]")]),
        Scripted("at once", [one], repeats=False),
        Scripted("absent", []),
    ]
    stand_in(monkeypatch, ours, *rivals)
    said: list[str] = []
    kept: list[tuple[str, int]] = []
    outcomes = run_peers(
        "toy",
        replace(TOY, seed=7),
        Execution(device="cpu"),
        data=None,
        runs=2,
        paths={},
        progress=said.append,
        keep=lambda name, record: kept.append((name, record.summary.runs)),
    )
    assert said == [
        "absent is left out: it is not here",
        *[f"run 1/2: {name}" for name in ("fastcifar", "steady", "failing")],
        "failing failed: no disk",
        *[f"run 1/2: {name}" for name in ("failing later", "at once")],
        *[f"run 2/2: {name}" for name in ("fastcifar", "steady", "failing later")],
        "failing later failed: out of memory [/b]",
    ]
    assert [job.recipe.seed for job in ours.jobs] == [7, 8]
    assert kept == [
        *[(name, 1) for name in ("fastcifar", "steady", "failing later", "at once")],
        *[(name, 2) for name in ("fastcifar", "steady")],
    ]
    assert [(one.program, one.record and one.record.summary.runs, one.reason, one.failure) for one in outcomes] == [
        ("fastcifar", 2, None, None),
        ("steady", 2, None, None),
        ("failing", None, "no disk", None),
        ("failing later", 1, None, "run 2: out of memory [/b]"),
        ("at once", 1, None, None),
        ("absent", None, "it is not here", None),
    ]
    printed = io.StringIO()
    print_peers(Console(file=printed, width=100), outcomes, 0.9)
    assert "failing did not run: no disk\n" in printed.getvalue()
    assert "s to 90.0%" in printed.getvalue()


def test_fastcifar_must_run(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, Scripted("fastcifar", [RunError("the loss is nan")]))
    with pytest.raises(RunError, match="the loss is nan"):
        run_peers("toy", TOY, Execution(device="cpu"), data=None, runs=1, paths={}, progress=lambda line: None)


def test_ratios() -> None:
    outcomes = [
        Outcome("fastcifar", merged([record_of(10.0, 0.95), record_of(20.0, 0.95)])),
        Outcome("slower", record_of(30.0, 0.95)),
        Outcome("worse", record_of(5.0, 0.5)),
        Outcome("absent", reason="it is not here"),
    ]
    found = ratios(outcomes)
    assert list(found) == ["fastcifar", "slower", "worse"]
    assert found["fastcifar"].seconds == found["fastcifar"].images_per_second == 1
    assert found["slower"].seconds == 2
    assert found["slower"].images_per_second == pytest.approx(1000 / 30 / 75)
    assert found["worse"].seconds is None
    assert [value.seconds for value in ratios([Outcome("fastcifar", record_of(9.0, 0.5)), outcomes[1]]).values()] == [
        None,
        None,
    ]


def test_every_rival_has_a_name_of_its_own() -> None:
    assert [rival.name for rival in peers()] == ["plain_pytorch", "airbench", "cifar10-speedrun", "hlb-CIFAR10"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As a person runs it: two programs, the ratios, why the others did not run, and a record each."""
    monkeypatch.setenv("COLUMNS", "120")
    toy = ["--dataset", "synthetic", "--limit-train", "200", "--limit-test", "100", "--width", "4", "--epochs", "1"]
    toy += ["--batch-size", "64", "--device", "cpu", "--loader", "dali", "--target", "0.01"]
    toy += ["--image-sizes", "--evaluation.tta", "none"]  # which is all that plain PyTorch does
    out = tmp_path / "records"
    assert main(["bench", "peers", "--recipe", "laptop", *toy, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "run 1/1: fastcifar" in printed
    assert "airbench did not run: " in printed
    for name in ("fastcifar", "plain_pytorch"):
        record = read_record(out / f"{name}.record.json")
        assert record.recipe is not None
        assert (record.target, record.recipe.model.width) == (0.01, 4)
    assert main(["bench", "peers", "--recipe", "laptop", *toy, "--out", str(out)]) == 2
    assert "is no folder, or holds records; name another" in capsys.readouterr().err
    assert main(["bench", "peers", "--peer", "nobody=."]) == 2
    assert (
        "--peer nobody=.: no such rival; there are airbench, cifar10-speedrun, hlb-CIFAR10" in capsys.readouterr().err
    )


@pytest.mark.parametrize("synchronised", [False, True])
def test_ours_is_executed_as_asked(synchronised: bool) -> None:
    asked = Execution("cpu", "fused", "float32", "off", sync_batchnorm=synchronised, checkpoint_seconds=7)
    command = parse(["bench", "accuracy", "--recipe", "laptop", *_Ours(asked)._flags])
    assert isinstance(command, Accuracy)
    assert command.execution == asked


COMMAND = ["bench", "peers", "--recipe", "laptop", "--dataset", "synthetic", "--device", "cpu", "--runs", "2"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(KeyboardInterrupt(), 130, "interrupted"), (RunError("the loss is nan"), 1, "the loss is nan")],
)
def test_ended_early_it_keeps_the_finished_runs(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    said: str,
) -> None:
    """And says so, whatever ended it; where none was finished there is nothing to say."""
    one, out = record_of(10.0, 0.95), tmp_path / "records"
    stand_in(monkeypatch, Scripted("fastcifar", [error]))
    assert main([*COMMAND, "--out", str(out)]) == code
    assert capsys.readouterr().err.splitlines()[-1] == f"fastcifar: {said}"
    assert not out.exists()
    stand_in(monkeypatch, Scripted("fastcifar", [one, error]), Scripted("steady", [one]))
    assert main([*COMMAND, "--out", str(out)]) == code
    kept = f"finished runs are kept in {out}: 1 of fastcifar, 1 of steady"
    assert capsys.readouterr().err.splitlines()[-1] == f"fastcifar: {said}; {kept}"
    assert sorted(file.name for file in out.iterdir()) == ["fastcifar.record.json", "steady.record.json"]
    assert [read_record(file).summary.runs for file in out.iterdir()] == [1, 1]


def test_a_rival_that_fails_later_keeps_its_finished_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = record_of(10.0, 0.95), record_of(20.0, 0.95, day=2)
    stand_in(monkeypatch, Scripted("fastcifar", [one, other]), Scripted("failing", [one, RunError("no disk")]))
    assert main([*COMMAND, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "failing failed in run 2: no disk\n" in printed
    assert "did not run" not in printed
    runs = {name: read_record(tmp_path / f"{name}.record.json").summary.runs for name in ("fastcifar", "failing")}
    assert runs == {"fastcifar": 2, "failing": 1}


@pytest.mark.parametrize("peer", [_Ours(Execution("cpu", "fused", "float32", "off")), PlainPytorch(), HlbCifar10()])
def test_what_has_finished_no_run_has_more_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, peer: Peer) -> None:
    """One rule for all: most compile first, and a run that is cut leaves nothing."""
    given: dict[str, Any] = {}

    def cut(*_: object, **about: object) -> Output:
        given.update(about)
        return Output([], "", cut=True)

    for module in (program, cuda_script):
        monkeypatch.setattr(module, "run_program", cut)
    job = replace(CUDA, device="cpu", data=tmp_path, path=tmp_path, seconds=10)
    with pytest.raises(RunError, match=f"within {10 * PATIENT} s"):
        peer.run(job)
    assert given["seconds"] == 10
    assert not given["enough"]([])
    assert not given["enough"]([Line(0.0, "begun")])


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "pets"])
def test_every_program_reads_the_images_that_were_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dataset: str
) -> None:
    """By an absolute path, for each runs in a folder of its own."""
    for folder in ("cifar-10-batches-py", "cifar-100-python"):
        (tmp_path / "images" / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    verified: list[str] = []
    monkeypatch.setattr(compare, "verify", lambda folder, kind: verified.append(kind.base_folder))
    one = record_of(10.0, 0.95)
    programs = Scripted("fastcifar", [one]), Scripted("steady", [one])
    stand_in(monkeypatch, *programs)
    about = {"data": Path("images"), "runs": 1, "paths": {}, "progress": lambda line: None}
    run_peers("toy", replace(TOY, dataset=dataset), Execution(device="cpu"), **about)  # type: ignore[arg-type]
    assert [job.data for program in programs for job in program.jobs] == 2 * [tmp_path / "images"]
    assert verified == {"cifar10": ["cifar-10-batches-py"], "cifar100": ["cifar-100-python"]}.get(dataset, [])


def test_rivals_of_cifar10_train_on_no_other_images() -> None:
    for dataset in ("cifar100", "pets"):
        job = replace(CUDA, recipe=Recipe(dataset=dataset), path=Path("/checkout"))
        assert "all of CIFAR-10" in str(HlbCifar10().missing(job))
