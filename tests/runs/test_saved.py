"""A run directory read back, whole or tampered with."""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from finished import RECIPE, dataset, finished_run

from fastcifar.data.synthetic import synthetic
from fastcifar.errors import InputError
from fastcifar.recipe import OwnModel
from fastcifar.runs.saved import CLASS_NAMES, _network, open_run, read_log, read_run
from fastcifar.training.evaluate import OnBytes


@pytest.fixture
def whole() -> Path:
    return finished_run()[0]


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be tampered with."""
    return shutil.copytree(whole, tmp_path / "run")


def rewrite(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads((run / "run.json").read_text())
    change(values)
    (run / "run.json").write_text(json.dumps(values))


def rewrite_weights(run: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = safetensors.torch.load((run / "model.safetensors").read_bytes())
    change(tensors)
    safetensors.torch.save_file(tensors, run / "model.safetensors")


def refusal(run: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_run(run)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(run))
    return str(caught.value).removeprefix(str(run))


def test_a_whole_run(whole: Path) -> None:
    saved = open_run(str(whole))
    assert saved.recipe == replace(RECIPE, dataset_sha256=dataset().sha256)
    assert (saved.name, saved.precision) == ("recipe", "float32")
    assert saved.final_accuracy == saved.run["result"]["final_accuracy"]


def test_a_run_of_before_is_still_read(run: Path) -> None:
    """Format 1 knew of one network and one optimizer, and named neither."""

    def before(values: dict[str, Any]) -> None:
        values["format"] = 1
        recipe = values["recipe"]
        for field in ("batch_sizes", "image_sizes", "dataset_sha256", "average", "evaluation"):
            del recipe[field]
        for table, field in (("model", "name"), ("optimizer", "name"), ("augmentation", "brightness")):
            del recipe[table][field]
        for field in ("contrast", "own", "own_sha256"):
            del recipe["augmentation"][field]
        del values["dataset"]["sha256"]

    rewrite(run, before)
    rewrite_weights(run, lambda tensors: None)  # whose note of the recipe is another
    assert open_run(run).recipe == RECIPE


@pytest.mark.parametrize("name", ["synthetic", "cifar10"])
def test_class_names_are_the_data_sets_own(name: str, request: pytest.FixtureRequest) -> None:
    dataset = request.getfixturevalue("cifar10") if name == "cifar10" else synthetic(1, 1)
    assert CLASS_NAMES[name] == dataset.classes


def test_a_run_of_the_first_version_is_read_as_one_of_today(whole: Path, run: Path) -> None:
    """It did not write down what its data set's classes, mean and standard deviation are."""
    rewrite(run, lambda values: [values["dataset"].pop(name) for name in ("classes", "mean", "std")])
    old, new = open_run(run), open_run(whole)
    assert (old.classes, old.mean, old.std, old.run) == (new.classes, new.mean, new.std, new.run)


def test_the_network_on_bytes_normalises_as_in_training(run: Path) -> None:
    mean, std = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    rewrite(run, lambda values: values["dataset"].update(mean=mean, std=std))
    saved = open_run(run)
    images = torch.from_numpy(dataset().test_images[:20])
    for tta in ("none", "flip"):
        wanted = OnBytes(saved.model, mean, std, tta)(images)  # type: ignore[arg-type]
        assert torch.equal(saved.on_bytes(tta)(images), wanted)  # type: ignore[arg-type]
        assert not torch.equal(OnBytes(saved.model, tta=tta)(images), wanted)  # type: ignore[arg-type]


def test_a_network_of_ones_own_is_made_without_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch would begin CUDA on each of them to keep its random state, and warn of several."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    before, recipe = torch.get_rng_state(), replace(RECIPE, model=OwnModel("mine.py:Net"))
    with pytest.raises(InputError, match="no such file"):
        _network(recipe, 10, {}, tmp_path / "nothing", lambda classes: torch.nn.Linear(3, classes))
    assert torch.equal(torch.get_rng_state(), before)


def test_no_run_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == ": no such folder; name a run directory"
    assert refusal(tmp_path) == ": not a run directory: there is no run.json in it"
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file") == ": not a folder; name a run directory"


@pytest.mark.parametrize("status", ["starting", "running", "interrupted", "failed"])
def test_a_run_that_is_not_finished(run: Path, status: str) -> None:
    rewrite(run, lambda values: values.update(status=status))
    said = f": the run is not finished ('{status}'), so it has no final weights; fastcifar train --resume "
    assert refusal(run) == f"{said}{run} continues it"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b" " * 2**21])
def test_a_broken_run_json(run: Path, content: bytes) -> None:
    (run / "run.json").write_bytes(content)
    assert refusal(run).startswith("/run.json: ")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda run: run.update(format=3), "format: input should be 1 or 2, got 3"),
        (lambda run: run.update(recipe=[]), "recipe: input should be a valid dictionary, got []"),
        (lambda run: run.pop("result"), "result: field required"),
        (lambda run: run["recipe"].update(epochs=-1), "recipe.epochs: input should be greater than or equal to 1"),
        (lambda run: run["recipe"].update(evil=1), "recipe.evil: no such field in a recipe"),
        (
            lambda run: run["execution"].update(precision=[8]),
            "execution.precision: input should be 'float32', ",
        ),
        (
            lambda run: run["result"].update(final_accuracy="1"),
            "result.final_accuracy: input should be a valid number",
        ),
    ],
)
def test_a_field_that_is_wrong(run: Path, change: Callable[[dict[str, Any]], Any], complaint: str) -> None:
    rewrite(run, change)
    assert refusal(run).startswith(f"/run.json: {complaint}")


def test_a_recipe_that_is_not_the_weights(run: Path) -> None:
    rewrite(run, lambda values: values["recipe"].update(seed=7))
    assert refusal(run) == "/model.safetensors: its recipe is not that of run.json beside it"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda weights: weights.pop("head.bias"), "lacks 'head.bias': of another network"),
        (lambda weights: weights.update(more=torch.zeros(1)), "has 'more': of another network"),
        (
            lambda weights: weights.update({"head.bias": torch.zeros(7)}),
            "head.bias is [7]; by the recipe it is [10]",
        ),
        (
            lambda weights: weights.update({"head.bias": torch.zeros(10, dtype=torch.float16)}),
            "head.bias is torch.float16; torch.float32 is needed",
        ),
        (lambda weights: weights["head.bias"].fill_(torch.nan), "head.bias holds values that are not finite"),
    ],
)
def test_weights_that_do_not_fit(run: Path, change: Callable[[dict[str, Any]], Any], complaint: str) -> None:
    rewrite_weights(run, change)
    assert refusal(run) == f"/model.safetensors: {complaint}"


def test_weights_that_are_no_safetensors(run: Path) -> None:
    file = run / "model.safetensors"
    for content in (b"", b"x" * 100, file.read_bytes()[:-1]):
        file.write_bytes(content)
        assert refusal(run).startswith("/model.safetensors: cannot be read as safetensors: ")
    file.unlink()
    assert refusal(run) == "/model.safetensors: no such file, although the run is finished"


@pytest.mark.parametrize("name", ["model.safetensors", "events.jsonl", "run.json"])
def test_a_pipe_is_not_waited_for(run: Path, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(InputError, match=f"{name}: cannot be read: it is not a regular file|there is no run.json"):
        read_log(open_run(run))


def test_a_file_that_may_not_be_read_is_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *rest: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("fastcifar.runs.saved.open_regular", refused)
    assert refusal(run) == "/model.safetensors: cannot be read: Permission denied"


@pytest.mark.parametrize("digits", [4000, 5000])
def test_a_number_of_many_digits(run: Path, digits: int) -> None:
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace('"epochs": 2', f'"epochs": {"9" * digits}', 1))
    said = refusal(run)
    assert said.startswith("/run.json: ")
    assert len(said) < 400


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test_accuracy": 5.0}, "line 1 is not an epoch as a run writes it: test_accuracy: input should be less than"),
        ({"train_accuracy": -0.1}, "line 1 is not an epoch as a run writes it: train_accuracy: input should be"),
        ({"epoch": -1}, "line 1 is not an epoch as a run writes it: epoch: input should be greater than"),
        ({"epoch": 10**5000}, "line 1 is not an epoch as a run writes it"),
        ({"epoch": 2}, "line 1 is of epoch 2, where 1 belongs"),
        ({"images_per_second": -1.0}, "line 1 is not an epoch as a run writes it: images_per_second: input should be"),
        ({"train_seconds": -1.0}, "line 1 is not an epoch as a run writes it: train_seconds: input should be"),
    ],
)
def test_epochs_that_cannot_be(run: Path, change: dict[str, Any], said: str) -> None:
    first, *rest = (run / "events.jsonl").read_text().splitlines()
    sys.set_int_max_str_digits(10_000)
    try:
        line = json.dumps(json.loads(first) | change)
    finally:
        sys.set_int_max_str_digits(4300)
    (run / "events.jsonl").write_text("\n".join([line, *rest]) + "\n")
    with pytest.raises(InputError) as caught:
        read_log(read_run(run))
    assert str(caught.value).startswith(f"{run / 'events.jsonl'}: {said}")


@pytest.mark.parametrize(("lines", "said"), [(3, "3 epochs; the recipe has 2"), (80_000, "cannot be read: it is larg")])
def test_more_epochs_than_the_recipe_has(run: Path, lines: int, said: str) -> None:
    first = json.loads((run / "events.jsonl").read_text().splitlines()[0])
    found = (json.dumps(first | {"epoch": number}) for number in range(1, lines + 1))
    (run / "events.jsonl").write_text("\n".join(found) + "\n")
    with pytest.raises(InputError, match=f"events.jsonl: {said}"):
        read_log(read_run(run))


def test_the_network_stays_when_its_file_goes(run: Path) -> None:
    model = open_run(run).model
    before = model.head.weight.clone()
    (run / "model.safetensors").write_bytes(b"")
    assert torch.equal(model.head.weight, before)


def test_whoever_opens_it_removes_what_a_killed_process_left(run: Path) -> None:
    """Its temporary files, and checkpoints of a run that had finished when it was killed; nothing of anybody else's."""
    before = {path.name for path in run.iterdir()}
    (run / ".events.jsonl.0123abcd.tmp").touch()
    (run / "checkpoints").mkdir()
    for name in ("session.json", "heartbeat", f"000003-{'0' * 64}.safetensors", ".session.json.0123abcd.tmp"):
        (run / "checkpoints" / name).touch()
    read_run(run)
    assert {path.name for path in run.iterdir()} == before
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "mine").touch()
    (run / ".mine.tmp").touch()
    read_run(run)
    assert {path.name for path in run.rglob("*")} == {*before, "checkpoints", "mine", ".mine.tmp"}
