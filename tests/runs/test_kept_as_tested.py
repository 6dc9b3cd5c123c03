"""What is kept of a run, and asked again, is what was tested in it: the weights, their normalisation, the views."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finished import CPU, RECIPE, dataset
from same import assert_same

import fastcifar
from fastcifar.commands import main
from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError
from fastcifar.recipe import Average, Evaluation
from fastcifar.runs.observer import Trained
from fastcifar.runs.predictions import confusion_matrix, probabilities, score
from fastcifar.runs.saved import open_run

AVERAGED = replace(RECIPE, average=Average(name="ema", decay=0.8, every=1, ramp=0.0), evaluation=Evaluation(tta="flip"))


def dark() -> Dataset:
    """Images whose mean and standard deviation are not CIFAR-10's."""
    found = dataset()
    images = {"train": found.train_images // 4, "test": found.test_images // 4}
    return Dataset.from_arrays(images["train"], found.train_labels, images["test"], found.test_labels)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained, Dataset]:
    path, images = tmp_path_factory.mktemp("runs") / "dark", dark()
    return path, fastcifar.train(AVERAGED, execution=CPU, dataset=images, out=path), images


def test_the_weights_kept_have_the_loss_of_the_last_test(run: tuple[Path, Trained, Dataset]) -> None:
    path, trained, images = run
    saved = open_run(path)
    scores = score(saved.on_bytes(saved.recipe.evaluation.tta), images.test_images, images.test_labels)
    assert scores.loss == trained.log[-1].test_loss
    assert scores.accuracy == trained.final_accuracy
    assert_same(saved.model.state_dict(), {name: one.cpu() for name, one in trained.model.state_dict().items()})
    plain = fastcifar.train(replace(AVERAGED, average=Average()), execution=CPU, dataset=images)
    assert not torch.equal(plain.model.head.weight, trained.model.head.weight)


def test_images_are_normalised_by_the_data_sets_own_mean(run: tuple[Path, Trained, Dataset]) -> None:
    path, _, images = run
    assert images.mean[0] < 40
    kept = json.loads((path / "run.json").read_text())["dataset"]
    assert (tuple(kept["mean"]), tuple(kept["std"])) == (images.mean, images.std)


def test_it_is_evaluated_as_it_was_tested(run: tuple[Path, Trained, Dataset]) -> None:
    path, trained, images = run
    found = fastcifar.evaluate(path, dataset=images)
    saved = open_run(path)
    views = {
        tta: confusion_matrix(probabilities(saved.on_bytes(tta), images.test_images), images.test_labels)  # type: ignore[arg-type]
        for tta in ("flip", "none")
    }
    assert found.accuracy == trained.final_accuracy
    np.testing.assert_array_equal(found.confusion, views["flip"])
    assert (views["flip"] != views["none"]).any()


def test_eval_has_the_views_of_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run"
    trained = fastcifar.train(AVERAGED, execution=CPU, dataset=dataset(), out=path)
    assert main(["eval", str(path), "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "test-time augmentation flip\n" in shown
    (accuracy,) = (line for line in shown.splitlines() if line.startswith("accuracy"))
    assert f"{trained.final_accuracy:.2%}" in accuracy


class Prepared(torch.nn.Module):
    """A custom network that is shown images before it is trained."""

    seen: Any = None

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.mean(dim=(2, 3)))

    def prepare(self, images: torch.Tensor) -> None:
        type(self).seen = images


def test_a_network_prepares_itself_by_images_normalised_so_too() -> None:
    fastcifar.train(replace(RECIPE.with_epochs(1), image_sizes=()), model=Prepared, execution=CPU, dataset=dark())
    assert Prepared.seen.mean().abs() < 0.05
    assert Prepared.seen.std().item() == pytest.approx(1, abs=0.1)


def test_other_images_are_refused(run: tuple[Path, Trained, Dataset], tmp_path: Path) -> None:
    path, _, images = run
    other = replace(images, test_images=images.test_images[::-1].copy())
    with pytest.raises(InputError, match=r"run\.json: dataset: other images are here"):
        fastcifar.write_report(path, out=tmp_path / "report", dataset=other)
    assert fastcifar.evaluate(path, dataset=other).accuracy < 1  # which may be of other images
    for classes in (("frog", "ship"), tuple(f"other-{label}" for label in range(10))):
        with pytest.raises(
            InputError, match=r"dataset: its classes are .*; the run's are 10 \(class-0, class-1, class-2"
        ):
            fastcifar.evaluate(path, dataset=replace(images, classes=classes))
    with pytest.raises(InputError, match=r"'arrays': .*in Python, give it as dataset="):
        fastcifar.evaluate(path)
    for call in (fastcifar.evaluate, fastcifar.write_report):
        with pytest.raises(InputError, match=r"^dataset: a tuple; Dataset\.from_arrays"):
            call(path, dataset=(1, 2))  # type: ignore[operator]
        with pytest.raises(InputError, match=r"^dataset: 'nowhere': neither"):
            call(path, dataset="nowhere")  # type: ignore[operator]
