"""The range test: it finds rates that train, and leaves nothing behind."""

import contextlib
import json
import math
import xml.etree.ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from same import assert_same

from fastcifar.commands import main
from fastcifar.data.dataset import Dataset
from fastcifar.data.synthetic import synthetic
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.recipe import Adam, Muon, Recipe, Resnet, Schedule
from fastcifar.report.charts import draw_lr, values_json
from fastcifar.training.lr_finder import LrRange, find_lr
from fastcifar.training.trainer import Trainer

CPU = Execution(device="cpu", loader="dali", precision="float32", compile="off")
STEPS = 80


@pytest.fixture(scope="module")
def found(small: Dataset) -> LrRange:
    """What a test over eight epochs of the toy's ten batches finds."""
    return find_lr(Trainer(toy(), small, CPU), steps=STEPS)


def toy() -> Recipe:
    return Recipe(
        epochs=2, batch_size=32, model=Resnet(width=4), schedule=Schedule(min_lr=0.001, max_lr=0.01, peak_epoch=1)
    )


@pytest.mark.parametrize(("epochs_before", "mode"), [(0, "off"), (1, "off"), (1, "default")])
def test_nothing_is_left_changed(
    small: Dataset, quick: Recipe, epochs_before: int, mode: str, restored_rng: object
) -> None:
    """In a new trainer, and in the middle of a run, where the optimizer has a state; compiled too."""
    execution = replace(CPU, compile=mode)  # type: ignore[arg-type]
    trainer, untouched = (Trainer(quick, small, execution) for _ in range(2))
    for _ in range(epochs_before):
        trainer.train_epoch()
        untouched.train_epoch()
    torch.manual_seed(5)
    before = trainer.state.capture()
    with contextlib.suppress(RunError):  # so few steps after training may find nothing
        find_lr(trainer, steps=30)
    assert trainer.losses_at([1e-3], lambda loss: False) != []
    assert_same(trainer.state.state_dict(), before)
    for _ in range(epochs_before, 2):
        one, other = trainer.train_epoch(), untouched.train_epoch()
        assert (one.train_loss, one.test_loss, one.test_accuracy, one.learning_rate) == (
            other.train_loss,
            other.test_loss,
            other.test_accuracy,
            other.learning_rate,
        )
    assert_same(trainer.model.state_dict(), untouched.model.state_dict())


def test_an_error_leaves_nothing_changed_either(small: Dataset, restored_rng: object) -> None:
    trainer = Trainer(toy(), small, CPU)
    before = trainer.state.capture()

    def interrupt(step: int, steps: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_lr(trainer, progress=interrupt)
    assert_same(trainer.state.state_dict(), before)


def test_what_is_found_is_the_seeds(small: Dataset, found: LrRange) -> None:
    assert find_lr(Trainer(toy(), small, CPU), steps=STEPS) == found
    assert found.seed == 0
    other = Trainer(replace(toy(), seed=1), small, CPU).losses_at(found.learning_rates, lambda loss: False)
    assert tuple(other) != found.losses


def test_the_test_images_are_not_looked_at(small: Dataset, found: LrRange) -> None:
    other = replace(small, test_images=255 - small.test_images, test_labels=9 - small.test_labels)
    assert find_lr(Trainer(toy(), other, CPU), steps=STEPS) == found


def test_the_rates_go_up_in_equal_factors(small: Dataset) -> None:
    """Also past the end of an epoch, whose batches are 10."""
    told: list[tuple[int, int]] = []
    about: dict[str, Any] = {"start_lr": 1e-4, "end_lr": 0.1, "steps": 25}
    found = find_lr(Trainer(toy(), small, CPU), **about, progress=lambda *step: told.append(step))
    assert found.learning_rates[0] == 1e-4
    factors = [after / before for before, after in zip(found.learning_rates, found.learning_rates[1:], strict=False)]
    assert factors == pytest.approx([1000 ** (1 / 24)] * len(factors))
    assert told == [(step + 1, 25) for step in range(len(found.losses))]
    assert len(found.losses) > 10


def test_the_smoothed_loss_has_no_bias(found: LrRange) -> None:
    weights = [0.9**age for age in range(len(found.losses))]
    for step, value in enumerate(found.smoothed):
        mean = sum(w * loss for w, loss in zip(weights, found.losses[step::-1], strict=False))
        assert value == pytest.approx(mean / sum(weights[: step + 1]))


def test_the_rule_is_what_it_says(found: LrRange) -> None:
    first, lowest = found.smoothed[0], found.smoothed[found.lowest]
    assert lowest == min(found.smoothed)
    fallen = [(first - value) / (first - lowest) for value in found.smoothed]
    step = next(step for step, part in enumerate(fallen) if part >= 0.95)
    assert found.max_lr == pytest.approx(found.learning_rates[step], rel=0.05)  # two digits
    assert found.min_lr == pytest.approx(found.max_lr / 50, rel=0.05)
    assert found.rule == (
        "LRMAX is the rate at which the smoothed loss had fallen 95% of the way to its lowest, LRMIN is LRMAX / 50"
    )


def test_it_stops_where_the_loss_diverges(small: Dataset) -> None:
    found = find_lr(Trainer(toy(), small, CPU), start_lr=1e-4, end_lr=1e6, steps=60)
    assert len(found.losses) == len(found.learning_rates) == len(found.smoothed) < 60
    assert not found.smoothed[-1] <= 4 * min(found.smoothed)
    assert all(value <= 4 * min(found.smoothed[: step + 1]) for step, value in enumerate(found.smoothed[:-1]))


@pytest.mark.parametrize(
    ("low", "high", "complaint"),
    [
        (1e-12, 1e-10, "from 1e-12 to 1e-10 the loss was never 10% below its first value"),
        (1e30, 1e38, r"from 1e\+30 to .* the loss was never 10% below"),
        (1e-4, 1e-3, "from 0.0001 to 0.001 the loss fell to the end; train on more images"),
    ],
)
def test_where_there_is_nothing_to_find(small: Dataset, low: float, high: float, complaint: str) -> None:
    with pytest.raises(RunError, match=f"^the range test found no learning rate: {complaint}") as caught:
        find_lr(Trainer(replace(toy(), batch_size=150), small, CPU), start_lr=low, end_lr=high, steps=30)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_picture(found: LrRange, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"lr{suffix}"
    draw_lr(found, path)
    if suffix == ".png":
        assert path.read_bytes().startswith(b"\x89PNG")
    else:
        xml.etree.ElementTree.parse(path)


def test_the_values(found: LrRange) -> None:
    values = json.loads(values_json(found))
    assert (values["min_lr"], values["max_lr"], values["rule"]) == (found.min_lr, found.max_lr, found.rule)
    assert [one["learning_rate"] for one in values["values"]] == list(found.learning_rates)
    assert [one["smoothed"] for one in values["values"]] == list(found.smoothed)


def test_a_loss_that_is_no_number_is_null_and_drawn_past(found: LrRange, tmp_path: Path) -> None:
    broken = replace(
        found, losses=(*found.losses[:-1], math.nan), smoothed=(*found.smoothed[:-1], math.nan), seconds=0.0
    )
    assert json.loads(values_json(broken))["values"][-1]["loss"] is None
    draw_lr(broken, tmp_path / "lr.png")


def test_the_range_found_trains_and_ten_times_it_does_not(cifar10: Dataset) -> None:
    """Two epochs of 3,000 images; what a network has learnt is how far its loss is below log(10), a blind guess's. With
    ten times the rates it diverges, or learns less than 80 % as much."""
    dataset = cifar10.limited(3000, 500)
    recipe = Recipe(epochs=2, batch_size=64, model=Resnet(width=4), schedule=Schedule(peak_epoch=1))
    trainer = Trainer(recipe, dataset, CPU)
    found = find_lr(trainer)

    def learnt(factor: float) -> float:
        trainer.restart(recipe.with_rates(min_lr=factor * found.min_lr, max_lr=factor * found.max_lr))
        return math.log(10) - [trainer.train_epoch().train_loss for _ in range(2)][-1]

    with_those_found = learnt(1)
    assert with_those_found > 0.3
    with contextlib.suppress(RunError):
        assert learnt(10) < 0.8 * with_those_found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"start_lr": 0.1, "end_lr": 0.01}, "start_lr 0.1, end_lr 0.01: the rates must be above 0 and rise"),
        ({"start_lr": 0.0}, "start_lr 0, end_lr 1: the rates must be above 0 and rise"),
        ({"end_lr": math.inf}, "start_lr 1e-05, end_lr inf"),
        ({"steps": 1}, "steps 1: must be between 2 and 100,000"),
        ({"steps": "5"}, "steps 5: must be between 2 and 100,000"),
    ],
)
def test_rates_that_will_not_do(small: Dataset, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"^{said}"):
        find_lr(Trainer(toy(), small, CPU), **given)


def test_the_command_takes_rates_and_holds_out_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    def look(trainer: Trainer, **about: Any) -> None:
        seen.append((len(trainer.dataset.train_images), about["start_lr"], about["end_lr"], about["steps"]))
        raise InputError("seen")

    monkeypatch.setattr("fastcifar.training.lr_finder.find_lr", look)
    monkeypatch.setattr("fastcifar.data.load.synthetic", lambda: synthetic(800, 10))  # for 50,000
    images = ["--dataset", "synthetic", "--limit-train", "400", "--validation", "300", "--batch-size", "50"]
    rates = ["--start-lr", "1e-4", "--end-lr", "0.5", "--steps", "20"]
    assert main(["find-lr", "--recipe", "laptop", "--width", "2", "--device", "cpu", *images, *rates]) == 2
    assert seen == [(400, 1e-4, 0.5, 20)]


@pytest.mark.parametrize(("optimizer", "ends"), [(Muon(), (1e-3, 100.0)), (Adam(), (1e-5, 1.0))])
def test_rates_of_an_optimizer_that_brings_its_own_are_factors(
    small: Dataset, optimizer: Any, ends: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def losses_at(self: Trainer, rates: list[float], stop: Any) -> list[float]:
        tried.extend(rates)
        raise InputError("seen")

    monkeypatch.setattr(Trainer, "losses_at", losses_at)
    with pytest.raises(InputError, match="seen"):
        find_lr(Trainer(toy().with_optimizer(optimizer), small, CPU))
    assert (tried[0], tried[-1]) == pytest.approx(ends)
