"""A network and a custom optimizer:

fastcifar train --model examples/own_net.py:Net --model.width 32 --optimizer examples/own_net.py:make --epochs 3
"""

from itertools import pairwise

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """Normalised images (B, 3, H, W) to logits (B, classes): three convolutions, each of which halves the sides."""

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        channels = [3, width, 2 * width, 4 * width]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(b), nn.ReLU())
                for a, b in pairwise(channels)
            )
        )
        self.head = nn.Linear(channels[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layers(images).mean(dim=(2, 3)))


def make(network: nn.Module, lr: float = 0.05) -> torch.optim.Optimizer:
    """SGD, whose rate the recipe's schedule scales."""
    return torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)


def brighter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image a little brighter or darker, for --augmentation.own examples/own_net.py:brighter."""
    shift = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) - 0.5
    return images + 0.2 * shift.to(images.dtype)
