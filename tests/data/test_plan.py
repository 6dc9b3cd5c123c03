"""The plan: uniform, independent, complete, and the same wherever one starts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from fastcifar.data.plan import EpochPlan, Plans, draw_plan
from fastcifar.recipe import Augmentation

N = 50_000


def p_value(values: np.ndarray, kinds: int) -> float:
    """Chi-square test that `values` are uniform over 0..kinds-1."""
    counts = np.bincount(values, minlength=kinds)
    assert len(counts) == kinds  # none out of range
    expected = len(values) / kinds
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), kinds - 1))


@pytest.mark.parametrize("pad", [1, 4, 8])
def test_crop_offsets_are_uniform(pad: int) -> None:
    plan = draw_plan(N, Augmentation(pad=pad), seed=1, epoch=3)
    side = 2 * pad + 1
    assert p_value(plan.crop[:, 0] * side + plan.crop[:, 1], side * side) > 0.001


@pytest.mark.parametrize("cutout", [1, 8, 31])
def test_cutout_corners_are_uniform_and_inside(cutout: int) -> None:
    plan = draw_plan(N, Augmentation(cutout=cutout), seed=1, epoch=3)
    side = 33 - cutout
    assert p_value(plan.cutout[:, 0] * side + plan.cutout[:, 1], side * side) > 0.001


@pytest.mark.parametrize("flip", ["random", "alternating"])
def test_half_of_the_images_are_flipped(flip: str) -> None:
    plan = draw_plan(N, Augmentation(flip=flip), seed=1, epoch=3)  # type: ignore[arg-type]
    assert p_value(plan.flip.astype(int), 2) > 0.001


def test_no_flip() -> None:
    assert not draw_plan(N, Augmentation(flip="none"), seed=1, epoch=3).flip.any()


def test_nothing_to_choose_from() -> None:
    plan = draw_plan(100, Augmentation(pad=0, cutout=32), seed=1, epoch=3)
    assert not plan.crop.any()
    assert not plan.cutout.any()


def test_first_image_of_an_epoch_is_uniform() -> None:
    first = np.array([draw_plan(10, Augmentation(), seed=seed, epoch=2).indices[0] for seed in range(5000)])
    assert p_value(first, 10) > 0.001


def by_image(plan: EpochPlan, values: np.ndarray) -> np.ndarray:
    out = np.empty_like(values)
    out[plan.indices] = values
    return out


def test_epochs_and_seeds_are_independent() -> None:
    plans = [draw_plan(N, Augmentation(), seed=seed, epoch=epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1))]
    for i, one in enumerate(plans):
        for other in plans[i + 1 :]:
            pairs = by_image(one, one.flip) * 2 + by_image(other, other.flip)
            assert p_value(pairs, 4) > 0.001
            rows = by_image(one, one.crop)[:, 0] * 9 + by_image(other, other.crop)[:, 0]
            assert p_value(rows, 81) > 0.001
            assert abs(np.corrcoef(one.indices, other.indices)[0, 1]) < 0.02


def test_draws_of_one_epoch_are_independent() -> None:
    plan = draw_plan(N, Augmentation(cutout=24), seed=5, epoch=0)
    assert p_value(plan.flip * 81 + plan.crop[:, 0] * 9 + plan.cutout[:, 0], 162) > 0.001


@given(n=st.integers(1, 300), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 10_000))
def test_every_image_once(n: int, seed: int, epoch: int) -> None:
    plan = draw_plan(n, Augmentation(), seed=seed, epoch=epoch)
    assert sorted(plan.indices.tolist()) == list(range(n))


@given(seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 1000))
def test_alternating_flips_turn_every_image(seed: int, epoch: int) -> None:
    augmentation = Augmentation(flip="alternating")
    one = draw_plan(64, augmentation, seed=seed, epoch=epoch)
    other = draw_plan(64, augmentation, seed=seed, epoch=epoch + 1)
    assert (by_image(one, one.flip) != by_image(other, other.flip)).all()


@given(n=st.integers(1, 200), batch=st.integers(1, 64), start=st.integers(0, 8), seed=st.integers(0, 100))
def test_a_slice_from_any_start_is_the_wholes(n: int, batch: int, start: int, seed: int) -> None:
    whole = draw_plan(n, Augmentation(), seed=seed, epoch=1)
    all_batches = list(whole.batches(batch))
    resumed = list(draw_plan(n, Augmentation(), seed=seed, epoch=1)[start * batch :].batches(batch))
    assert len(resumed) == max(0, len(all_batches) - start)
    for one, other in zip(all_batches[start:], resumed, strict=True):
        for field in ("indices", "crop", "flip", "cutout", "jitter"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    assert sum(len(part) for part in all_batches) == n


def test_one_choice_leaves_the_other_draws_as_they_were() -> None:
    one = draw_plan(100, Augmentation(pad=4, flip="random", cutout=8), seed=3, epoch=2)
    other = draw_plan(100, Augmentation(pad=2, flip="none", cutout=8), seed=3, epoch=2)
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.cutout, other.cutout)
    assert not np.array_equal(one.crop, other.crop)


def test_jitter_is_uniform_between_its_ends_and_none_at_0() -> None:
    plan = draw_plan(N, Augmentation(brightness=0.2, contrast=0.1), seed=1, epoch=3)
    added, factor = plan.jitter.T
    for values in ((added + 0.2) / 0.4, (factor - 0.9) / 0.2):
        assert p_value((values * 9.999).astype(int), 10) > 0.001
    assert abs(np.corrcoef(added, factor)[0, 1]) < 0.02
    none = draw_plan(N, Augmentation(), seed=1, epoch=3)
    np.testing.assert_array_equal(none.jitter, np.tile([0.0, 1.0], (N, 1)))
    np.testing.assert_array_equal(none.crop, plan.crop)
    alone = draw_plan(N, Augmentation(brightness=0.2), seed=1, epoch=3)
    np.testing.assert_array_equal(alone.jitter[:, 0], added)


def test_a_plan_drawn_ahead_is_that_of_its_turn() -> None:
    plans = Plans(50, Augmentation())
    ahead = plans.drawn_ahead(3, 1)
    assert plans.of(3, 1) is ahead
    assert len(plans) == 50
    plans.drawn_ahead(3, 1)
    for seed, epoch in ((3, 0), (3, 1), (3, 1), (4, 1)):
        found, wanted = plans.of(seed, epoch), draw_plan(50, Augmentation(), seed=seed, epoch=epoch)
        assert all(
            np.array_equal(one, other) for one, other in zip(vars(found).values(), vars(wanted).values(), strict=True)
        )


def test_a_plan_never_changes() -> None:
    """Records and resumed runs rest on it: a change of these numbers needs a new format."""
    plan = draw_plan(8, Augmentation(flip="alternating"), seed=7, epoch=3)
    assert plan.indices.tolist() == [4, 3, 5, 6, 0, 7, 1, 2]
    assert plan.crop.tolist() == [[8, 1], [7, 4], [6, 2], [5, 4], [5, 0], [1, 4], [1, 0], [3, 5]]
    assert plan.flip.astype(int).tolist() == [1, 1, 0, 1, 1, 0, 1, 1]
    assert plan.cutout.tolist() == [[24, 20], [6, 1], [20, 16], [16, 0], [21, 12], [18, 24], [4, 15], [6, 24]]
    jitter = draw_plan(2, Augmentation(brightness=2.0, contrast=0.5), seed=7, epoch=3).jitter
    assert jitter.dtype == np.float32
    np.testing.assert_allclose(jitter, [[0.49121144, 0.76227093], [0.33048677, 1.1127999]], rtol=1e-6)
