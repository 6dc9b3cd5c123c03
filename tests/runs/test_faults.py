"""What goes wrong while a run is trained: one line, nothing lost, and the run goes on from where it was."""

import errno
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from finished import CPU, RECIPE, finished_run
from toy import files_up_to

import fastcifar
from fastcifar.commands import main
from fastcifar.data.plan import EpochPlan
from fastcifar.errors import InputError
from fastcifar.files import require_folder_of, write_whole
from fastcifar.recipe.files import to_toml
from fastcifar.runs import api
from fastcifar.training.epoch_steps import EpochSteps
from fastcifar.training.log import Observer

FLAGS = ["--device", "cpu", "--loader", "dali", "--precision", "float32", "--compile", "off", "--no-report"]


class At(Observer):
    """Something happens after the second step of the second epoch."""

    def __init__(self, happen: Callable[[], Any]) -> None:
        self._happen = happen

    def step(self, epoch: int, step: int) -> None:
        if (epoch, step) == (2, 2):
            self._happen()


def recipe_file(folder: Path) -> str:
    (folder / "mine.toml").write_text(to_toml(RECIPE))
    return str(folder / "mine.toml")


def assert_as_undisturbed(trained: api.Trained) -> None:
    whole = finished_run()[1]
    assert [one.test_loss for one in trained.log] == [one.test_loss for one in whole.log]
    for (name, one), other in zip(trained.model.state_dict().items(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_a_disk_that_is_full_for_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], restored_rng: object
) -> None:
    """A limit on a file's size, smaller than a checkpoint and larger than the weights. A line says so, every time, and
    the run comes to its end."""
    monkeypatch.chdir(tmp_path)
    flags = ["train", "--recipe", recipe_file(tmp_path), *FLAGS, "--checkpoint-seconds", "1e-9", "--out", "run"]
    with files_up_to(200_000):
        assert main(flags) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "run/checkpoints: checkpoint 1 could not be written: File too large" in out
    assert not list(tmp_path.rglob(".*"))
    assert fastcifar.load(tmp_path / "run") is not None
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_folder_that_becomes_read_only(tmp_path: Path, restored_rng: object) -> None:
    """One line that names the file; when it may be written again, the run goes on."""
    path, root = tmp_path / "run", os.getuid() == 0

    def read_only() -> None:
        if root:  # who may write anywhere: be somebody else
            os.seteuid(65534)
        else:
            path.chmod(0o555)

    try:
        with pytest.raises(PermissionError) as caught:
            fastcifar.train(RECIPE, execution=CPU, out=path, observers=[At(read_only)])
    finally:
        if root:
            os.seteuid(0)
        path.chmod(0o755)
    assert caught.value.filename == str(path / "steps.csv")
    kept = f"; finished epochs: 1, kept in {path}; --resume {path} continues it"
    assert caught.value.strerror == f"Permission denied{kept}"
    assert_as_undisturbed(fastcifar.resume(path))


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_disk_that_is_full_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Whichever of the first files cannot be written: nothing was trained, and nothing stays."""
    written: list[str] = []

    def full(path: Path, content: bytes) -> None:
        written.append(path.name)
        if len(written) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_whole(path, content)

    monkeypatch.setattr("fastcifar.runs.directory.write_whole", full)
    with pytest.raises(OSError, match="No space left on device"):
        fastcifar.train(RECIPE, execution=CPU, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())
    assert len(written) > room


def test_a_folder_that_is_only_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match=f"^--out {tmp_path}: no file can be written in it$"):
        fastcifar.train(RECIPE, execution=CPU, out=tmp_path)
    with pytest.raises(InputError, match=f"one.json: no file can be written in {tmp_path}$"):
        require_folder_of(tmp_path / "one.json")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_rng: object) -> None:
    path = tmp_path / "run"
    with pytest.raises(FileNotFoundError, match=r"run/steps\.csv") as caught:
        fastcifar.train(RECIPE, execution=CPU, out=path, observers=[At(lambda: path.rename(tmp_path / "moved"))])
    assert caught.value.filename == str(path / "steps.csv")
    assert_as_undisturbed(fastcifar.resume(tmp_path / "moved"))


def test_a_clock_that_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_rng: object) -> None:
    """By an hour, while it is trained: no second of it is of that clock."""
    now = time.time
    set_back = At(lambda: monkeypatch.setattr(time, "time", lambda: now() - 3600))
    since = now() - 5
    fastcifar.train(RECIPE, execution=CPU, out=tmp_path / "run", observers=[set_back], since=since)
    result = fastcifar.runs.saved.read_run(tmp_path / "run").run["result"]
    assert 5 < result["wall_seconds"] < 60
    assert 0 < result["train_seconds"] + result["eval_seconds"] < result["wall_seconds"]


def test_a_dali_pipeline_that_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], restored_rng: object
) -> None:
    """In the second epoch, at a crop outside the image: one line, and afterwards the run goes on."""
    steps = EpochSteps.of

    def wrong(self: EpochSteps, plan: EpochPlan, *about: Any, first: int = 0) -> object:
        if self._state.epoch == 1:
            plan.crop[200:] = 99
        return steps(self, plan, *about, first=first)

    monkeypatch.setattr(EpochSteps, "of", wrong)
    assert main(["train", "--recipe", recipe_file(tmp_path), *FLAGS, "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("fastcifar: DALI failed: ")
    assert "out of range" in error
    monkeypatch.setattr(EpochSteps, "of", steps)
    assert_as_undisturbed(fastcifar.resume(tmp_path / "run"))


def test_checkpoints_of_another_run_in_its_folder(tmp_path: Path, restored_rng: object) -> None:
    """Put there by hand: the run is refused, and theirs stay."""
    with pytest.raises(ZeroDivisionError):
        fastcifar.train(RECIPE, execution=CPU, out=tmp_path / "one", observers=[At(lambda: 1 / 0)])
    with pytest.raises(ZeroDivisionError):
        fastcifar.train(
            replace(RECIPE, label_smoothing=0.1), execution=CPU, out=tmp_path / "two", observers=[At(lambda: 1 / 0)]
        )
    for run in ("one", "two"):
        (tmp_path / run / "checkpoints").rename(tmp_path / f"of-{run}")
    (tmp_path / "of-two").rename(tmp_path / "one" / "checkpoints")
    with pytest.raises(
        fastcifar.errors.InputError, match=r"a run of another recipe: label_smoothing is 0\.0, not 0\.1"
    ):
        fastcifar.resume(tmp_path / "one")
