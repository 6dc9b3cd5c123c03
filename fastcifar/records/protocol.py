"""How long a recipe takes to an accuracy, over several seeds: the two protocols and their statistics.

`first-crossing` is DAWNBench's time to accuracy: the training seconds at the end of the first epoch whose test accuracy
is at least the target. `fixed-budget` is the whole recipe's training seconds and its final evaluation's; it holds only
if the mean final accuracy is at least the target by a one-sided t-test at p < 0.01.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Literal

from fastcifar.training.log import EpochTimes, epochs_to

# scipy is imported where it is used: --help must not wait for it.

ProtocolName = Literal["first-crossing", "fixed-budget"]
P_LIMIT = 0.01
MANY_RUNS = 10_000


def first_crossing(epochs: Sequence[EpochTimes], target: float) -> float | None:
    """Training seconds at the end of the first epoch whose test accuracy is at least `target`; None if none is."""
    number = epochs_to(target, epochs)
    return None if number is None else math.fsum(past.train_seconds for past in epochs[:number])


def fixed_budget(epochs: Sequence[EpochTimes]) -> float:
    """Training seconds of all epochs and the seconds of the last evaluation."""
    return math.fsum(epoch.train_seconds for epoch in epochs) + (epochs[-1].eval_seconds or 0.0)


def interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean of `values` and the ends of its 95 % confidence interval (Student's t), None for a single value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None, None
    from scipy import special

    half = float(special.stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def p_below(accuracies: Sequence[float], target: float) -> float | None:
    """p of the one-sided t-test against a true mean accuracy of `target` or less.

    None where there is none: for fewer than two runs, and for equal accuracies, whose spread, by which the test
    measures the mean's distance, is unknown: that it was not seen does not make it 0.
    """
    if len(accuracies) < 2 or not (spread := statistics.stdev(accuracies)):
        return None
    return _p(statistics.fmean(accuracies), spread, len(accuracies), target)


def runs_to_settle(accuracies: Sequence[float], target: float) -> int | None:
    """Of how many runs like these, at least as many, p is below 0.01: None if of none up to 10,000, or there is no p.

    They are a new record's: of runs that are added to these after a look, p is too small. Of 4,000 recipes whose mean
    is the target itself, 5 runs each and then up to 50, as many as this says, had 3 % a p below 0.01.
    """
    if len(accuracies) < 2 or not (spread := statistics.stdev(accuracies)):
        return None
    mean = statistics.fmean(accuracies)
    for runs in range(len(accuracies), MANY_RUNS + 1):
        if _p(mean, spread, runs, target) < P_LIMIT:
            return runs
    return None


def _p(mean: float, spread: float, runs: int, target: float) -> float:
    from scipy import special

    return float(special.stdtr(runs - 1, (target - mean) / (spread / math.sqrt(runs))))
