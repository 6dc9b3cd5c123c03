"""The 3x3 convolution is torch's, its gradients too, by whatever way they are computed."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fastcifar.models import conv
from fastcifar.models.conv import Conv2d


def plain(of: Conv2d) -> nn.Conv2d:
    made = nn.Conv2d(of.in_channels, of.out_channels, 3, padding=1, bias=of.bias is not None)
    made.load_state_dict(of.state_dict())
    return made


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """On every CPU up to 25 pixels; how often the other way was taken."""
    taken: list[int] = []
    apply = conv._OfFewPixels.apply
    monkeypatch.setattr(conv, "_most_pixels", lambda dtype: 25)
    monkeypatch.setattr(conv._OfFewPixels, "apply", lambda *given: taken.append(1) or apply(*given))
    return taken


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (3, 5), (5, 5), (5, 6)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients(few: list[int], height: int, width: int, bias: bool, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    ours = Conv2d(6, 4, bias=bias).double().to(memory_format=layout)
    its = plain(ours).double().to(memory_format=layout)
    images = torch.randn(7, 6, height, width, dtype=torch.float64).to(memory_format=layout)
    weights = torch.randn(7, 4, height, width, dtype=torch.float64)
    found = []
    for network in (ours, its):
        x = images.clone().requires_grad_()
        out = network(x)
        (out * weights).sum().backward()
        found.append([out, x.grad, network.weight.grad, *([network.bias.grad] if bias else [])])  # type: ignore[union-attr]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert len(few) == (height * width <= 25)


def test_in_bfloat16_it_is_as_near_as_torchs(few: list[int]) -> None:
    torch.manual_seed(0)
    ours, images = Conv2d(16, 16, bias=True), torch.randn(64, 16, 4, 4).to(memory_format=torch.channels_last)
    its, exact = plain(ours), plain(ours).double()
    with torch.autocast("cpu", torch.bfloat16):
        for network in (ours, its):
            out = network(images)
            assert out.dtype == torch.bfloat16
            out.float().square().sum().backward()
    assert few == [1]
    exact(images.double()).square().sum().backward()
    for name in ("weight", "bias"):
        wanted = getattr(exact, name).grad
        off = [(getattr(one, name).grad - wanted).norm() / wanted.norm() for one in (ours, its)]
        assert getattr(ours, name).grad.dtype == torch.float32
        assert off[0] < 2 * off[1] < 0.02


def test_where_it_is_torchs_own(few: list[int]) -> None:
    """Without a gradient of the weights, compiled, exported, or of more pixels."""
    ours, images = Conv2d(3, 4), torch.randn(2, 3, 4, 4)
    copy.deepcopy(ours).eval()(images)
    with torch.no_grad():
        ours(images)
    copy.deepcopy(ours).requires_grad_(False)(images.clone().requires_grad_())
    torch.export.export(copy.deepcopy(ours), (images,))
    ours(torch.randn(2, 3, 6, 6))
    assert few == []


def test_its_work_is_that_of_torchs(few: list[int]) -> None:
    ours = Conv2d(3, 4)
    flops = []
    for network in (ours, plain(ours)):
        with FlopCounterMode(display=False) as counter:
            network(torch.randn(2, 3, 4, 4, requires_grad=True)).sum().backward()
        flops.append(counter.get_total_flops())
    assert few == [1]
    assert flops[0] == flops[1] > 0
