"""The range test: it finds rates that train, and leaves nothing behind."""

import contextlib
import json
import math
import xml.etree.ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.recipe import Model, Recipe, Schedule
from fastcifar.report.lr import draw_lr, keep_lr, print_lr, values_json
from fastcifar.training.lr_finder import LrRange, find_lr, for_range_test, make_trainer, resolved_schedule, search
from fastcifar.training.trainer import Trainer

CPU = Execution(device="cpu", loader="dali", precision="float32", compile="off")
STEPS = 80


def state_of(trainer: Trainer) -> dict[str, object]:
    """All that a run changes, copied."""
    return {
        "weights": {name: value.clone() for name, value in trainer.model.state_dict().items()},
        "optimizer": {
            key: {name: value.clone() for name, value in of.items()} for key, of in trainer.optimizer.state.items()
        },
        "groups": [{k: v for k, v in group.items() if k != "params"} for group in trainer.optimizer.param_groups],
        "scale": trainer._step.scaler.state_dict(),
        "schedule": {k: v for k, v in trainer.schedule.state_dict().items() if not k.startswith("_anneal")},
        "random": torch.get_rng_state(),
        "training": trainer.model.training,
        "grads": [parameter.grad for parameter in trainer.model.parameters()],
    }


def assert_same(one: object, other: object) -> None:
    """Equal, tensors bit for bit."""
    if isinstance(one, dict):
        assert isinstance(other, dict)
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor)
        assert torch.equal(one, other)
    else:
        assert one == other


@pytest.fixture(scope="module")
def found(small: Dataset) -> LrRange:
    """What a test over eight epochs of the toy's ten batches finds."""
    return find_lr(Trainer(toy(), small, CPU), steps=STEPS)


def toy() -> Recipe:
    return Recipe(
        epochs=2, batch_size=32, model=Model(width=4), schedule=Schedule(min_lr=0.001, max_lr=0.01, peak_epoch=1)
    )


@pytest.mark.parametrize(("epochs_before", "mode"), [(0, "off"), (1, "off"), (1, "default")])
def test_nothing_is_left_changed(
    small: Dataset, quick: Recipe, epochs_before: int, mode: str, restored_rng: object
) -> None:
    """In a new trainer, and in the middle of a run, where the optimizer has a state; compiled too."""
    execution = replace(CPU, compile=mode)  # type: ignore[arg-type]
    trainer, untouched = (Trainer(quick, small, execution) for _ in range(2))
    for epoch in range(epochs_before):
        trainer.train_epoch(epoch + 1)
        untouched.train_epoch(epoch + 1)
    torch.manual_seed(5)
    before = state_of(trainer)
    with contextlib.suppress(RunError):  # so few steps after training may find nothing
        find_lr(trainer, steps=30)
    assert trainer.losses_at([1e-3], lambda loss: False) != []
    assert_same(state_of(trainer), before)
    for epoch in range(epochs_before, 2):
        one, other = trainer.train_epoch(epoch + 1), untouched.train_epoch(epoch + 1)
        assert (one.train_loss, one.test_loss, one.test_accuracy, one.learning_rate) == (
            other.train_loss,
            other.test_loss,
            other.test_accuracy,
            other.learning_rate,
        )
    assert_same(trainer.model.state_dict(), untouched.model.state_dict())


def test_an_error_leaves_nothing_changed_either(small: Dataset, restored_rng: object) -> None:
    trainer = Trainer(toy(), small, CPU)
    before = state_of(trainer)

    def interrupt(step: int, steps: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_lr(trainer, progress=interrupt)
    assert_same(state_of(trainer), before)


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
    found = find_lr(Trainer(toy(), small, CPU), low=1e-4, high=0.1, steps=25, progress=lambda *step: told.append(step))
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
    found = find_lr(Trainer(toy(), small, CPU), low=1e-4, high=1e6, steps=60)
    assert len(found.losses) == len(found.learning_rates) == len(found.smoothed) < 60
    assert not found.smoothed[-1] <= 4 * min(found.smoothed)
    assert all(value <= 4 * min(found.smoothed[: step + 1]) for step, value in enumerate(found.smoothed[:-1]))


@pytest.mark.parametrize(
    ("low", "high", "complaint"),
    [
        (1e-12, 1e-10, "from 1e-12 to 1e-10 the loss never was 10% below its first value"),
        (1e30, 1e38, r"from 1e\+30 to .* the loss never was 10% below"),
        (1e-4, 1e-3, "from 0.0001 to 0.001 the loss fell to the end; train on more images"),
    ],
)
def test_where_there_is_nothing_to_find(small: Dataset, low: float, high: float, complaint: str) -> None:
    with pytest.raises(RunError, match=f"^the range test found no learning rate: {complaint}") as caught:
        find_lr(Trainer(replace(toy(), batch_size=150), small, CPU), low=low, high=high, steps=30)
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


def test_what_is_printed(found: LrRange, capsys: pytest.CaptureFixture[str]) -> None:
    print_lr(Console(width=200), found)
    shown = capsys.readouterr().out
    assert f"LRMIN {found.min_lr:g}\nLRMAX {found.max_lr:g}\nrule  {found.rule}\n" in shown


def test_find_in_a_recipe_becomes_numbers(small: Dataset, found: LrRange) -> None:
    """And what then is trained is, bit for bit, the recipe with these numbers in it."""
    wanted = replace(toy(), schedule=Schedule(min_lr="find", max_lr="find", peak_epoch=1))
    trainer = Trainer(for_range_test(wanted), small, CPU)
    setup = trainer.setup_seconds
    recipe, again = search(trainer, wanted)
    assert again.note().keys() == found.note().keys()
    assert (recipe.schedule.min_lr, recipe.schedule.max_lr) == (again.min_lr, again.max_lr)
    assert trainer.recipe == recipe
    assert trainer.setup_seconds > setup + again.seconds
    fresh = Trainer(recipe, small, CPU)
    assert_same(state_of(trainer), state_of(fresh))
    trainer.run()
    fresh.run()
    assert_same(trainer.model.state_dict(), fresh.model.state_dict())


def test_only_a_recipe_that_says_find_is_tested_first(small: Dataset, tmp_path: Path) -> None:
    trainer, none = make_trainer(toy(), small, CPU)
    assert (trainer.recipe, none) == (toy(), None)
    trainer, found = make_trainer(replace(toy(), schedule=Schedule(max_lr="find", peak_epoch=1)), small, CPU)
    assert found
    assert (trainer.recipe.schedule.min_lr, trainer.recipe.schedule.max_lr) == (0.0001, found.max_lr)
    assert keep_lr(found, tmp_path) == (tmp_path / "lr_range.png", tmp_path / "lr_range.json")
    assert (tmp_path / "lr_range.json").read_text() == values_json(found)
    assert (tmp_path / "lr_range.png").stat().st_size > 0


def test_a_rate_that_is_named_stays(found: LrRange) -> None:
    wanted = replace(toy(), schedule=Schedule(min_lr=0.0, max_lr="find", peak_epoch=1))
    schedule = resolved_schedule(wanted, found).schedule
    assert (schedule.min_lr, schedule.max_lr) == (0.0, found.max_lr)
    assert resolved_schedule(toy(), found) == toy()


def test_a_named_lrmin_above_the_lrmax_found(found: LrRange) -> None:
    wanted = replace(toy(), schedule=Schedule(min_lr=0.9, max_lr="find", peak_epoch=1))
    with pytest.raises(InputError, match=r"^schedule\.min_lr: 0\.9 is above max_lr "):
        resolved_schedule(wanted, found)


def test_a_trainer_takes_numbers_only(small: Dataset) -> None:
    with pytest.raises(InputError, match=r'^schedule\.max_lr: "find" is resolved by `fastcifar train`'):
        Trainer(replace(toy(), schedule=Schedule(max_lr="find", peak_epoch=1)), small, CPU)


@pytest.mark.parametrize("width", [4, 8, 16])
def test_the_range_found_trains_and_ten_times_it_does_not(cifar10: Dataset, width: int) -> None:
    """Two epochs of 3,000 images; what a network has learnt is how far its loss is below log(10), a blind guess's. With
    ten times the rates it diverges, or learns less than 80 % as much."""
    dataset = cifar10.limited(3000, 500)
    sought = Schedule(min_lr="find", max_lr="find", peak_epoch=1)
    wanted = Recipe(epochs=2, batch_size=64, model=Model(width=width), schedule=sought)
    trainer = Trainer(for_range_test(wanted), dataset, CPU)
    recipe, found = search(trainer, wanted)
    learnt = math.log(10) - [trainer.train_epoch(epoch).train_loss for epoch in (1, 2)][-1]
    assert learnt > 0.3

    schedule = replace(recipe.schedule, min_lr=10 * found.min_lr, max_lr=10 * found.max_lr)
    trainer.recipe = replace(recipe, schedule=schedule)
    trainer.restart(recipe.seed)
    try:
        high = [trainer.train_epoch(epoch).train_loss for epoch in (1, 2)][-1]
    except RunError:
        return
    assert math.log(10) - high < 0.8 * learnt
