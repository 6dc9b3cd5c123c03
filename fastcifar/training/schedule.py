"""The one-cycle learning rate."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from fastcifar.recipe import Schedule


def one_cycle(optimizer: Optimizer, schedule: Schedule, *, epochs: int, steps_per_epoch: int) -> OneCycleLR:
    """torch's OneCycleLR from min_lr to max_lr, at the last step of `peak_epoch`, and back to min_lr at the last step.

    No annihilation phase below min_lr, and Adam's beta1 stays as it is. Raises `InputError` at a rate to be found.
    """
    total_steps = epochs * steps_per_epoch
    pct_start = schedule.peak_epoch / epochs
    min_lr, max_lr = schedule.rates()
    if round(pct_start * total_steps, 6) == 1:
        pct_start = 0.0  # OneCycleLR divides by zero at a rise of a single step: leave it out
    if total_steps == 1:
        pct_start, min_lr = 0.0, max_lr  # the only step is the peak
    return OneCycleLR(
        optimizer,
        max_lr=max_lr,
        total_steps=total_steps,
        pct_start=pct_start,
        anneal_strategy="cos" if schedule.shape == "cosine" else "linear",
        cycle_momentum=False,
        div_factor=max_lr / min_lr if min_lr else float("inf"),
        final_div_factor=1.0,
    )
