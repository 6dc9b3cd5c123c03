"""From Python: train a run, load it, ask it."""

import doctest
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from finished import CPU, RECIPE, dataset, finished_run
from PIL import Image
from same import assert_same

import fastcifar
from fastcifar.data.cifar import cache, locate_cifar10
from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError
from fastcifar.own import sealed
from fastcifar.recipe.files import to_toml
from fastcifar.runs.observer import RunObserver, Start, Trained
from fastcifar.runs.paused import asked_of
from fastcifar.training.checkpoint import Checkpoints
from fastcifar.training.log import EpochLog, Observer


def test_train_then_load(small: Dataset) -> None:
    run, trained = finished_run()
    assert [log.epoch for log in trained.log] == [1, 2]
    assert trained.final_accuracy == trained.log[-1].test_accuracy
    assert json.loads((run / "run.json").read_text())["result"]["epochs"] == 2
    state = torch.get_rng_state()
    model = fastcifar.load(run)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert not trained.model.training
    weights = trained.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert model.layer1.block.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    probabilities = model.predict(fastcifar.normalise(torch.from_numpy(small.test_images[:50])))
    assert probabilities.shape == (50, 10)
    np.testing.assert_allclose(probabilities.sum(dim=1).numpy(), 1, atol=1e-6)


def test_train_without_a_folder_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "empty"
    place.mkdir()
    recipe = tmp_path / "mine.toml"
    recipe.write_text(to_toml(replace(RECIPE.with_epochs(1), limit_train=128, limit_test=20)))
    images = dataset().limited(128, 20)  # before a relative $FASTCIFAR_DATA leads elsewhere
    monkeypatch.chdir(place)
    trained = fastcifar.train(recipe, execution=CPU, dataset=images)
    assert len(trained.log) == 1
    assert not list(place.iterdir())


def test_train_refuses_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(InputError, match="is not empty"):
        fastcifar.train(RECIPE, out=tmp_path)
    with pytest.raises(InputError, match="neither a TOML file nor one of"):
        fastcifar.train("nothing")


def write_photos(folder: Path) -> None:
    for place in ("train/cat", "train/dog", "test/cat"):
        (folder / place).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (40, 32), (number * 60, 0, 0)).save(folder / place / f"{number}.png")


def test_a_folder_of_images_may_be_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    write_photos(tmp_path / "photos")
    for given in (tmp_path / "photos", "~/photos"):
        with pytest.raises(InputError, match="batch_size"):  # and there are 8 images
            fastcifar.train(replace(RECIPE, limit_train=None, limit_test=None), execution=CPU, dataset=given)
    with pytest.raises(InputError, match=r"^dataset: a tuple; Dataset.from_arrays"):
        fastcifar.train(RECIPE, execution=CPU, dataset=(1, 2))  # type: ignore[arg-type]


def test_a_home_in_a_path_is_the_persons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe, own = sealed(replace(RECIPE, dataset="~/photos"))
    asked = asked_of(recipe, own, find_lr=False, data="~/data")
    assert (asked.data, asked.dataset) == (str(tmp_path / "data"), str(tmp_path / "photos"))
    fastcifar.train(RECIPE.with_epochs(1), execution=CPU, dataset=dataset(), out="~/run")
    assert (tmp_path / "run" / "run.json").exists()


def test_what_a_person_should_know_is_a_warning_where_nobody_observes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastcifar.execution.compiler", lambda: None)
    compiled = replace(CPU, compile="default")
    with pytest.warns(UserWarning, match="running eager") as seen:
        fastcifar.train(RECIPE.with_epochs(1), execution=compiled, dataset=dataset())
    assert {one.filename for one in seen if "running eager" in str(one.message)} == {__file__}
    with pytest.warns(UserWarning, match="running eager"), pytest.raises(InputError, match="start_lr"):
        fastcifar.find_lr(RECIPE, execution=compiled, dataset=dataset(), start_lr=1.0, end_lr=0.1)

    told: list[str] = []
    watching = type("Told", (Observer,), {"note": lambda self, line: told.append(line)})()
    fastcifar.train(RECIPE.with_epochs(1), execution=compiled, dataset=dataset(), observers=[watching])
    assert "running eager" in told[0]


def test_an_observer_may_be_a_context_manager() -> None:
    said: list[str] = []

    class Entered(Observer):
        def __enter__(self) -> Self:
            said.append("entered")
            return self

        def __exit__(self, kind: object, *_: object) -> None:
            said.append(f"left after {kind}")

        def epoch(self, log: EpochLog) -> None:
            said.append(f"epoch {log.epoch}")

    fastcifar.train(RECIPE.with_epochs(1), execution=CPU, dataset=dataset(), observers=[Entered()])
    assert said == ["entered", "epoch 1", "left after None"]


def test_a_checkpoint_still_being_written_at_the_end_goes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Checkpoints._write

    def slowly(self: Checkpoints, *about: object) -> None:
        time.sleep(0.5)
        write(self, *about)  # type: ignore[arg-type]

    monkeypatch.setattr(Checkpoints, "_write", slowly)
    monkeypatch.setattr("fastcifar.training.checkpoint.Checkpoints.epoch", lambda self, log: self.keep())
    told: list[str] = []
    watching = type("Told", (Observer,), {"note": lambda self, line: told.append(line)})()
    fastcifar.train(RECIPE.with_epochs(1), execution=CPU, dataset=dataset(), out=tmp_path / "run", observers=[watching])
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert told == []


def test_find_lr_finds_what_train_does(tmp_path: Path) -> None:
    """And what then is trained is, bit for bit, the recipe with these numbers in it."""
    recipe = replace(RECIPE.with_epochs(1), batch_size=30)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    found = fastcifar.find_lr(recipe, execution=CPU, dataset=dataset())
    trained = fastcifar.train(recipe, execution=CPU, dataset=dataset(), find_lr=True, out=tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)  # the caller's
    assert trained.found == found
    known = replace(recipe, dataset_sha256=dataset().sha256)
    assert trained.recipe == known.with_rates(min_lr=found.min_lr, max_lr=found.max_lr)
    said = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {**said["lr_range"], "seconds": found.seconds} == found.note()
    assert said["recipe"] == json.loads(json.dumps(asdict(trained.recipe)))
    assert trained.setup_seconds > trained.found.seconds
    plain = fastcifar.train(trained.recipe, execution=CPU, dataset=dataset())
    assert plain.found is None
    assert_same(plain.model.state_dict(), trained.model.state_dict())


def test_images_given_are_limited_as_the_recipe_says() -> None:
    whole = replace(RECIPE.with_epochs(1), limit_train=None, limit_test=None)
    recipe = replace(whole, limit_train=200, limit_test=150)
    trained = fastcifar.train(recipe, execution=CPU, dataset=dataset())
    assert (len(trained.dataset.train_images), len(trained.dataset.test_images)) == (200, 150)
    with pytest.raises(InputError, match="limit_train: 301 images asked for"):
        fastcifar.train(replace(whole, limit_train=301), execution=CPU, dataset=dataset())


def test_observers_are_told_in_order() -> None:
    told: list[object] = []

    class Watcher(RunObserver):
        def start(self, about: Start) -> None:
            told.append((about.name, about.trainer.state.step, about.found))

        def step(self, epoch: int, step: int) -> None:
            told.append((epoch, step))

        def epoch(self, log: EpochLog) -> None:
            told.append(log.epoch)

        def finish(self, trained: Trained) -> None:
            told.append(trained.final_accuracy)

    trained = fastcifar.train(
        RECIPE.with_epochs(1), name="mine", execution=CPU, dataset=dataset(), observers=[Watcher()]
    )
    assert told == [("mine", 0, None), (1, 1), (1, 2), (1, 3), 1, trained.final_accuracy]


@pytest.mark.parametrize("images", [torch.rand(2, 32, 32, 3), torch.zeros(2, 3, 32, 32, dtype=torch.uint8)])
def test_normalise_refuses_what_would_give_wrong_answers(images: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"normalise takes uint8 images \(B, 32, 32, 3\), not torch\."):
        fastcifar.normalise(images)


def test_normalise_takes_arrays(small: Dataset) -> None:
    images = small.test_images[:4]
    assert torch.equal(fastcifar.normalise(images), fastcifar.normalise(torch.from_numpy(images.copy())))
    with pytest.raises(InputError, match=r"normalise takes uint8 images \(B, 32, 32, 3\), not torch.float64"):
        fastcifar.normalise(images / 255)


def test_fields_of_the_recipe_are_keywords(small: Dataset) -> None:
    fields = {"epochs": 1, "seed": 5, "model": {"width": 2}, "limit_train": 128, "limit_test": 100}
    trained = fastcifar.train(RECIPE, execution=CPU, dataset=small, **fields)  # type: ignore[arg-type]
    assert (trained.recipe.seed, trained.recipe.model.width, trained.epochs) == (5, 2, 1)  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"^sede: no such field in a recipe"):
        fastcifar.train(RECIPE, execution=CPU, sede=5)


def test_a_loader_says_what_it_takes(small: Dataset) -> None:
    with pytest.raises(InputError, match=r"^dataset: a tuple; Dataset.from_arrays makes"):
        fastcifar.loader("fused", (small.test_images, small.test_labels))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(fastcifar.__all__))
def test_each_public_name_has_an_example_that_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Observer):
        def epoch(self, log: EpochLog) -> None:
            raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    if name == "load_cifar10" and locate_cifar10() is None:
        pytest.skip("no CIFAR-10 here")
    if name == "load_cifar100":
        try:
            fastcifar.load_cifar100(os.environ.get("FASTCIFAR_DATA") or cache())
        except fastcifar.InputError:
            pytest.skip("no CIFAR-100 here")
    if name == "load_folder":
        write_photos(tmp_path / "photos")
    if name in ("load", "evaluate", "write_report"):
        shutil.copytree(finished_run()[0], "runs/mine")
    if name == "resume":
        recipe = RECIPE.with_epochs(2)
        with pytest.raises(KeyboardInterrupt):
            fastcifar.train(recipe, execution=CPU, out="runs/stopped", observers=[Stop()])
    public = getattr(fastcifar, name)
    names = {"fastcifar": fastcifar, "np": np, "torch": torch}
    (found,) = doctest.DocTestFinder(recurse=False).find(public, name, globs=names)
    assert found.examples, f"{name} has no example"
    assert doctest.DocTestRunner().run(found).failed == 0


def test_the_api_is_named_and_waits_for_torch() -> None:
    """Neither the package nor a look at its names imports it."""
    script = "import sys, fastcifar; print(*dir(fastcifar)); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert set(done.stdout.split()) == {*fastcifar.__all__, "__version__"} > {"train", "loader", "InputError"}
    page = (Path(__file__).parents[2] / "docs/reference/python.md").read_text()
    for name in fastcifar.__all__:
        assert callable(getattr(fastcifar, name))
        assert f"### `fastcifar.{name}`\n" in page, name
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = fastcifar.trian


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"observers": fastcifar.TrainingConsole()}, "observers: a list of Observers is needed"),
        ({"observers": [RunObserver]}, "observers: a list of Observers is needed"),
        ({"execution": "cpu"}, r"execution: an Execution is needed, such as .*, not 'cpu'"),
    ],
)
def test_what_is_of_a_wrong_type_is_one_line(given: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=f"^{said}"):
        fastcifar.train(RECIPE, **{"execution": CPU, "dataset": dataset(), **given})  # type: ignore[arg-type]


def test_a_network_of_a_loop_of_ones_own_is_tested(small: Dataset) -> None:
    class Flips(torch.nn.Module):
        """Says of an image whether its left side is brighter."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            brighter = images[..., :16].mean(dim=(1, 2, 3)) - images[..., 16:].mean(dim=(1, 2, 3))
            return torch.nn.functional.pad(torch.stack([brighter, -brighter], dim=1), (0, 8), value=-9.0) * self.scale

    network = Flips().train()
    plain = fastcifar.evaluate(network, dataset=small)
    right = (network(fastcifar.normalise(small.test_images)).argmax(dim=1).numpy() == small.test_labels).mean()
    assert plain.accuracy == right
    assert plain.classes == small.classes
    assert network.training
    both = fastcifar.evaluate(network, dataset=small, tta="flip")
    assert max(both.confidence) < 0.51 < min(plain.confidence[:9])  # of both views neither side is brighter
    modes = torch.nn.Sequential(Flips().train(), torch.nn.BatchNorm1d(10).eval()).train()
    modes[1].eval()
    fastcifar.evaluate(modes, dataset=small)
    assert [module.training for module in modes.modules()] == [True, True, False]
    for broken, said in (
        (Flips().half(), "parameters are float32"),
        (torch.nn.Flatten(), "parameters are float32"),
        (torch.nn.Linear(5, 10), "the network: RuntimeError: .*mat1 and mat2"),
    ):
        with pytest.raises(InputError, match=said):
            fastcifar.evaluate(broken, dataset=small)
    with pytest.raises(InputError, match=r"^tta: 'flipp'; there are none, flip, flip\+shift"):
        fastcifar.evaluate(network, dataset=small, tta="flipp")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^tta: for a network"):
        fastcifar.evaluate(finished_run()[0], tta="flip")
    with pytest.raises(InputError, match=r"the network gives \(200, 3\); logits \(200, 10\) are needed"):
        fastcifar.evaluate(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 3)), dataset=small)


def test_sizes_of_epochs_that_never_come_are_told(small: Dataset) -> None:
    about: dict[str, Any] = {"model": {"width": 2}, "dataset": small, "execution": CPU, "batch_size": 100}
    with pytest.warns(UserWarning, match=r"^image_sizes: only the first 1 of 3 values are used$"):
        fastcifar.train("seed", epochs=1, image_sizes=(16, 24, 32), **about)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastcifar.train("seed", epochs=1, image_sizes=(16, 16), **about)


def test_what_is_given_back_is_shown_in_a_line(small: Dataset) -> None:
    trained = fastcifar.train("seed", epochs=1, model={"width": 2}, dataset=small, execution=CPU, batch_size=100)
    assert repr(small) == f"Dataset({small.describe()}; 10 classes)"
    assert repr(trained).startswith("Trained(")
    assert len(repr(trained)) < 700
