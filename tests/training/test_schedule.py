"""One cycle: from min_lr up to max_lr at the end of the peak epoch, and back to min_lr."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastcifar.recipe import Schedule
from fastcifar.training.schedule import one_cycle


def rates(schedule: Schedule, epochs: int, steps_per_epoch: int) -> list[float]:
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1, betas=(0.9, 0.999))
    cycle = one_cycle(optimizer, schedule, epochs=epochs, steps_per_epoch=steps_per_epoch)
    out = []
    for step in range(epochs * steps_per_epoch):
        if step:
            optimizer.step()
            cycle.step()
        out.append(float(optimizer.param_groups[0]["lr"]))
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    return out


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


def test_a_cycle_of_one_step_is_its_peak() -> None:
    assert rates(Schedule(min_lr=0.0, max_lr=0.01, peak_epoch=0.25), epochs=1, steps_per_epoch=1) == [0.01]


def test_a_rise_of_one_step() -> None:
    lr = rates(Schedule(min_lr=0.0, max_lr=0.01, peak_epoch=0.25), epochs=1, steps_per_epoch=4)
    assert all(np.isfinite(lr))
