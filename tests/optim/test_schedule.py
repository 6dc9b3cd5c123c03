"""One cycle: from min_lr up to max_lr at the end of the peak epoch, and back to min_lr."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import OneCycleLR

from fastcifar.optim import rates_at, set_rates
from fastcifar.optim.schedule import one_cycle
from fastcifar.recipe import Schedule
from fastcifar.recipe.files import load_recipe


def rates(schedule: Schedule, epochs: int, steps_per_epoch: int) -> list[float]:
    rate = one_cycle(schedule, [steps_per_epoch] * epochs)
    return [rate(step) for step in range(epochs * steps_per_epoch)]


def test_the_seed_cycle() -> None:
    lr = rates(Schedule(min_lr=0.001, max_lr=0.01, peak_epoch=5), epochs=24, steps_per_epoch=98)
    assert lr[0] == pytest.approx(0.001)
    assert int(np.argmax(lr)) == 5 * 98 - 1
    assert max(lr) == pytest.approx(0.01)
    assert lr[-1] == pytest.approx(0.001)
    np.testing.assert_allclose(np.diff(lr[: 5 * 98]), np.diff(lr)[0])


def test_cosine() -> None:
    lr = rates(Schedule(min_lr=0.0, max_lr=1.0, peak_epoch=2, shape="cosine"), epochs=4, steps_per_epoch=50)
    expected = (1 - np.cos(np.pi * np.arange(100) / 99)) / 2
    np.testing.assert_allclose(lr[:100], expected, atol=1e-9)
    assert lr[-1] == pytest.approx(0)


@given(
    epochs=st.integers(1, 6),
    steps=st.integers(1, 12),
    peak=st.floats(0, 1),
    low=st.sampled_from([0.0, 0.001]),
    shape=st.sampled_from(["linear", "cosine"]),
)
def test_every_cycle_stays_between_its_ends(epochs: int, steps: int, peak: float, low: float, shape: str) -> None:
    schedule = Schedule(min_lr=low, max_lr=0.01, peak_epoch=peak * epochs, shape=shape)  # type: ignore[arg-type]
    lr = rates(schedule, epochs, steps)
    assert min(lr) >= low - 1e-9
    assert max(lr) <= 0.01 + 1e-9
    if epochs * steps > 1 and round(peak * epochs * steps, 6) != 1:
        assert lr == by_torch(schedule, epochs, steps)


def by_torch(schedule: Schedule, epochs: int, steps_per_epoch: int) -> list[float]:
    """The rates of torch's OneCycleLR."""
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], betas=(0.9, 0.999))
    cycle = OneCycleLR(
        optimizer,
        max_lr=schedule.max_lr,
        total_steps=epochs * steps_per_epoch,
        pct_start=schedule.peak_epoch / epochs,
        anneal_strategy="cos" if schedule.shape == "cosine" else "linear",
        cycle_momentum=False,
        div_factor=schedule.max_lr / schedule.min_lr if schedule.min_lr else float("inf"),
        final_div_factor=1.0,
    )
    out = [float(cycle.get_last_lr()[0])]
    for _ in range(1, epochs * steps_per_epoch):
        optimizer.step()
        cycle.step()
        out.append(float(cycle.get_last_lr()[0]))
    return out


@pytest.mark.parametrize("name", ["seed", "laptop"])
def test_the_shipped_cycles_are_torchs_to_the_bit(name: str) -> None:
    recipe = load_recipe(name)
    steps = -(-50_000 // recipe.batch_size)
    assert rates(recipe.schedule, recipe.epochs, steps) == by_torch(recipe.schedule, recipe.epochs, steps)


def test_a_group_has_its_initial_rate_times_the_schedules() -> None:
    """One that begins with 1 has the schedule's numbers to the bit; others go along in proportion."""
    weights = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[:1], "lr": 1.0}, {"params": weights[1:], "lr": 0.1}])
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    set_rates([optimizer], rates_at([optimizer], 0.017))
    assert optimizer.param_groups[0]["lr"] == 0.017
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.0017)


def test_a_group_of_the_first_epochs_falls_linearly_to_0() -> None:
    weights = [torch.zeros(1, requires_grad=True)]
    optimizer = torch.optim.SGD([{"params": weights, "lr": 2.0, "epochs": 3.0}])
    optimizer.param_groups[0]["initial_lr"] = 2.0
    found = [rates_at([optimizer], 0.1, epoch=epoch, peak=0.5)[0] for epoch in (0, 1, 1.5, 3, 4)]
    assert found == pytest.approx([1.0, 2 / 3, 0.5, 0, 0])


def test_epochs_of_unequal_length() -> None:
    """The peak is at the end of its epoch, wherever that is among the steps."""
    rate = one_cycle(Schedule(min_lr=0.0, max_lr=1.0, peak_epoch=2), [10, 5, 5])
    lr = [rate(step) for step in range(20)]
    assert int(np.argmax(lr)) == 14
    assert (lr[14], lr[19]) == (pytest.approx(1), pytest.approx(0))
    half = one_cycle(Schedule(min_lr=0.0, max_lr=1.0, peak_epoch=1.4), [10, 5, 5])
    assert int(np.argmax([half(step) for step in range(20)])) == 11


def test_a_rate_that_stays_at_its_peak() -> None:
    held = Schedule(min_lr=0.0, max_lr=1.0, peak_epoch=1, hold_epochs=1.5)
    lr = [one_cycle(held, [10, 4, 6])(step) for step in range(20)]
    rise, top, fall = lr[:9], lr[9:17], lr[16:]
    np.testing.assert_allclose(rise, np.arange(9) / 9)
    assert top == [1.0] * 8  # 4 steps of epoch 2, half of epoch 3's 6
    np.testing.assert_allclose(fall, [1, 2 / 3, 1 / 3, 0], atol=1e-12)


@pytest.mark.parametrize("peak_epoch", [0.0, 1.0])
def test_a_rate_that_stays_at_its_peak_to_the_end(peak_epoch: float) -> None:
    lr = rates(Schedule(max_lr=0.01, peak_epoch=peak_epoch, hold_epochs=4 - peak_epoch), epochs=4, steps_per_epoch=5)
    assert lr[int(5 * peak_epoch) :] == [0.01] * int(20 - 5 * peak_epoch)


def test_a_cycle_of_one_step_is_its_peak() -> None:
    assert rates(Schedule(min_lr=0.0, max_lr=0.01, peak_epoch=0.25), epochs=1, steps_per_epoch=1) == [0.01]


def test_a_rise_of_one_step() -> None:
    lr = rates(Schedule(min_lr=0.0, max_lr=0.01, peak_epoch=0.25), epochs=1, steps_per_epoch=4)
    assert all(np.isfinite(lr))
