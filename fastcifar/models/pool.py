"""Max pooling of the networks, faster where torch.compile writes its kernels for a GPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class MaxPool2(nn.Module):
    """Feature maps (B, C, H, W) to the largest of every two by two, (B, C, H // 2, W // 2): torch's MaxPool2d(2).

    Of equal values the first has the gradient, as with torch's, whose kernel that inductor writes for the gradient
    spends its time on finding out which windows a value is in: of 512 images of 32x32 and 128 channels it takes 172
    microseconds on an H100, where what it reads and writes takes 73 at the rate of a copy.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (torch.compiler.is_compiling() and x.is_cuda):
            return F.max_pool2d(x, 2)
        return largest_of_four(x)


def largest_of_four(x: Tensor) -> Tensor:
    """As `MaxPool2`, in operations that inductor makes one kernel of, and one for the gradient."""
    out: Tensor = _LargestOfFour.apply(x)
    return out


class _LargestOfFour(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
        largest = x[:, :, 0:height:2, 0:width:2]
        place = torch.zeros_like(largest, dtype=torch.int8)
        for number in range(1, 4):
            one = x[:, :, number // 2 : height : 2, number % 2 : width : 2]
            larger = (one > largest) | one.isnan()
            largest, place = torch.where(larger, one, largest), torch.where(larger, number, place).to(torch.int8)
        ctx.save_for_backward(place)
        ctx.sides = x.shape[2:]
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (place,) = ctx.saved_tensors
        height, width = ctx.sides
        # In the order of memory, (B, H // 2, 2, W // 2, 2, C), so that what comes of it is channels_last.
        gradient, place = (of.permute(0, 2, 3, 1)[:, :, None, :, None] for of in (gradient, place))
        numbers = torch.arange(4, device=place.device, dtype=torch.int8).view(1, 1, 2, 1, 2, 1)
        of_x = torch.where(place == numbers, gradient, 0.0)
        of_x = of_x.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        missing = (0, width % 2, 0, height % 2)
        return F.pad(of_x, missing) if any(missing) else of_x
