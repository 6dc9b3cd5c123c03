"""The 3x3 convolution of the networks, with a faster gradient of its weights for few pixels on CPUs."""

import os
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Conv2d(nn.Conv2d):
    """Conv 3x3, stride 1, padding 1, in all that it computes torch's.

    oneDNN's gradient of the weights is slow where images have few pixels: of 256 channels and 1,000 images of 2x2 it
    takes 38 ms on two cores with AMX, where the product of two matrices that it is takes 6.
    """

    def __init__(self, channels_in: int, channels_out: int, *, bias: bool = False) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, bias=bias)

    def forward(self, x: Tensor, *, biased: bool = True) -> Tensor:
        """Images (B, D, H, W) of x (B, C, H, W); not `biased`, the bias is left to what follows."""
        bias = self.bias if biased else None
        if torch.compiler.is_compiling() or x.device.type != "cpu" or not (self.training and torch.is_grad_enabled()):
            return self._conv_forward(x, self.weight, bias)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if x.shape[2] * x.shape[3] > _most_pixels(dtype) or not self.weight.requires_grad:
            return self._conv_forward(x, self.weight, bias)
        out = _OfFewPixels.apply(x.to(dtype), self.weight.to(dtype))
        return out if bias is None else out + bias.to(dtype)[:, None, None]


class _OfFewPixels(torch.autograd.Function):
    """x (B, C, H, W) and weight (D, C, 3, 3) to (B, D, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        x, weight = ctx.saved_tensors
        of_x = None
        if ctx.needs_input_grad[0]:
            about: Any = (None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
            of_x, _, _ = torch.ops.aten.convolution_backward(gradient, x, weight, *about, [True, False, False])
        # Of every pixel the nine around it, all channels of each: (B * H * W, 9 * C).
        around = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
        (batch, height, width, channels), (image, row, pixel, _) = gradient.permute(0, 2, 3, 1).shape, around.stride()
        channels_in = x.shape[1]
        around = around.as_strided(
            (batch, height, width, 3, 3, channels_in), (image, row, pixel, row, pixel, 1)
        ).reshape(-1, 9 * channels_in)
        product = gradient.permute(0, 2, 3, 1).reshape(-1, channels).t() @ around
        return of_x, product.view(channels, 3, 3, channels_in).permute(0, 3, 1, 2)


@cache
def _most_pixels(dtype: torch.dtype) -> int:
    """Of an image, up to which the product is the faster one: measured in bfloat16 with AMX and without, in float32,
    and in float32 with AVX2 alone (where more would gain too), at 64 to 512 channels."""
    may_have_amx = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in ("", "DEFAULT", "AVX512_CORE_AMX")
    amx = dtype == torch.bfloat16 and may_have_amx and torch.cpu._is_amx_tile_supported()
    return 25 if amx else 4
