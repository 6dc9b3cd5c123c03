"""The two protocols and their statistics, against numbers worked out elsewhere."""

from dataclasses import dataclass

import pytest
from scipy import stats

from fastcifar.records.protocol import first_crossing, fixed_budget, interval, p_below, runs_to_settle


@dataclass(frozen=True)
class Line:
    train_seconds: float
    test_accuracy: float
    eval_seconds: float | None = 1.0


LOG = [Line(10, 0.5), Line(11, 0.9), Line(12, 0.89), Line(13, 0.93, 2.0)]


@pytest.mark.parametrize(("target", "seconds"), [(0.4, 10), (0.9, 21), (0.91, 46), (0.95, None)])
def test_first_crossing_is_the_end_of_the_first_epoch_at_the_target(target: float, seconds: float | None) -> None:
    assert first_crossing(LOG, target) == seconds


def test_fixed_budget_is_all_training_and_the_last_evaluation() -> None:
    assert fixed_budget(LOG) == 10 + 11 + 12 + 13 + 2


def test_interval_of_a_textbook_sample() -> None:
    """Mean 5, standard deviation 2.138, n 8: half-width 2.365 * 2.138 / sqrt(8) (Student's t, 7 degrees)."""
    mean, low, high = interval([2, 4, 4, 4, 5, 5, 7, 9])
    assert mean == 5
    assert low == pytest.approx(5 - 1.7875, abs=1e-3)
    assert high == pytest.approx(5 + 1.7875, abs=1e-3)
    assert interval([3.0]) == (3.0, None, None)


def test_p_is_scipys_one_sided_test() -> None:
    accuracies = [0.941, 0.9405, 0.9392, 0.9411, 0.9403]
    expected = stats.ttest_1samp(accuracies, 0.94, alternative="greater").pvalue
    assert p_below(accuracies, 0.94) == pytest.approx(expected, rel=1e-9)
    assert p_below([0.95], 0.94) is None


def test_equal_accuracies_have_no_p() -> None:
    """However many: two runs that happen to be equal are no surer than two that are not."""
    for accuracies in ([0.95, 0.95], [0.94, 0.94], [0.1] * 10):
        assert p_below(accuracies, 0.94) is None
        assert runs_to_settle(accuracies, 0.94) is None


def test_how_many_runs_settle_it() -> None:
    unsettled = [0.941, 0.9395, 0.9412, 0.94]
    needed = runs_to_settle(unsettled, 0.94)
    assert needed is not None
    assert needed > 4
    mean, spread = sum(unsettled) / 4, stats.tstd(unsettled)

    def p(runs: int) -> float:
        return float(stats.t.sf((mean - 0.94) / (spread / runs**0.5), runs - 1))

    assert p(needed) < 0.01 <= p(needed - 1)
    assert runs_to_settle([0.95, 0.951, 0.95], 0.9) == 3
    assert runs_to_settle([0.93, 0.931], 0.94) is None
