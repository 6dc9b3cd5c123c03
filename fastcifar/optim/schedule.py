"""The one-cycle learning rate, as a function of the step."""

import math
from collections.abc import Callable, Sequence

from fastcifar.recipe import Schedule


def one_cycle(schedule: Schedule, steps: Sequence[int]) -> Callable[[int], float]:
    """The learning rate of step k, from 0: min_lr, up to max_lr at the last step of `peak_epoch`, min_lr at the last.

    Between the two it stays at max_lr for `hold_epochs` more. `steps` are how many each epoch has. No annihilation
    phase below min_lr. Without a hold the same numbers, to the bit, as torch's OneCycleLR, which keeps a state of its
    own and divides by zero at a rise of a single step; such a rise is left out, and a cycle of one step is its peak.
    """
    last = sum(steps) - 1
    share = _share(schedule.peak_epoch, steps)  # of the cycle: its rise
    if last == 0 or round(share * (last + 1), 6) == 1:
        share = 0.0
    peak = float(share * (last + 1)) - 1  # the step of the highest rate; -1 without a rise
    fall = peak  # the last step at that rate
    if schedule.hold_epochs:
        fall = float(_share(schedule.peak_epoch + schedule.hold_epochs, steps) * (last + 1)) - 1
    high = schedule.max_lr
    # OneCycleLR is given the ratio of the two, and divides by it.
    low = high / (high / schedule.min_lr) if schedule.min_lr else 0.0
    between = _cosine if schedule.shape == "cosine" else _linear

    def rate(step: int) -> float:
        if last == 0:
            return high
        if step <= peak:
            return between(low, high, step / peak)
        if step <= fall:
            return high
        return between(high, low, (step - fall) / (last - fall))

    return rate


def _share(epochs: float, steps: Sequence[int]) -> float:
    """Of all steps, those in the first so many epochs."""
    if len(set(steps)) == 1:
        return epochs / len(steps)
    whole = int(epochs)
    part = (epochs - whole) * steps[whole] if whole < len(steps) else 0.0
    return (sum(steps[:whole]) + part) / sum(steps)


def _linear(start: float, end: float, share: float) -> float:
    return (end - start) * share + start


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
