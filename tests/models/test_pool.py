"""The pooling of which torch.compile makes kernels for a GPU is torch's, its gradient too."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastcifar.models.pool import MaxPool2, largest_of_four


def both(function: object, images: Tensor) -> tuple[Tensor, Tensor]:
    """The result, and the gradient of a sum of it by weights of its own."""
    x = images.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    out = function(x)  # type: ignore[operator]
    weights = torch.arange(1.0, out.numel() + 1, dtype=out.dtype).view_as(out)
    (gradient,) = torch.autograd.grad((out.nan_to_num() * weights).sum(), x)
    return out.detach(), gradient


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shape", [(4, 8, 8, 8), (2, 3, 7, 8), (2, 5, 9, 5), (1, 1, 2, 2)])
def test_it_is_torchs_also_where_values_are_equal(shape: tuple[int, ...], compiled: bool, restored_rng: object) -> None:
    images = torch.randint(-2, 3, shape).float().to(memory_format=torch.channels_last)
    function = largest_of_four
    if compiled:
        function = torch.compile(largest_of_four, backend="aot_eager", fullgraph=True, dynamic=False)
    out, gradient = both(function, images)
    expected, its_gradient = both(lambda x: F.max_pool2d(x, 2), images)
    assert torch.equal(out, expected)
    assert torch.equal(gradient, its_gradient)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("place", range(4))
def test_what_is_no_number_is_not_lost(place: int) -> None:
    images = torch.tensor([1.0, 5.0, 3.0, 2.0]).view(1, 1, 2, 2)
    images.view(-1)[place] = math.nan
    assert largest_of_four(images).isnan().all()
    assert F.max_pool2d(images, 2).isnan().all()


def test_on_a_cpu_it_is_torchs_own_compiled_or_not(monkeypatch: pytest.MonkeyPatch, restored_rng: object) -> None:
    images = torch.randn(2, 3, 8, 8)
    wanted = F.max_pool2d(images, 2)
    monkeypatch.delattr("fastcifar.models.pool.largest_of_four")
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda now=compiling: now)
        assert torch.equal(MaxPool2()(images), wanted)
