"""Optimizers and the schedule of their learning rates: `make` gives those that a recipe names."""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from fastcifar.optim.adam import adam
from fastcifar.recipe import Recipe


def make(network: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """The recipe's optimizers over the parameters of `network`. The only place that names an optimizer.

    A group's rate is its initial one where the schedule is at its peak: see `set_rates`.
    """
    optimizers = [adam(network, recipe.optimizer, max_lr=recipe.schedule.max_lr)]
    for group in groups(optimizers):
        group["initial_lr"] = group["lr"]
    return optimizers


def groups(optimizers: Sequence[torch.optim.Optimizer]) -> Iterable[dict]:
    """The parameter groups of all of them."""
    return (group for optimizer in optimizers for group in optimizer.param_groups)


def set_rates(optimizers: Sequence[torch.optim.Optimizer], rate: float, max_lr: float) -> None:
    """Give every group the learning rate that `rate` of the schedule is to it: its initial one at `max_lr`.

    A group whose initial rate is max_lr gets `rate` to the bit.
    """
    for group in groups(optimizers):
        group["lr"] = rate * (group["initial_lr"] / max_lr)
