"""Adam over all of a network's parameters."""

import torch
from torch import nn

from fastcifar.recipe import Optimizer


def adam(network: nn.Module, config: Optimizer, *, max_lr: float) -> torch.optim.Optimizer:
    """torch's Adam, fused, at the initial rate `max_lr`, which the schedule scales."""
    return torch.optim.Adam(
        network.parameters(),
        lr=max_lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )
