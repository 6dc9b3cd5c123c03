"""The custom ResNet: prep, three layers at 2, 4 and 8 times the width, max pooling, one linear layer.

After the DAWNBench network of David Page (myrtle.ai, "How to train your ResNet", 2018). Two published forms: with a
residual block in layers 1 and 3 (6,575,370 parameters at width 64), and in layer 2 as well (7,756,554).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastcifar.models.batch_norm import BatchNorm2d
from fastcifar.models.conv import Conv2d
from fastcifar.models.pool import MaxPool2
from fastcifar.recipe import Resnet


class ConvBlock(nn.Sequential):
    """Conv 3x3 (stride 1, padding 1) -> [MaxPool 2] -> BatchNorm -> ReLU."""

    def __init__(self, channels_in: int, channels_out: int, *, bias: bool, pool: bool = False) -> None:
        super().__init__()
        self.conv = Conv2d(channels_in, channels_out, bias=bias)
        if pool:
            self.pool = MaxPool2()
        self.norm = BatchNorm2d(channels_out)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.conv.bias
        if bias is None or not (self.norm.training and isinstance(self.norm, BatchNorm2d)):
            return super().forward(x)
        x = self.conv(x, biased=False)
        if "pool" in self._modules:
            x = self.pool(x)
        return self.relu(self.norm(x, bias))


class Residual(nn.Sequential):
    """x + two convolution blocks of x."""

    def __init__(self, channels: int, *, bias: bool) -> None:
        super().__init__(ConvBlock(channels, channels, bias=bias), ConvBlock(channels, channels, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Layer(nn.Sequential):
    """A pooled convolution block, and a residual block after it if asked for."""

    def __init__(self, channels_in: int, channels_out: int, *, residual: bool, bias: bool) -> None:
        super().__init__()
        self.block = ConvBlock(channels_in, channels_out, bias=bias, pool=True)
        if residual:
            self.residual = Residual(channels_out, bias=bias)


class GlobalMaxPool(nn.Module):
    """Feature maps (B, C, H, W) to the largest value of each, (B, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        # Not amax, which shares a gradient among equal values: the first has it all, as with MaxPool 4 of 4x4.
        return F.max_pool2d(x, x.shape[2:])


class ResNet(nn.Module):
    """Images (B, 3, H, W), normalised, H and W at least 8, to logits (B, classes)."""

    def __init__(self, config: Resnet, classes: int = 10) -> None:
        super().__init__()
        width, bias = config.width, config.conv_bias
        self.prep = ConvBlock(3, width, bias=bias)
        self.layer1 = Layer(width, 2 * width, residual=True, bias=bias)
        self.layer2 = Layer(2 * width, 4 * width, residual=config.layer2_residual, bias=bias)
        self.layer3 = Layer(4 * width, 8 * width, residual=True, bias=bias)
        self.pool = GlobalMaxPool()
        self.head = nn.Linear(8 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.prep(images)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.head(self.pool(x).flatten(1))

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Class probabilities (B, classes) of normalised images (B, 3, H, W): the softmax of the logits."""
        return self(images).softmax(dim=1)
