"""A running average of a network's weights and batch statistics.

`ema`: an exponential moving average, as hlb-CIFAR10 tests it (github.com/tysam-code/hlb-CIFAR10). `lookahead`: the
network is set back to it each time, after Zhang et al. 2019, "Lookahead Optimizer", arXiv 1907.08610, in the form of
airbench (Keller Jordan, arXiv 2404.00498), which averages the batch statistics too.
"""

import copy

import torch
from torch import Tensor, nn

from fastcifar.own import called
from fastcifar.recipe import Average


class WeightAverage:
    """`network` averaged as `config` says, over `steps` optimizer steps in all.

    `averaged` is a network of its own, what is tested and kept: parameters and floating-point buffers are averaged in
    place, other buffers copied. Before the first update it is the network as it was at first; at the end it is as the
    last update left it, also where steps follow that one, as in airbench. Nothing makes the host wait for the device;
    torch's own AveragedModel would, since it keeps its count there, and its first update always copies. Raises
    `InputError` where `network`, a custom one, cannot be copied.
    """

    def __init__(self, network: nn.Module, config: Average, steps: int) -> None:
        self._network, self._config, self._steps = network, config, steps
        self.averaged = called("average: a copy of the network", lambda: copy.deepcopy(network)).requires_grad_(False)

    def reset(self) -> None:
        """Begin again from the network as it is."""
        _move(self.averaged, self._network, 1.0)

    def after_step(self, step: int) -> None:
        """To be told after each optimizer step how many have been taken; updates every `every` of them.

        The average keeps the share decay ** every * (step / steps) ** ramp of itself.
        """
        every = self._config.every
        if step % every:
            return
        kept = self._config.decay**every * (step / self._steps) ** self._config.ramp
        _move(self.averaged, self._network, 1 - kept)
        if self._config.name == "lookahead":
            _move(self._network, self.averaged, 1.0)


@torch.no_grad()
def _move(network: nn.Module, towards: nn.Module, share: float) -> None:
    """Move `network` in place by `share` of the way, 1 being a copy; whole numbers, such as counts, are copied."""
    pairs = list(zip(_tensors(network), _tensors(towards), strict=True))
    moving = [one for one, _ in pairs if one.is_floating_point()]
    ends = [other for one, other in pairs if one.is_floating_point()]
    if share == 1:
        torch._foreach_copy_(moving, ends)  # lerp would keep what is NaN
    else:
        torch._foreach_lerp_(moving, ends, share)
    for one, other in pairs:
        if not one.is_floating_point():
            one.copy_(other)


def _tensors(network: nn.Module) -> list[Tensor]:
    """Each once, unlike state_dict, which has a weight that two layers share under both names."""
    return [*network.parameters(), *network.buffers()]
