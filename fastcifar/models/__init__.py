"""Networks: `build` makes the one that a recipe names."""

from torch import nn

from fastcifar.models.resnet import ResNet
from fastcifar.recipe import Model


def build(config: Model, classes: int) -> nn.Module:
    """The network of `config`: normalised images (B, 3, 32, 32) to logits (B, classes), its weights drawn at random.

    The only place that names a network's class.
    """
    return ResNet(config, classes)


def parameter_count(network: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters())
