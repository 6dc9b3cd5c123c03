"""What training costs in floating-point operations: those of matrix products and convolutions, which are nearly all.

They are counted by torch's FlopCounterMode, in which a multiplication and an addition are two. No hardware changes
them.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from fastcifar import models, optim
from fastcifar.optim.muon import Muon
from fastcifar.own import OwnCode
from fastcifar.recipe import OwnModel, OwnOptimizer, Recipe
from fastcifar.training.state import random_state_kept

_IMAGES = 2  # batch normalisation takes no single one
_ALONE = threading.RLock()  # of threads one counts at a time: torch's stance and its generators are those of all


def flops_per_image(network: nn.Module, side: int = 32) -> float:
    """Operations of a training step for an image (3, side, side), forward and backward, on the network's device.

    What is frozen costs no gradient; the loss's own are none to speak of. The network, its buffers, its gradients and
    torch's random state stay as they are.
    """
    modes = [(module, module.training) for module in network.modules()]
    first = next(network.parameters())
    tensors: dict[str, Tensor] = {}
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        tensors[name] = tensor.detach().clone().requires_grad_(tensor.requires_grad)
    with _uncompiled(), random_state_kept(first.device):
        images = torch.randn(_IMAGES, 3, side, side, device=first.device)
        try:
            network.train()
            with FlopCounterMode(display=False) as counter:
                torch.func.functional_call(network, tensors, (images,)).sum().backward()
        finally:
            for module, training in modes:
                module.training = training
    return counter.get_total_flops() / _IMAGES


def flops_by_epoch(network: nn.Module, recipe: Recipe) -> list[float]:
    """`flops_per_image` in each epoch of the recipe, at the size that its images have there."""
    sides = [recipe.image_size_of(epoch) for epoch in range(recipe.epochs)]
    found = {side: flops_per_image(network, side) for side in set(sides)}
    return [found[side] for side in sides]


def optimizer_flops(optimizers: Sequence[torch.optim.Optimizer]) -> float:
    """Operations of a step of them all, Muon's Newton-Schulz say; whose update is elementwise has none.

    The step is taken, with made-up gradients: the network is changed, and none that anybody trains.
    """
    with _uncompiled():
        for group in optim.groups(optimizers):
            for parameter in group["params"]:
                parameter.grad = torch.ones_like(parameter)
        with FlopCounterMode(display=False) as counter:
            for optimizer in optimizers:
                optimizer.step()
    return float(counter.get_total_flops())


def work_of(recipe: Recipe, *, classes: int, own: OwnCode, device: torch.device) -> tuple[list[float], float]:
    """`flops_by_epoch` and `optimizer_flops` of a recipe's training.

    They are counted on a network and optimizers that are made anew for it, so that those of a run, and what was
    compiled of them, stay untouched.
    """
    with _ALONE, random_state_kept(device):
        network = models.build(recipe.model, classes, own.model).to(device)
        by_epoch = flops_by_epoch(network, recipe)
        return by_epoch, optimizer_flops(optim.make(network, recipe, own.optimizer))


def recounted(recipe: Recipe, *, classes: int) -> tuple[list[float] | None, float | None]:
    """`work_of` a recipe of somebody else's, without the memory and the time that its network may take; None where
    that needs code of their own, which is not run."""
    with FakeTensorMode(allow_fallback_kernels=False):
        if isinstance(recipe.model, OwnModel):
            return None, None
        network = models.build(recipe.model, classes)
        by_epoch = flops_by_epoch(network, recipe)
        if isinstance(recipe.optimizer, OwnOptimizer):
            return by_epoch, None
        # torch's own are elementwise; and its fused SGD is not there without memory.
        return by_epoch, optimizer_flops([one for one in optim.make(network, recipe) if isinstance(one, Muon)])


@contextlib.contextmanager
def _uncompiled() -> Iterator[None]:
    """Compiled functions run as they were written: torch counts nothing inside of them, or refuses."""
    with _ALONE, contextlib.ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # else nothing is compiled; to ask would import it
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield
