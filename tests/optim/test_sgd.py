"""SGD: torch's, with a rate and a decay for each kind of parameter."""

import pytest
import torch
from torch import nn

from fastcifar.errors import InputError
from fastcifar.optim.sgd import sgd
from fastcifar.recipe import Sgd


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def test_a_step_of_each_kind_is_torchs_to_the_bit(restored_rng: object) -> None:
    ours, by_hand = network(), network()
    by_hand.load_state_dict(ours.state_dict())
    config = Sgd(momentum=0.8, weight_decay=0.1, bias_rate=64.0, norm_rate=0.5, head_rate=0.25)
    (optimizer,) = sgd(ours, config)
    torchs = [
        torch.optim.SGD([parameter], lr=rate, momentum=0.8, nesterov=True, weight_decay=decay, fused=True)
        for parameter, rate, decay in [
            (by_hand[0].weight, 1.0, 0.1),
            (by_hand[0].bias, 64.0, 0.0),
            (by_hand[3].bias, 64.0, 0.0),
            (by_hand[1].weight, 0.5, 0.0),
            (by_hand[1].bias, 0.5, 0.0),
            (by_hand[3].weight, 0.25, 0.1),
        ]
    ]
    for _ in range(3):
        for one, other in zip(ours.parameters(), by_hand.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        optimizer.step()
        for one in torchs:
            one.step()
    for one, other in zip(ours.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(one, other)


def test_plain_sgd_is_the_gradient_times_the_rate() -> None:
    ours = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    (optimizer,) = sgd(ours, Sgd(momentum=0.0, nesterov=False, weight_decay=0.5))
    before = ours[0].weight.item()
    ours[0].weight.grad = torch.full_like(ours[0].weight, 2.0)
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    assert ours[0].weight.item() == pytest.approx(before - 0.1 * (2.0 + 0.5 * before))


def test_a_kind_that_a_network_has_not_is_no_group() -> None:
    (optimizer,) = sgd(nn.Linear(3, 2), Sgd(bias_rate=2.0, head_rate=3.0))
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(2.0, 0.0), (3.0, 0.0005)]


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(InputError, match=r"^optimizer\.nesterov: [^\n]*momentum[^\n]*$"):
        sgd(network(), Sgd(momentum=0.0, nesterov=True))
