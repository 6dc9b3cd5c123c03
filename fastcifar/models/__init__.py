"""Networks: `build` makes the one that a recipe names."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fastcifar.errors import InputError
from fastcifar.models.resnet import ResNet
from fastcifar.models.speednet import SpeedNet
from fastcifar.own import NetworkFactory, called
from fastcifar.recipe.tables import AnyModel, OwnModel, Resnet, Speednet

PREPARED_BY = 5000  # training images that an initialisation may look at

_SHIPPED: dict[type, Callable[[Any, int], nn.Module]] = {Resnet: ResNet, Speednet: SpeedNet}


def build(config: AnyModel, classes: int, own: NetworkFactory | None = None) -> nn.Module:
    """The network of `config`: normalised images (B, 3, H, W) to logits (B, classes), its weights drawn at random.

    `own` is the code of a network that does not ship. Raises `InputError` where it is missing or gives no network.
    """
    if not isinstance(config, OwnModel):
        return _SHIPPED[type(config)](config, classes)
    if own is None:
        raise InputError(f"{config.name}: a custom network, whose code is needed")
    network = called(config.name, lambda: own(classes))
    if not isinstance(network, nn.Module):
        raise InputError(f"{config.name}: gives a {type(network).__name__}, not a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError(f"{config.name}: a network without parameters to train")
    return network


def prepare(network: nn.Module, images: Tensor) -> None:
    """Let an initialisation that looks at data do so: `network.prepare`, if it has that.

    `images` (n, 3, 32, 32) float32 are normalised training images, on the network's device. It belongs to the drawing
    of the weights, after every `build` that is to be trained.
    """
    if prepares(network):
        network.prepare(images)  # type: ignore[operator]


def prepares(network: nn.Module) -> bool:
    """Whether its initialisation looks at images."""
    return callable(getattr(network, "prepare", None))


def require_logits(network: nn.Module, name: str, classes: int, sides: Iterable[int], device: torch.device) -> None:
    """Try a custom network on images of these sides. Raises `InputError` where it gives no logits."""
    was_training = network.training
    network.eval()
    for side in sides:
        images = torch.zeros(2, 3, side, side, device=device).to(memory_format=torch.channels_last)
        with torch.no_grad():
            logits = called(f"{name}, of images (2, 3, {side}, {side})", partial(network, images))
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if found != (2, classes):
            raise InputError(
                f"{name}: of images (2, 3, {side}, {side}) it gives {found}; logits (2, {classes}) are needed"
            )
        if not logits.is_floating_point():
            raise InputError(f"{name}: its logits are {logits.dtype}; floating point numbers are needed")
    network.train(was_training)


def parameter_count(network: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
