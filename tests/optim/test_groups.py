"""The parameters of a network told apart, each once, and the groups that an optimizer takes."""

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from fastcifar.errors import InputError
from fastcifar.models.resnet import ResNet
from fastcifar.optim.adam import adam
from fastcifar.optim.groups import kinds, param_groups, trained
from fastcifar.optim.muon import muon
from fastcifar.optim.sgd import sgd
from fastcifar.recipe import Adam, Muon, Resnet, Sgd


class Odd(nn.Module):
    """One of everything: shared and frozen parameters, several normalisations, two linear layers, a loose scale."""

    def __init__(self, trained_epochs: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.stem = nn.Conv2d(3, 4, 3)
        self.whole = nn.LayerNorm([4, 6, 6])
        self.rms = nn.RMSNorm(4)
        self.frozen = nn.Conv2d(4, 4, 1)
        self.frozen.weight.requires_grad_(False)
        self.first = nn.Conv2d(4, 4, 3, bias=False)
        self.again = nn.Conv2d(4, 4, 3, bias=False)
        self.again.weight = self.first.weight
        self.hidden = nn.Linear(4, 5)
        self.groups = nn.GroupNorm(1, 5)
        self.head = nn.Linear(5, 2)
        self.after = nn.BatchNorm1d(2, affine=False)
        if trained_epochs is not None:
            self.trained_epochs = trained_epochs


def names(network: nn.Module) -> dict[str, list[str]]:
    return {kind: [name for name, _ in found] for kind, found in vars(kinds(network)).items()}


def test_kinds_of_a_network_with_one_of_everything() -> None:
    assert names(Odd()) == {
        "weights": ["stem.weight", "first.weight", "hidden.weight"],
        "head": ["head.weight"],
        "norms": ["whole.weight", "whole.bias", "rms.weight", "groups.weight", "groups.bias"],
        "biases": ["scale", "stem.bias", "frozen.bias", "hidden.bias", "head.bias"],
    }


def test_kinds_of_the_resnet() -> None:
    network = ResNet(Resnet(width=4))
    found = names(network)
    convolutions = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    normalisations = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert found["weights"] == [f"{name}.weight" for name in convolutions]
    assert found["biases"] == [f"{name}.bias" for name in [*convolutions, "head"]]
    assert found["norms"] == [f"{name}.{one}" for name in normalisations for one in ("weight", "bias")]
    assert found["head"] == ["head.weight"]


def test_without_a_linear_layer_there_is_no_head_and_one_that_is_frozen_gives_its_place_to_none() -> None:
    assert names(nn.Conv2d(3, 2, 1)) == {"weights": ["weight"], "head": [], "norms": [], "biases": ["bias"]}
    network = Odd()
    network.head.weight.requires_grad_(False)
    assert names(network)["head"] == []
    assert "hidden.weight" in names(network)["weights"]


def test_a_head_whose_weight_is_made_of_others_is_still_told() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    assert names(network)["head"] == [f"1.parametrizations.weight.original{k}" for k in (0, 1)]


def test_nothing_to_train_is_said_in_one_line() -> None:
    network = nn.Linear(2, 2).requires_grad_(False)
    for make in (lambda: adam(network, Adam()), lambda: sgd(network, Sgd()), lambda: muon(network, Muon())):
        with pytest.raises(InputError, match=r"^model: the network has no parameter that wants a gradient.*$"):
            make()


def test_what_is_trained_for_some_epochs_only_is_a_group_of_its_own() -> None:
    network = Odd({"stem.bias": 3, "again.weight": 1.5, "scale": 3.0, "frozen.weight": 2})
    first, one_half, three = sorted(
        param_groups(network, trained(network), lr=0.1), key=lambda group: group.get("epochs", 0)
    )
    assert "epochs" not in first
    assert one_half["epochs"] == 1.5
    assert one_half["params"] == [network.first.weight]  # named as the other module's
    assert three["epochs"] == 3
    assert three["params"] == [network.scale, network.stem.bias]
    assert {group["lr"] for group in (first, one_half, three)} == {0.1}
    assert len(first["params"]) == len(trained(network)) - 3
    assert param_groups(network, []) == []


def test_a_name_that_no_parameter_has_is_said() -> None:
    with pytest.raises(InputError, match=r"^model: trained_epochs names 'stem\.bios', which is no parameter"):
        adam(Odd({"stem.bios": 3}), Adam())


@pytest.mark.parametrize("config", [Adam(), Sgd(), Muon(), Muon(rest="adam")], ids=["adam", "sgd", "muon", "muon+adam"])
def test_every_optimizer_has_every_trained_parameter_once_and_its_epochs(config: Adam | Sgd | Muon) -> None:
    network = Odd({"stem.bias": 3, "first.weight": 2})
    make = {Adam: adam, Sgd: sgd, Muon: muon}[type(config)]
    groups = [group for optimizer in make(network, config) for group in optimizer.param_groups]  # type: ignore[operator]
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for _, parameter in trained(network))
    limited = {id(group["params"][0]): group["epochs"] for group in groups if "epochs" in group}
    assert limited == {id(network.stem.bias): 3, id(network.first.weight): 2}
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert rates[id(network.stem.bias)] == rates[id(network.hidden.bias)]
    assert rates[id(network.first.weight)] == rates[id(network.stem.weight)]


def test_adam_is_one_group_in_the_networks_order_and_torchs_to_the_bit(restored_rng: object) -> None:
    network, by_hand = Odd(), Odd()
    by_hand.load_state_dict(network.state_dict())
    config = Adam(beta1=0.8, beta2=0.95, eps=1e-5, weight_decay=0.01)
    (optimizer,) = adam(network, config)
    (group,) = optimizer.param_groups
    expected = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert all(one is other for one, other in zip(group["params"], expected, strict=True))
    torchs = torch.optim.Adam(by_hand.parameters(), lr=1.0, betas=(0.8, 0.95), eps=1e-5, weight_decay=0.01, fused=True)
    for rate in (0.1, 0.05):
        for one, other in zip(network.parameters(), by_hand.parameters(), strict=True):
            if one.requires_grad:
                one.grad = torch.randn_like(one)
                other.grad = one.grad.clone()
        group["lr"] = torchs.param_groups[0]["lr"] = rate
        optimizer.step()
        torchs.step()
    for one, other in zip(network.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(one, other)
