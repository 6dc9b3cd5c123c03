"""Batch normalisation by the whole batch of several processes: torch's on GPUs, and the same for CPUs."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fastcifar.errors import InputError
from fastcifar.models.batch_norm import BatchNorm2d

WHOLE = (BatchNorm2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""The layers that take a batch as a whole."""


class _SumOfProcesses(torch.autograd.Function):
    """A tensor summed over the processes; so is its gradient, since each one's loss depends on the sum."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class SyncBatchNorm(_BatchNorm):
    """As torch's of this name, which refuses tensors of the CPU: for those, by the two sums that it stands for.

    Input (B, C, ...) of each process, of which the numbers of rows may differ.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any will do."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        over, shape = [0, *range(2, input.dim())], [1, -1, *[1] * (input.dim() - 2)]
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        sums: Tensor = _SumOfProcesses.apply(
            torch.cat((values.sum(over), values.new_tensor([values.numel() / values.shape[1]])))
        )
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = values - mean.view(shape)
        variance = _SumOfProcesses.apply(centred.square().sum(over)) / count
        with torch.no_grad():
            self._follow(mean, variance * count / (count - 1))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        out = centred * scale.view(shape)
        return (out if not self.affine else out + self.bias.view(shape)).to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def synchronise(network: nn.Module) -> None:
    """Have torch's layers of batch normalisation in `network`, and ours, take the statistics of all processes' rows.

    Their parameters and buffers stay the same tensors, under the same names; layers that are made of them (ghost batch
    normalisation) stay as they are. Raises `InputError` where there is none.
    """
    found = 0
    kind = nn.SyncBatchNorm if next(network.parameters()).is_cuda else SyncBatchNorm
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm) and type(child) in WHOLE:
                setattr(module, name, _synchronised(child, kind))
                found += 1
    if not found:
        raise InputError("--sync-batchnorm: the network has no batch normalisation that torch could synchronise")


def _synchronised(layer: _BatchNorm, kind: type[_BatchNorm]) -> _BatchNorm:
    made = kind(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    made.train(layer.training)
    for name, one in (*layer.named_parameters(), *layer.named_buffers()):
        setattr(made, name, one)
    return made
