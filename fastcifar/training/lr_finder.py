"""The learning-rate range test: the rate rises step by step, and how the loss falls says how high it may go.

Leslie N. Smith, *Cyclical Learning Rates for Training Neural Networks*, arXiv 1506.01186, section 3.3.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastcifar.errors import InputError, RunError
from fastcifar.training.clock import Clock
from fastcifar.training.trainer import Trainer

STEPS = 100
MOST_STEPS = 100_000
SMOOTHING = 0.9  # decay of the running mean of the loss
DIVERGED = 4.0  # times the lowest smoothed loss: the end of the test
LEAST_FALL = 0.1  # of the first loss; a smaller fall may be chance
# Where in the flat valley before its rise the loss is lowest is chance; where the fall into it ends is not.
FALLEN = 0.95  # of the way to the lowest smoothed loss: the rate at which this is first passed is LRMAX
RATIO = 50  # LRMAX / LRMIN, as in the recipe `seed`


@dataclass(frozen=True)
class LrRange:
    """What a range test found: LRMIN and LRMAX (two significant digits), the rule that chose them, and each step's
    learning rate, loss and smoothed loss. `seconds` is what the test took."""

    min_lr: float
    max_lr: float
    learning_rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    rule: str
    seed: int
    seconds: float = field(compare=False)

    @property
    def lowest(self) -> int:
        """The step, from 0, whose smoothed loss is the lowest."""
        return self.smoothed.index(min(value for value in self.smoothed if math.isfinite(value)))

    def note(self) -> dict[str, Any]:
        """What run.json says of it: all but the values."""
        return {
            "min_lr": self.min_lr,
            "max_lr": self.max_lr,
            "rule": self.rule,
            "seed": self.seed,
            "steps": len(self.losses),
            "seconds": self.seconds,
        }


def find_lr(
    trainer: Trainer,
    *,
    start_lr: float | None = None,
    end_lr: float | None = None,
    steps: int = STEPS,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> LrRange:
    """Train a step at each of `steps` rates from `start_lr` to `end_lr`, in equal factors; choose LRMIN and LRMAX.

    By default from 1e-5 to 1; for an optimizer that brings its rates, the factors of these from 0.001 to 100.
    The network is the trainer's as it is, the batches those of its recipe's first epochs, augmentation and seed
    included; the test images are not looked at. It ends early where the smoothed loss is over 4 times its lowest, or
    not finite. `progress` is told each step done, from 1, and how many there are. Afterwards the trainer is as before,
    bit for bit. Raises `RunError` where the loss does not fall, or falls to the end of the rates, and `InputError` at
    fewer than two steps or rates that do not rise.
    """
    clock = Clock(trainer.device)
    brings = trainer.recipe.optimizer.brings_rates
    low = start_lr if start_lr is not None else 1e-3 if brings else 1e-5
    high = end_lr if end_lr is not None else 100.0 if brings else 1.0
    if not 0 < low < high < math.inf:
        raise InputError(f"start_lr {low:g}, end_lr {high:g}: the rates must be above 0 and rise")
    if not isinstance(steps, int) or not 2 <= steps <= MOST_STEPS:
        raise InputError(f"steps {steps}: must be between 2 and {MOST_STEPS:,}")
    rates = [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]
    smoothed: list[float] = []
    mean = 0.0

    def stop(loss: float) -> bool:
        nonlocal mean
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smoothed.append(mean / (1 - SMOOTHING ** (len(smoothed) + 1)))  # without the bias of its start at zero
        progress(len(smoothed), steps)
        return not math.isfinite(loss) or smoothed[-1] > DIVERGED * min(smoothed)

    losses = trainer.losses_at(rates, stop)
    rates = rates[: len(losses)]
    max_lr = _rounded(_end_of_fall(rates, smoothed))
    return LrRange(
        min_lr=_rounded(max_lr / RATIO),
        max_lr=max_lr,
        learning_rates=tuple(rates),
        losses=tuple(losses),
        smoothed=tuple(smoothed),
        rule=f"LRMAX is the rate at which the smoothed loss had fallen {FALLEN:.0%} of the way to its lowest, LRMIN is "
        f"LRMAX / {RATIO}",
        seed=trainer.recipe.seed,
        seconds=clock.seconds(),
    )


def _end_of_fall(rates: list[float], smoothed: list[float]) -> float:
    """The first rate at which the smoothed loss is `FALLEN` of the way down. Raises `RunError` where there is none."""
    first, lowest = smoothed[0], min((value for value in smoothed if math.isfinite(value)), default=math.inf)
    tried = f"the range test found no learning rate: from {rates[0]:.2g} to {rates[-1]:.2g} the loss"
    if not lowest <= (1 - LEAST_FALL) * first:
        raise RunError(
            f"{tried} was never {LEAST_FALL:.0%} below its first value, {first:.3g}; set schedule.min_lr and max_lr"
        )
    if smoothed[-1] == lowest:
        raise RunError(
            f"{tried} fell to the end; train on more images, take more steps, end at a higher rate, or set "
            "schedule.min_lr and max_lr"
        )
    return next(rate for rate, value in zip(rates, smoothed, strict=True) if value <= first - FALLEN * (first - lowest))


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")
