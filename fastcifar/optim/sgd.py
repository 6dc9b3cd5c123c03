"""SGD with momentum, its rates by kind of parameter."""

import torch
from torch import nn

from fastcifar.errors import InputError
from fastcifar.optim.groups import kinds, param_groups
from fastcifar.recipe import Sgd


def sgd(network: nn.Module, config: Sgd) -> list[torch.optim.Optimizer]:
    """torch's SGD, fused: weights at the rate 1, which the schedule multiplies, and the other kinds at theirs.

    Raises `InputError` at Nesterov's momentum without one.
    """
    if config.nesterov and config.momentum == 0:
        raise InputError("optimizer.nesterov: looks ahead by the momentum, which is 0; set nesterov to false")
    of = kinds(network)
    decay = config.weight_decay
    groups = [
        *param_groups(network, of.weights, lr=1.0, weight_decay=decay),
        *param_groups(network, of.biases, lr=config.bias_rate, weight_decay=0.0),
        *param_groups(network, of.norms, lr=config.norm_rate, weight_decay=0.0),
        *param_groups(network, of.head, lr=config.head_rate, weight_decay=decay),
    ]
    return [torch.optim.SGD(groups, lr=1.0, momentum=config.momentum, nesterov=config.nesterov, fused=True)]
