"""`fastcifar bench accuracy` as a person runs it: seeds in turn, a record after every run, resumed where it stopped."""

import errno
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_records
import pytest
import torch

from fastcifar.commands import main
from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.own import OwnCode, sealed
from fastcifar.recipe import OwnModel, Recipe, Resnet, Speednet
from fastcifar.records import measure
from fastcifar.records.check import read_record
from fastcifar.records.measure import Watcher, bench_accuracy
from fastcifar.records.measured import Ahead, Measured
from fastcifar.records.record import Record, Work, to_json
from fastcifar.report.progress import AccuracyConsole
from fastcifar.training.trainer import Trainer

TOY = ["--dataset", "synthetic", "--limit-train", "200", "--limit-test", "100", "--width", "4", "--batch-size", "64"]
TOY += ["--epochs", "2", "--device", "cpu", "--loader", "dali", "--precision", "float32"]


def bench(*arguments: str) -> int:
    return main(["bench", "accuracy", "--recipe", "laptop", *TOY, *arguments])


@pytest.mark.parametrize("mode", ["off", "default"])
def test_a_restarted_trainer_is_a_new_one(small: Dataset, quick: Recipe, mode: str, restored_rng: object) -> None:
    """Bit for bit: weights, losses, accuracies; with what was compiled for the first seed."""
    execution = Execution("cpu", "dali", "float32", mode)  # type: ignore[arg-type]
    again = Trainer(quick, small, execution)
    again.run()
    again.restart(replace(quick, seed=7))
    new = Trainer(replace(quick, seed=7), small, execution)
    assert again.recipe == new.recipe
    results = again.run(), new.run()
    assert results[0].final_accuracy == results[1].final_accuracy
    for name, value in new.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_what_an_initialisation_learns_from_images_is_of_the_first_epoch(
    tmp_path: Path, small: Dataset, quick: Recipe, monkeypatch: pytest.MonkeyPatch, restored_rng: object
) -> None:
    """Its seconds are training, in the log and in the run's wall time, and not set-up; such a record holds."""
    monkeypatch.setattr("fastcifar.models.prepare", lambda *_: time.sleep(0.5))
    recipe = replace(quick, model=Speednet(widths=(4, 4)), target=0.01, limit_train=300, limit_test=200)
    execution = Execution("cpu", "fused", "float32", "off")
    kept: list[Record] = []
    about = {"protocol": "first-crossing", "earlier": None, "keep": kept.append, "watcher": Watcher()}
    record = bench_accuracy("mine", recipe, small, execution, runs=2, **about)  # type: ignore[arg-type]
    for run in record.runs:
        assert run.epochs[0].train_seconds > 0.5
        assert run.wall_seconds > 0.5
    (tmp_path / "mine.record.json").write_bytes(to_json(record))
    assert read_record(tmp_path / "mine.record.json") == record


def test_runs_are_kept_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str], restored_rng: object) -> None:
    file = tmp_path / "toy.record.json"
    flags = ["--target", "0.05", "--json", str(file), "--seed", "3"]
    assert bench(*flags, "--runs", "2") == 0
    first = read_record(file)
    assert [run.seed for run in first.runs] == [3, 4]
    assert [len(run.epochs) for run in first.runs] == [2, 2]
    assert first.recipe is not None
    assert isinstance(first.recipe.model, Resnet)
    assert first.recipe.model.width == 4
    assert first.images.train == 200
    assert "seed 4" in capsys.readouterr().out

    assert bench(*flags, "--runs", "3", "--resume") == 0
    record = read_record(file)
    assert record.runs[:2] == first.runs
    assert [run.seed for run in record.runs] == [3, 4, 5]
    assert bench(*flags, "--runs", "3", "--resume") == 0  # nothing left to do
    assert read_record(file) == record
    assert "mean of 3" in capsys.readouterr().out

    assert bench(*flags, "--runs", "4") == 2
    assert "exists; continue it with --resume" in capsys.readouterr().err
    for other, complaint in (
        (["--width", "8"], "--resume: the record is of another recipe"),
        (["--loader", "fused"], "--resume: the record was executed otherwise"),
        (["--protocol", "fixed-budget"], "--resume: the record's protocol is first-crossing, not fixed-budget"),
    ):
        assert bench(*flags, "--runs", "4", "--resume", *other) == 2
        assert complaint in capsys.readouterr().err
    assert read_record(file) == record


def test_no_run_begins_when_its_minutes_are_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], restored_rng: object
) -> None:
    file = tmp_path / "toy.record.json"
    assert bench("--json", str(file), "--runs", "20", "--minutes", "0.001") == 0
    assert "1 of 20 runs: 0.001 minutes had passed; --resume continues" in capsys.readouterr().out
    assert read_record(file).summary.runs == 1
    assert bench("--json", str(file), "--runs", "2", "--minutes", "9", "--resume") == 0
    assert read_record(file).summary.runs == 2


def test_another_machine_may_not_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], restored_rng: object
) -> None:
    file = tmp_path / "toy.record.json"
    assert bench("--json", str(file), "--runs", "1") == 0
    values = json.loads(file.read_text())
    values["environment"]["cpu"] = "Another"
    file.write_text(json.dumps(values))
    assert bench("--json", str(file), "--runs", "2", "--resume") == 2
    assert "--resume: the record's cpu is Another, here it is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (RunError("it diverged"), 1, "it diverged"),
        (OSError(errno.ENOSPC, "No space left on device", "toy"), 1, "toy: No space left on device"),
        (MemoryError(), 1, "out of memory; a smaller batch or network needs less"),
    ],
)
def test_ended_early_it_keeps_the_finished_runs(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    restored_rng: object,
    error: BaseException,
    code: int,
    said: str,
) -> None:
    """And says so, whatever ended it, and how to go on."""
    run, calls = measure._run, []

    def interrupted(*arguments: Any) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise error
        return run(*arguments)

    monkeypatch.setattr(measure, "_run", interrupted)
    file = tmp_path / "toy.record.json"
    assert bench("--json", str(file), "--runs", "3") == code
    kept = f"1 finished runs are kept in {file}; --resume --json {file} continues it"
    assert capsys.readouterr().err.splitlines()[-1] == f"fastcifar: {said}; {kept}"
    assert len(read_record(file).runs) == 1
    assert bench("--json", str(file), "--runs", "3", "--resume") == 0
    assert len(read_record(file).runs) == 3


def test_a_run_is_kept_before_anybody_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_rng: object
) -> None:
    """Who sees its line and presses Ctrl-C has it."""

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(AccuracyConsole, "end", interrupted)
    file = tmp_path / "toy.record.json"
    assert bench("--json", str(file), "--runs", "2") == 130
    assert len(read_record(file).runs) == 1


def test_fixed_budget_says_what_would_settle_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], restored_rng: object
) -> None:
    file = tmp_path / "toy.record.json"
    assert bench("--protocol", "fixed-budget", "--runs", "2", "--target", "0.99", "--json", str(file)) == 0
    record = read_record(file)
    assert not record.summary.reached
    assert record.summary.p is not None
    out = capsys.readouterr().out
    assert "not settled; no number of runs like these would settle it" in out


def test_no_run_is_added_after_a_look_at_p(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], restored_rng: object
) -> None:
    """To a record that is complete; one whose time was up, or that was interrupted, goes on to what it was to have."""
    file = tmp_path / "toy.record.json"
    flags = ["--protocol", "fixed-budget", "--target", "0.05", "--json", str(file)]
    assert bench(*flags, "--runs", "4", "--minutes", "1e-9") == 0
    assert len(read_record(file).runs) == 1
    assert bench(*flags, "--runs", "5", "--resume") == 2
    assert "--runs 5: the record was to have 4 runs, and its p is that of as many" in capsys.readouterr().err
    assert bench(*flags, "--runs", "2", "--resume") == 0  # fewer are as good as a look
    assert bench(*flags, "--runs", "3", "--resume") == 2
    assert "was to have 2 runs" in capsys.readouterr().err
    assert len(read_record(file).runs) == 2
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--runs", "0"], "--runs 0: at least one is needed"),
        (["--resume"], "--resume: name the record to continue with --json FILE"),
        (["--resume", "--json", "none.json"], "none.json: cannot be read: No such file or directory"),
        (["--json", "nowhere/x.json"], "nowhere/x.json: there is no folder nowhere"),
        (["--protocol", "fixed-budget", "--stop-at-target"], "--stop-at-target: fixed-budget times the whole recipe"),
        (["--protocol", "fastest"], "invalid choice 'fastest' for argument '--protocol'"),
        (["--target", "1.5"], "--target: input should be less than or equal to 1"),
    ],
)
def test_bad_input(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bench(*arguments) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, width=4):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, width, 3), nn.Linear(width, classes)

    def forward(self, images):
        return self.head(self.conv(images).amax(dim=(2, 3)))
"""


def test_a_record_of_ones_own_network(small: Dataset, quick: Recipe, tmp_path: Path, restored_rng: object) -> None:
    """It has the network's code, the images' sha256 and the work; and it goes on with the same code only."""
    file, execution = tmp_path / "net.py", Execution("cpu", "dali", "float32", "off")
    kept: list[Record] = []

    def measured(recipe: Recipe, own: OwnCode, **options: Any) -> Record:
        options = {"protocol": "first-crossing", "runs": 1, "earlier": None, **options}
        return bench_accuracy("own", recipe, small, execution, own=own, keep=kept.append, watcher=Watcher(), **options)

    file.write_text(OWN)
    named = replace(quick, target=0.01, image_sizes=(16, 32), model=OwnModel(f"{file}:Net", {"width": 3}))
    recipe, own = sealed(replace(named, dataset=small.name, limit_train=300, limit_test=200))
    record = measured(recipe, own)
    assert kept == [record]
    path = tmp_path / "one.record.json"
    path.write_bytes(to_json(record))
    assert read_record(path) == record
    (source,) = record.sources
    assert (source.file, source.text) == ("net.py", OWN)
    assert record.recipe is not None
    assert record.recipe.model == OwnModel("net.py:Net", {"width": 3}, source.sha256)
    assert record.recipe.dataset_sha256 == small.sha256
    assert record.work is not None
    head = 3 * 2 * 3 * 10  # forward, and two gradients
    by_hand = [2 * 2 * 9 * 3 * 3 * (side - 2) ** 2 + head for side in (16, 32)]
    assert record.work.flops_per_image == by_hand
    assert record.summary.petaflops is not None
    assert record.summary.petaflops.mean == pytest.approx(300 * by_hand[0] / 1e15)

    again = measured(recipe, own, runs=2, earlier=record)
    assert (again.runs[0], [run.seed for run in again.runs]) == (record.runs[0], [0, 1])
    file.write_text(OWN + "# changed\n")
    with pytest.raises(InputError, match="--resume: the record is of another recipe"):
        measured(*sealed(named), runs=3, earlier=again)
    with pytest.raises(InputError, match="its source is not available"):
        measured(quick, OwnCode(unknown=("model Net: its source is not available",)))
    assert len(kept) == 2


def test_a_run_made_ahead_counts_if_it_is_of_this_recipe_and_machine(tmp_path: Path) -> None:
    made = made_records.record([[0.8, 0.91]], work=Work(flops_per_image=[1.0, 1.0], optimizer_flops_per_step=1.0))
    (run, *_), images, work, here = made.runs, made.images, made.work, made.environment
    assert work is not None
    Ahead(tmp_path, "hash", here).put(2, Measured(run=run, images=images, work=work, environment=here), its_turn=False)
    found = Ahead(tmp_path, "hash", here.model_copy(update={"dirty": True})).get(2)
    assert found is not None
    assert found.run == run
    assert 2 not in Ahead(tmp_path, "another", here)
    assert 2 not in Ahead(tmp_path, "hash", here.model_copy(update={"cpu": "Another"}))
