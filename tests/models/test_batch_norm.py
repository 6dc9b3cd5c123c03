"""Batch normalisation is torch's, its gradients and running statistics too, by whatever way they are computed."""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fastcifar.models import batch_norm
from fastcifar.models.batch_norm import BatchNorm2d


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were one, each time that the other way was taken."""
    taken: list[int] = []
    apply = batch_norm._Folded.apply
    monkeypatch.setattr(batch_norm._Folded, "apply", lambda *given: taken.append(given[-1]) or apply(*given))
    return taken


def layer(channels: int) -> BatchNorm2d:
    torch.manual_seed(channels)
    made = BatchNorm2d(channels, eps=1e-3, momentum=0.3)
    with torch.no_grad():
        for one in (made.weight, made.bias, made.running_mean):
            one.normal_()
    return made


def after(network: nn.Module, images: Tensor, weights: Tensor) -> list[Tensor]:
    """The output, all gradients, and what it keeps, in float64."""
    x = images.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    out = network(x)
    assert out.dtype == x.dtype
    (out * weights.to(out)).sum().backward()
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=torch.channels_last)
    gradients = [one.grad for one in network.parameters() if one.grad is not None]
    return [one.detach().double() for one in (out, x.grad, *gradients, *network.buffers())]


def torchs(of: BatchNorm2d, dtype: torch.dtype = torch.float32) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(of.num_features, eps=of.eps, momentum=of.momentum)
    made.load_state_dict(of.state_dict())
    return made.to(dtype)


CASES = [(20, 4), (24, 2), (40, 2), (36, 4), (15, 16), (2, 8)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "fold"), CASES)
def test_it_is_as_near_to_the_exact_one_as_torchs(
    folded: list[int], channels: int, fold: int, dtype: torch.dtype
) -> None:
    ours = layer(channels)
    its, exact = torchs(ours), torchs(ours, torch.float64)
    images = (3 * torch.randn(8, channels, 6, 4) + 2).to(memory_format=torch.channels_last).to(dtype)
    weights = torch.randn(8, channels, 6, 4).to(memory_format=torch.channels_last).to(dtype)
    one, other = after(ours, images, weights), after(its, images, weights)
    right = after(exact, images.double(), weights.double())
    assert len(one) == len(right) == 7
    for a, b, c in zip(one, other, right, strict=True):
        # Of x there are two roundings where torch has one.
        assert (a - c).norm() <= 1.8 * (b - c).norm() + 1e-6 * c.norm()
    usual = dtype == torch.float32 and channels == 40
    assert folded == ([] if usual else [fold])


@pytest.mark.parametrize(
    ("shape", "layout", "dtype"),
    [
        ((3, 20, 3, 5), torch.channels_last, torch.float32),  # 45 rows are not four times any
        ((4, 20, 3, 5), torch.contiguous_format, torch.float32),
        ((4, 20, 3, 5), torch.channels_last, torch.float64),
        ((4, 32, 3, 5), torch.channels_last, torch.float32),
    ],
)
def test_all_else_is_torchs_to_the_bit(
    folded: list[int], shape: tuple[int, ...], layout: torch.memory_format, dtype: torch.dtype
) -> None:
    ours = layer(shape[1]).to(dtype)
    images = torch.randn(shape, dtype=dtype).to(memory_format=layout)
    its = torchs(ours, dtype)
    assert torch.equal(ours(images), its(images))
    assert not folded


def test_evaluation_is_torchs_to_the_bit(folded: list[int]) -> None:
    ours = layer(20)
    images = torch.randn(4, 20, 4, 4).to(memory_format=torch.channels_last)
    assert torch.equal(ours.eval()(images), torchs(ours).eval()(images))
    with torch.no_grad():
        ours.train()(images)
    assert not folded


def test_tensors_without_memory_are_torchs(folded: list[int]) -> None:
    """Of one pixel they are channels_last whatever they were made as."""
    with FakeTensorMode(allow_fallback_kernels=False):
        BatchNorm2d(20)(torch.randn(8, 20, 1, 1)).sum().backward()
    assert not folded


def test_an_activation_in_place_and_a_frozen_scale(folded: list[int]) -> None:
    """As the networks have them."""
    ours = layer(20)
    its = torchs(ours)
    for one in (ours, its):
        one.weight.requires_grad_(False)
    images = torch.randn(8, 20, 4, 4).to(memory_format=torch.channels_last)
    weights = torch.randn(8, 20, 4, 4)
    found, expected = (after(nn.Sequential(one, nn.ReLU(inplace=True)), images, weights) for one in (ours, its))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert ours.weight.grad is None
    assert folded == [4]


def test_a_gradient_in_another_layout(folded: list[int]) -> None:
    ours = layer(20)
    x = torch.randn(4, 20, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn(4, 20, 4, 4)
    (one,) = torch.autograd.grad(ours(x), x, gradient)
    (other,) = torch.autograd.grad(torchs(ours)(x), x, gradient)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert folded == [4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [20, 16])
def test_a_bias_that_is_not_added_changes_the_running_mean_alone(channels: int, dtype: torch.dtype) -> None:
    """As if it had been; and its gradient, which is the rounding of a zero otherwise, is zero."""
    ours, its = layer(channels), layer(channels)
    bias, added = (torch.linspace(-1, 1, channels).requires_grad_() for _ in range(2))
    images = torch.randn(8, channels, 6, 4).to(memory_format=torch.channels_last).to(dtype)
    weights = torch.randn(8, channels, 6, 4).to(memory_format=torch.channels_last).to(dtype)
    one = after(Given(ours, bias), images, weights)
    other = after(Given(its, added, now=True), images, weights)
    for found, expected in zip(one, other, strict=True):
        if found.shape:
            distance = (found - expected).norm() / expected.norm().clamp(min=1e-3)
            assert distance < (0.02 if dtype == torch.bfloat16 else 1e-5)
    assert torch.equal(bias.grad, torch.zeros(channels))  # type: ignore[arg-type]
    assert ours.num_batches_tracked == its.num_batches_tracked == 1


class Given(nn.Module):
    """A layer that is given a bias, or what it has been added to."""

    def __init__(self, of: BatchNorm2d, bias: Tensor, now: bool = False) -> None:
        super().__init__()
        self.of, self.bias, self.now = of, (bias,), now

    def forward(self, x: Tensor) -> Tensor:
        (bias,) = self.bias
        return self.of(x + bias.to(x.dtype)[:, None, None]) if self.now else self.of(x, bias)
