"""Muon: momentum whose update, as a matrix, is orthogonalised by a Newton-Schulz iteration.

After airbench94_muon.py (Keller Jordan, 2024), whose weights are scaled to a fixed norm before each step as well.
torch.optim.Muon takes matrices only, one at a time, keeps a mean of the gradients where this keeps a sum, and knows
nothing of those norms.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from fastcifar.execution import bfloat16_units, compiled, compiler
from fastcifar.optim.groups import Named, kinds, param_groups
from fastcifar.recipe import Muon as Config

# Of the quintic a x + b x^3 + c x^5: steep at 0, so that few steps take every singular value to somewhere around 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def muon(network: nn.Module, config: Config, *, compile: bool = True) -> list[torch.optim.Optimizer]:
    """Muon for the weights, SGD or Adam for biases, norms and head, each where the network has any.

    The rates are those of `config`, which the schedule multiplies. `compile`: whether Newton-Schulz may be compiled.
    """
    of = kinds(network)
    optimizers: list[torch.optim.Optimizer] = []
    if of.weights:
        optimizers.append(
            Muon(
                param_groups(network, of.weights),
                lr=config.lr,
                momentum=config.momentum,
                newton_schulz_steps=config.newton_schulz_steps,
                normalise_weights=config.normalise_weights,
                second_momentum=config.second_momentum,
                compile=compile,
            )
        )

    def at(lr: float, named: Named) -> list[dict[str, Any]]:
        # The recipe's decay is what a step takes away at full rate; torch multiplies its own by the rate.
        return param_groups(network, named, lr=lr, weight_decay=config.weight_decay / lr if lr else 0.0)

    rest = [*at(config.bias_lr, of.biases + of.norms), *at(config.head_lr, of.head)]
    momentum = config.rest_momentum
    if rest and config.rest == "adam":
        optimizers.append(torch.optim.AdamW(rest, betas=(momentum, 0.999), fused=True))
    elif rest:
        optimizers.append(torch.optim.SGD(rest, lr=1.0, momentum=momentum, nesterov=momentum > 0, fused=True))
    return optimizers


class Muon(torch.optim.Optimizer):
    """Muon over parameters of two dimensions or more, each as the matrix (first dimension, all others).

    A step: buffer = momentum * buffer + gradient; the weights are scaled to the norm sqrt(first dimension), if asked
    for; and lr times the orthogonalised (gradient + momentum * buffer) is taken from them. It never waits for a GPU,
    though a gradient scaler does before it.

    With a `second_momentum` each row of that is first divided by the root of a running mean of its mean square, which
    keeps that share of itself a step, and the matrix brought back to the norm it had: after NorMuon, Li et al. 2025,
    arXiv 2510.05491, which brings it to one that its size decides.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        newton_schulz_steps: int,
        normalise_weights: bool,
        second_momentum: float = 0.0,
        compile: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "newton_schulz_steps": newton_schulz_steps,
            "normalise_weights": normalise_weights,
            "second_momentum": second_momentum,
        }
        super().__init__(params, defaults)
        self._compile = compile

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient; `closure` is called before, with gradients on, for the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if parameters := [one for one in group["params"] if one.grad is not None]:
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        device, rate = parameters[0].device, group["lr"]
        # On a CPU the compiled function was no faster: nearly all of the time goes into the matrix products.
        function = _compiled() if self._compile and device.type == "cuda" else stepped
        if function is not stepped and not isinstance(rate, Tensor):
            rate = torch.full((), rate, device=device)  # a number would be compiled for
        function(
            [parameter.detach() for parameter in parameters],
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [self._buffer(parameter) for parameter in parameters],
            [self._row_squares(parameter) for parameter in parameters] if group["second_momentum"] else [],
            rate,
            momentum=group["momentum"],
            second_momentum=group["second_momentum"],
            newton_schulz_steps=group["newton_schulz_steps"],
            normalise_weights=group["normalise_weights"],
            dtype=_half(device),
        )

    def _buffer(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer

    def _row_squares(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "row_squares" not in state:
            state["row_squares"] = torch.zeros(len(parameter), 1, device=parameter.device)
        row_squares: Tensor = state["row_squares"]
        return row_squares


def stepped(
    parameters: list[Tensor],
    gradients: list[Tensor],
    buffers: list[Tensor],
    row_squares: list[Tensor],
    rate: float | Tensor,
    *,
    momentum: float,
    second_momentum: float,
    newton_schulz_steps: int,
    normalise_weights: bool,
    dtype: torch.dtype,
) -> None:
    """A step of `Muon`, in place: `row_squares` (rows, 1) are the running means of NorMuon, or none.

    One function, without a wait for the device, so that torch.compile makes few kernels of it for a GPU: its operations
    one by one were a fifth of a step of the recipe `sprint94` on an H100.
    """
    torch._foreach_mul_(buffers, momentum)
    torch._foreach_add_(buffers, gradients)
    updates = torch._foreach_add(gradients, buffers, alpha=momentum)
    if normalise_weights:
        norms = torch._foreach_norm(parameters)
        torch._foreach_clamp_min_(norms, 1e-30)  # what is all zeros stays so
        torch._foreach_div_(norms, [sqrt(len(parameter)) for parameter in parameters])
        torch._foreach_div_(parameters, norms)
    matrices = [_matrix(update, like=one) for update, one in zip(updates, parameters, strict=True)]
    for places, stack in orthogonalised(matrices, newton_schulz_steps, dtype):
        if row_squares:
            stack = _evened(stack, [row_squares[place] for place in places], second_momentum)
        for place, matrix in zip(places, stack.unbind(), strict=True):
            update = _unflattened(matrix, like=parameters[place])
            if isinstance(rate, Tensor):
                parameters[place].addcmul_(update.to(rate.dtype), rate, value=-1)
            else:
                parameters[place].add_(update, alpha=-rate)


def _evened(stack: Tensor, row_squares: Sequence[Tensor], kept: float) -> Tensor:
    """The updates `stack` (n, rows, columns), the rows of each as great as one another over time, its norm kept."""
    squares = stack.float().square().mean(dim=2, keepdim=True)
    scales = []
    for running, now in zip(row_squares, squares, strict=True):
        # By how much a mean begun at zero is too small falls out, for the norm is kept.
        scale = 1 / (running.lerp_(now, 1 - kept).sqrt() + 1e-8)
        # The two norms from those of the rows.
        scales.append(scale * (now.sum() / (scale.square() * now).sum().clamp(min=1e-24)).sqrt())
    return stack * torch.stack(scales)


def orthogonalised(
    matrices: Sequence[Tensor], steps: int, dtype: torch.dtype = torch.bfloat16
) -> list[tuple[list[int], Tensor]]:
    """`matrices` (rows, columns) after `steps` of Newton-Schulz in `dtype`, those of one shape as a stack (n, rows,
    columns), which they are iterated in: for each the places in `matrices`, and the stack. See `newton_schulz`.

    To pad the others to a common shape costs more than it saves: airbench94's 64 x 216 next to its 64 x 576 gained
    nothing, and all six as 256 x 2304 took nearly twice the time.
    """
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for place, matrix in enumerate(matrices):
        by_shape.setdefault(tuple(matrix.shape), []).append(place)
    return [
        (places, newton_schulz(torch.stack([matrices[place] for place in places]), steps, dtype))
        for places in by_shape.values()
    ]


def newton_schulz(stack: Tensor, steps: int, dtype: torch.dtype) -> Tensor:
    """Matrices (n, rows, columns) with their singular values taken to about 1, in `dtype`, which a result has too.

    After five steps those that were above a hundredth of the Frobenius norm are 0.68 to 1.14, to bfloat16's rounding;
    after fewer the small ones are still on their way. A matrix of zeros stays one.
    """
    a, b, c = COEFFICIENTS
    norms = torch.linalg.vector_norm(stack, dim=(1, 2), keepdim=True)
    x = (stack / (norms + 1e-7)).to(dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x  # the product with its transpose is then the smaller of the two
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


@cache
def _half(device: torch.device) -> torch.dtype:
    """The precision of Newton-Schulz: bfloat16, or what is faster where that is only emulated."""
    if device.type == "cpu" and not bfloat16_units():
        return torch.float32  # 5 to 25 times as fast then, with matrices of 256 x 2304
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16  # nothing leaves its range: norms are at most 1 at first, singular values below 1.3 then
    return torch.bfloat16


@cache
def _compiled() -> Callable[..., None]:
    """`stepped`, compiled; itself where there is no compiler."""
    return compiled(stepped, fullgraph=True) if compiler() else stepped


def _matrix(update: Tensor, *, like: Tensor) -> Tensor:
    """`update` (rows, ...) as (rows, columns), the columns as they lie in `like`: no copy where both lie alike."""
    return update.permute(0, *_inner(like)).flatten(1)


def _unflattened(matrix: Tensor, *, like: Tensor) -> Tensor:
    """Back from `_matrix`, in the shape of `like`."""
    inner = _inner(like)
    tensor = matrix.unflatten(1, [like.shape[dimension] for dimension in inner])
    return tensor.permute(0, *(1 + inner.index(dimension) for dimension in range(1, like.ndim)))


def _inner(tensor: Tensor) -> list[int]:
    """All dimensions but the first, in the order of memory: 2, 3, 1 of a channels_last convolution."""
    return [dimension for dimension in tensor.dim_order() if dimension]
