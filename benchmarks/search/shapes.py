"""The speedruns' network in other shapes, for the questions of `shapes.toml`; none of them was better, so none ships.

A shape is written as its layers: `w2:1:12` the frozen whitening (side of its patches, stride, filters, each with its
negative), `c32` a convolution 3x3 with batch normalisation and activation, `c32p` the same with a max pooling before
the normalisation, `c32r` with its input added, `s32` with stride 2, `p` a max pooling alone.
"""

import torch
from torch import Tensor, nn

from fastcifar.models.resnet import GlobalMaxPool
from fastcifar.models.speednet import ACTIVATIONS, Block
from fastcifar.recipe import Speednet


class Layer(nn.Module):
    """One convolution of a shape: a `Block`, with stride or its input added if asked for."""

    def __init__(self, channels_in: int, channels_out: int, kind: str, config: Speednet) -> None:
        super().__init__()
        self.block = Block(channels_in, channels_out, config, pool=kind.endswith("p"))
        if kind.startswith("s"):
            self.block.conv.stride = (2, 2)
        self.residual = kind.endswith("r")

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, x if self.residual else None)


class Shape(nn.Module):
    """Normalised images (B, 3, H, W) to logits (B, classes)."""

    def __init__(self, classes: int, layers: str, config: Speednet) -> None:
        super().__init__()
        first, *rest = layers.split()
        self.patch, stride, self.filters = map(int, first[1:].split(":"))
        self.whiten_eps, channels = config.whiten_eps, 2 * self.filters
        self.whiten = nn.Conv2d(3, channels, self.patch, stride, (self.patch - stride) // 2 if stride > 1 else 0)
        self.whiten.requires_grad_(False)
        self.activation = ACTIVATIONS[config.activation]()
        self.layers = nn.Sequential()
        for kind in rest:
            if kind == "p":
                self.layers.append(nn.MaxPool2d(2))
                continue
            width = int(kind.strip("cspr"))
            self.layers.append(Layer(channels, width, kind, config))
            channels = width
        self.pool, self.head = GlobalMaxPool(), nn.Linear(channels, classes, bias=False)
        with torch.no_grad():
            self.head.weight.div_(self.head.weight.std())

    @torch.no_grad()
    def prepare(self, images: Tensor) -> None:
        """The whitening as `SpeedNet.prepare` has it, of the patches' `filters` strongest components."""
        patches = images[:2000].unfold(2, self.patch, 1).unfold(3, self.patch, 1).permute(0, 1, 4, 5, 2, 3)
        patches = patches.reshape(len(patches), 3 * self.patch**2, -1)
        values, vectors = torch.linalg.eigh((patches @ patches.mT).mean(dim=0) / patches.shape[2], UPLO="U")
        filters = (vectors / (values.clamp(min=0) + self.whiten_eps).sqrt()).mT[-self.filters :]
        self.whiten.weight.copy_(torch.cat((filters, -filters)).view_as(self.whiten.weight))

    def forward(self, images: Tensor) -> Tensor:
        x = self.layers(self.activation(self.whiten(images)))
        return self.head(self.pool(x).flatten(1)) / self.head.in_features


def shape(classes: int, layers: str) -> nn.Module:
    """The network of `layers`."""
    return Shape(classes, layers, Speednet(activation="silu"))
