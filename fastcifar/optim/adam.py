"""Adam over all of a network's parameters."""

import torch
from torch import nn

from fastcifar.optim.groups import param_groups, trained
from fastcifar.recipe import Adam


def adam(network: nn.Module, config: Adam) -> list[torch.optim.Optimizer]:
    """torch's Adam, fused, at the rate 1, which the schedule multiplies."""
    return [
        torch.optim.Adam(
            param_groups(network, trained(network)),
            lr=1.0,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
        )
    ]
