"""Batch normalisation of the networks, faster for numbers of channels that are no multiple of 16 on CPUs; and what a
convolution's bias is before it."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

VECTOR = 16  # channels, of which torch's loops over channels_last take a multiple without a remainder


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation, in all that it computes torch's, to rounding.

    In training, of images channels_last in bfloat16, torch's takes 3 times as long a value for 20 channels as for 16
    forward, and 9 times backward. So rows of C channels are taken for fewer rows of a multiple of 16, and the
    statistics of those columns are put together.

    In training `forward` may be given the bias (C,) of the convolution before it, not added to x. It would change
    nothing but the running mean, and have a gradient of zero; to add it, and to sum that zero up from the gradients of
    all pixels, was 9 % of a step of the recipe `seed` on an H100.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.running_mean: Tensor
        self.running_var: Tensor
        self.momentum: float

    def forward(self, x: Tensor, unadded: Tensor | None = None) -> Tensor:
        if unadded is None:
            return self._normalised(x, self.bias, self.running_mean)
        bias = unadded.detach()
        mean = self.running_mean - bias  # of x; the layer's own may not change any more where the gradient needs it
        # A gradient of zero, and not none, of which several processes could not take the mean.
        out = self._normalised(x, self.bias + 0 * unadded, mean)
        self.running_mean.copy_(mean + bias)
        return out

    def _normalised(self, x: Tensor, shift: Tensor, mean: Tensor) -> Tensor:
        assert self.num_batches_tracked is not None
        if self.training:
            self.num_batches_tracked.add_(1)
        statistics = mean, self.running_var
        fold = _fold(self.num_features, x.dtype)
        if (
            fold == 1
            or torch.compiler.is_compiling()
            or not (self.training and torch.is_grad_enabled())
            or type(x) is not Tensor  # but one without memory, say, whose FLOPs are counted
            or x.device.type != "cpu"
            or self.weight.dtype != torch.float32
            or not x.is_contiguous(memory_format=torch.channels_last)
            or len(x) * x.shape[2] * x.shape[3] % fold
        ):
            return F.batch_norm(x, *statistics, self.weight, shift, self.training, self.momentum, self.eps)
        out: Tensor = _Folded.apply(x, self.weight, shift, *statistics, self.momentum, self.eps, fold)
        return out


def _fold(channels: int, dtype: torch.dtype) -> int:
    """How many rows are to be one; 1 where torch's own is the faster (measured at 8 to 100 channels)."""
    if dtype not in (torch.bfloat16, torch.float32) or (dtype == torch.float32 and channels > 32 and channels % 8 == 0):
        return 1
    return VECTOR // math.gcd(VECTOR, channels)


class _Folded(torch.autograd.Function):
    """x (B, C, H, W), channels_last, normalised; `fold` of its rows (B * H * W, C) are one."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
        fold: int,
    ) -> Tensor:
        rows = _rows(x, fold)
        unused = torch.zeros(2, rows.shape[1])  # without them the statistics would be rounded to bfloat16
        means, variances = (of.view(fold, -1) for of in torch.batch_norm_update_stats(rows, unused[0], unused[1], 0.0))
        mean, variance = means.mean(0), variances.mean(0) + means.var(0, correction=0)
        count = x.numel() // len(mean)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (count / (count - 1)), momentum)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.about = eps, fold
        out = torch.empty_like(x)  # no view, which an activation in place could not be applied to
        _normalise(_rows(x, fold), (mean, variance, weight, bias), eps, fold, _rows(out, fold))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        eps, fold = ctx.about
        rows = _rows(x, fold)
        of_rows = _rows(gradient, fold)
        wide_mean, wide_variance, wide_weight = (of.repeat(fold) for of in (mean, variance, weight))
        # As if the statistics were constants: weight / deviation * gradient, and the two sums over a channel's rows.
        of_x, *sums = torch.ops.aten.native_batch_norm_backward(
            of_rows, rows, wide_weight, wide_mean, wide_variance, None, None, False, eps, [True, True, True]
        )
        of_weight, of_bias = (of.view(fold, -1).sum(0) for of in sums)
        # They depend on x too: of each row its part in the direction of the two is taken away.
        share = -weight * (variance + eps).rsqrt() * len(mean) / x.numel()
        of_x += _normalise(rows, (mean, variance, share * of_weight, share * of_bias), eps, fold)
        return of_x.view_as(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), of_weight, of_bias, None, None, None, None, None


def _rows(images: Tensor, fold: int) -> Tensor:
    """(B, C, H, W) as (B * H * W / fold, fold * C), which of channels_last is the same memory."""
    return images.permute(0, 2, 3, 1).reshape(-1, fold * images.shape[1])


def _normalise(
    rows: Tensor, about: tuple[Tensor, Tensor, Tensor, Tensor], eps: float, fold: int, out: Tensor | None = None
) -> Tensor:
    """(rows - mean) / deviation * weight + bias, of mean, variance, weight and bias of each channel."""
    mean, variance, weight, bias = (of.repeat(fold) for of in about)
    unused = torch.empty(2, 0)
    out = torch.empty_like(rows) if out is None else out
    torch.native_batch_norm(rows, weight, bias, mean, variance, False, 0.0, eps, out=(out, *unused))
    return out
