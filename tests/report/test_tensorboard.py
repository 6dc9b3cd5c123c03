"""TensorBoard's own reader finds in a run's event files what the run kept elsewhere."""

import io
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import CPU, RECIPE, dataset
from PIL import Image

import fastcifar
from fastcifar.commands import main
from fastcifar.data.dataset import Dataset
from fastcifar.report.drawing import WIDTH
from fastcifar.report.tensorboard import TensorBoard
from fastcifar.report.text import dotted
from fastcifar.runs import predictions
from fastcifar.runs.steps import read_steps
from fastcifar.training.log import EpochLog, Observer

pytest.importorskip("tensorboard", reason="tensorboard is not here")

TINY = [
    *("train", "--recipe", "seed", "--dataset", RECIPE.dataset, "--epochs", "2", "--width", "2", "--batch-size", "50"),
    *("--limit-train", "150", "--limit-test", "100", "--device", "cpu", "--precision", "float32"),
    *("--loader", "fused", "--compile", "off"),
]
BY_EPOCH = {
    "accuracy/test": "test_accuracy",
    "accuracy/train": "train_accuracy",
    "images_per_second": "images_per_second",
    "learning_rate": "learning_rate",
    "loss/test": "test_loss",
    "loss/train": "train_loss",
    "seconds/test": "eval_seconds",
    "seconds/train": "train_seconds",
}


def read(folder: Path) -> Any:
    """The event files of `folder`, by the reader of TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def values(found: Any, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in found.Scalars(tag)]


def hyperparameters(found: Any) -> dict[str, Any]:
    from tensorboard.plugins.hparams import metadata

    content = found.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    fields = metadata.parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(field, field.WhichOneof("kind")) for name, field in fields.items()}


@pytest.fixture(scope="module", autouse=True)
def images() -> Iterator[Dataset]:
    """Those that `TINY` names, loaded once."""
    limited = dataset().limited(150, 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastcifar.data.load.load_dataset", lambda recipe, data: limited)
        yield limited


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, images: Dataset) -> Path:
    """A run of the command line with event files and the report, which has seen the test images once for both."""
    path = tmp_path_factory.mktemp("runs") / "run"
    passes = []
    with pytest.MonkeyPatch.context() as patch:
        once = predictions.probabilities
        patch.setattr(predictions, "probabilities", lambda *given, **named: passes.append(1) or once(*given, **named))
        assert main([*TINY, "--target", "0.001", "--tensorboard", "--out", str(path)]) == 0
    assert len(passes) == 1
    return path


def test_scalars_are_those_of_the_log(run: Path) -> None:
    found, log = read(run / "tensorboard"), [json.loads(line) for line in (run / "events.jsonl").open()]
    assert [epoch["epoch"] for epoch in log] == [1, 2]
    scalars = found.Tags()["scalars"]
    assert {tag for tag in scalars if not tag.startswith("hparam/")} == set(BY_EPOCH)
    for tag, field in BY_EPOCH.items():
        assert values(found, tag) == [(epoch["epoch"], pytest.approx(epoch[field], rel=1e-6)) for epoch in log]


def test_steps_are_those_of_the_run(run: Path) -> None:
    found, kept = read(run / "tensorboard" / "steps"), read_steps(run, 2)
    assert kept is not None
    for tag, wanted in (("learning_rate", kept.learning_rates), ("loss/train", kept.losses)):
        assert values(found, tag) == list(enumerate((pytest.approx(one, rel=1e-6) for one in wanted), 1))
    assert len(kept.losses) == 6


def test_pictures_are_those_of_the_report(run: Path) -> None:
    found = read(run / "tensorboard")
    assert found.Tags()["images"] == ["test/confusion", "test/mistakes"]
    for name in ("confusion", "mistakes"):
        (event,) = found.Images(f"test/{name}")
        assert event.step == 2
        shown = Image.open(io.BytesIO(event.encoded_image_string))
        assert shown.size == (event.width, event.height)
        assert shown.width == WIDTH * 300
        kept = Image.open(run / "report" / f"{name}.png").convert("RGB")
        assert np.array_equal(np.asarray(shown), np.asarray(kept))


def test_hyperparameters_with_the_result_in_one_run(run: Path) -> None:
    found, said = read(run / "tensorboard"), json.loads((run / "run.json").read_text())
    kept = hyperparameters(found)
    assert kept["model.width"] == 2
    assert kept["schedule.max_lr"] == 0.005
    assert kept["augmentation.flip"] == "random"
    assert kept["model.conv_bias"] == "true"
    executed = said["execution"] | {"sync_batchnorm": "false"}
    assert {name: kept[name] for name in executed} == executed
    number = sum(value is not None for _, value in dotted(said["recipe"]))
    assert len(kept) == number + len(said["execution"])
    metrics = {"final_accuracy", "best_accuracy", "time_to_target", "train_seconds"}
    assert {tag for tag in found.Tags()["scalars"] if tag.startswith("hparam/")} == {f"hparam/{one}" for one in metrics}
    for name in metrics:
        assert values(found, f"hparam/{name}") == [(2, pytest.approx(said["result"][name], rel=1e-6))]
    assert found.SummaryMetadata("_hparams_/session_end_info")
    board = run / "tensorboard"
    assert {path.parent for path in run.rglob("events.out.*")} == {board, board / "steps"}
    assert set(read(board / "steps").Tags()["scalars"]) == {"learning_rate", "loss/train"}


def test_without_the_flag_there_is_no_trace(tmp_path: Path) -> None:
    assert main([*TINY, "--no-report", "--out", str(tmp_path / "run")]) == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "events.jsonl",
        "steps.csv",
        "model.safetensors",
        "run.json",
        "seed.toml",
    }


def test_a_missing_package_is_one_line_before_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    assert main([*TINY, "--tensorboard", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "pip install '.[tensorboard]'" in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_leaves_what_it_wrote_and_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is not finite in the second epoch, from whose first step on the learning rate is absurd."""
    from torch.utils.tensorboard import SummaryWriter

    closed, close = [], SummaryWriter.close
    monkeypatch.setattr(SummaryWriter, "close", lambda writer: closed.append(1) or close(writer))
    monkeypatch.setattr(
        "fastcifar.training.trainer.one_cycle",
        lambda schedule, steps: lambda step: schedule.max_lr * (1 if step < 3 else 1e33),
    )
    assert main([*TINY, "--tensorboard", "--out", str(tmp_path / "run")]) == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    found = read(tmp_path / "run" / "tensorboard")
    assert hyperparameters(found)["schedule.max_lr"] == 0.005
    assert [step for step, _ in values(found, "loss/train")] == [1]
    assert not [tag for tag in found.Tags()["scalars"] if tag.startswith("hparam/")]
    assert closed


def test_from_python_and_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An observer of any run, into the run's own folder too; each epoch can be read when it is over, all at its end."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    write = RecordWriter.write  # in a thread of its own: late, unless it is waited for
    monkeypatch.setattr(RecordWriter, "write", lambda writer, record: time.sleep(0.02) or write(writer, record))

    class Reader(Observer):
        seen: list[list[int]] = []  # noqa: RUF012

        def epoch(self, log: EpochLog) -> None:
            self.seen.append([step for step, _ in values(read(tmp_path / "run" / "tensorboard"), "accuracy/test")])

    trained = fastcifar.train(
        replace(RECIPE, limit_train=150, limit_test=100),
        execution=CPU,
        out=tmp_path / "run",
        observers=[TensorBoard(tmp_path / "run" / "tensorboard"), Reader()],
    )
    assert Reader.seen == [[1], [1, 2]]
    found = read(tmp_path / "run" / "tensorboard")
    assert hyperparameters(found)["loader"] == CPU.loader
    assert values(found, "hparam/final_accuracy") == [(2, pytest.approx(trained.final_accuracy, rel=1e-6))]


def test_a_run_that_goes_on_has_each_epoch_once(tmp_path: Path, restored_rng: object) -> None:
    """Also those that a killed session wrote and that were trained again, and those of a session without."""

    class Kill(Observer):
        def epoch(self, log: EpochLog) -> None:
            if log.epoch == 2:
                raise ZeroDivisionError

    execution, recipe = replace(CPU, checkpoint_seconds=1e-9), replace(RECIPE, epochs=3)
    with pytest.raises(ZeroDivisionError), TensorBoard(tmp_path / "board") as board:
        fastcifar.train(recipe, execution=execution, out=tmp_path / "run", observers=[board, Kill()])
    time.sleep(1.1)  # a file is named by the second
    with TensorBoard(tmp_path / "board") as board:
        trained = fastcifar.resume(tmp_path / "run", observers=[board])
    wanted = [(one.epoch, pytest.approx(one.test_loss)) for one in trained.log]
    assert values(read(tmp_path / "board"), "loss/test") == wanted
    steps = read_steps(tmp_path / "run", 3)
    assert steps is not None
    losses = list(enumerate(map(pytest.approx, steps.losses), 1))
    assert values(read(tmp_path / "board" / "steps"), "loss/train") == losses
