"""The average of the weights: numbers by hand, batch statistics and counts with it, in the tensors it began with."""

import pytest
import torch
from same import assert_same
from torch import nn

from fastcifar.errors import InputError
from fastcifar.recipe import Average
from fastcifar.training.average import WeightAverage


def network() -> nn.Sequential:
    """Of a weight, a frozen one, batch statistics and a count of batches, all of them 0."""
    made = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False))
    made[2].requires_grad_(False)
    fill(made, 0)
    return made


@torch.no_grad()
def fill(made: nn.Module, value: float) -> None:
    for tensor in made.state_dict().values():
        tensor.fill_(value)


def values(made: nn.Module) -> dict[str, set[float]]:
    """What is in each tensor; one number in each is what is expected."""
    return {name: set(tensor.flatten().tolist()) for name, tensor in made.state_dict().items()}


def uniform(value: float, count: int) -> dict[str, set[float]]:
    """`values` of a network that is `value` throughout, but for its count of batches."""
    return {name: {count if name.endswith("tracked") else value} for name in network().state_dict()}


def addresses(made: nn.Module) -> list[int]:
    return [tensor.data_ptr() for tensor in made.state_dict().values()]


def test_ema_by_hand() -> None:
    """Every second step 0.5 ** 2 of the average stays; the network is left alone; statistics go along, counts too."""
    trained = network()
    average = WeightAverage(trained, Average("ema", decay=0.5, every=2, ramp=0), 5)
    found = []
    for step in range(1, 6):
        fill(trained, 16 * step)
        average.after_step(step)
        assert values(trained) == uniform(16 * step, 16 * step)
        found.append(values(average.averaged))
    first = 0.75 * 32
    second = 0.25 * first + 0.75 * 64
    assert found[0] == uniform(0, 0)  # as the network was at first
    assert found[1] == found[2] == uniform(first, 32)
    assert found[3] == found[4] == uniform(second, 64)  # the fifth step makes none of its own


def test_lookahead_sets_the_network_back() -> None:
    trained = network()
    average = WeightAverage(trained, Average("lookahead", decay=0.5, every=2, ramp=0), 4)
    fill(trained, 8)
    average.after_step(1)
    assert values(trained) == uniform(8, 8)
    average.after_step(2)
    assert values(average.averaged) == values(trained) == uniform(6, 8)
    fill(trained, 14)
    average.after_step(4)
    assert values(average.averaged) == values(trained) == uniform(0.25 * 6 + 0.75 * 14, 14)


def test_lookahead_is_airbenchs() -> None:
    """`LookaheadState` of airbench94.py, written out: every 5 steps with 0.95 ** 5 * (step / steps) ** 3, and in the
    end what it has."""
    trained = network()
    nn.init.normal_(trained[0].weight, generator=torch.Generator().manual_seed(0))
    slow = weight = trained[0].weight.detach().clone()
    average = WeightAverage(trained, Average("lookahead"), 12)
    for step in range(1, 13):
        with torch.no_grad():
            trained[0].weight += 0.1 * step
        average.after_step(step)
        weight = weight + 0.1 * step
        if step % 5 == 0:
            slow = weight = slow.lerp(weight, 1 - 0.95**5 * (step / 12) ** 3)
    torch.testing.assert_close(average.averaged[0].weight, slow)
    torch.testing.assert_close(trained[0].weight.detach(), weight)
    assert not torch.equal(slow, weight)


@pytest.mark.parametrize("ramp", [0, 1, 3])
def test_the_share_that_is_kept_rises_to_the_whole_at_the_last_step(ramp: float) -> None:
    trained = network()
    average = WeightAverage(trained, Average("ema", decay=0.5, every=1, ramp=ramp), 4)
    wanted = 0.0
    for step in range(1, 5):
        fill(trained, 100 * step)
        average.after_step(step)
        kept = 0.5 * (step / 4) ** ramp
        wanted = kept * wanted + (1 - kept) * 100 * step
        assert average.averaged[0].weight[0, 0].item() == pytest.approx(wanted)


def test_without_decay_it_is_a_copy_whatever_it_was() -> None:
    trained = network()
    average = WeightAverage(trained, Average("ema", decay=0, every=1), 2)
    nn.init.constant_(average.averaged[0].weight, float("nan"))
    nn.init.normal_(trained[0].weight, generator=torch.Generator().manual_seed(0))
    average.after_step(1)
    assert_same(dict(average.averaged.state_dict()), dict(trained.state_dict()))


@pytest.mark.parametrize("name", ["ema", "lookahead"])
def test_it_stays_in_its_tensors(name: str) -> None:
    """Whose addresses CUDA graphs hold."""
    trained = network()
    average = WeightAverage(trained, Average(name, every=1), 2)  # type: ignore[arg-type]
    before = [addresses(trained), addresses(average.averaged)]
    assert not set(before[0]) & set(before[1])
    for step in (1, 2):
        fill(trained, step)
        average.after_step(step)
    average.reset()
    assert [addresses(trained), addresses(average.averaged)] == before


def test_a_reset_begins_from_the_network_as_it_is() -> None:
    trained = network()
    average = WeightAverage(trained, Average("ema", decay=0.5, every=1, ramp=0), 2)
    fill(trained, 3)
    average.after_step(1)
    fill(trained, 8)
    average.reset()
    assert values(average.averaged) == values(trained) == uniform(8, 8)
    fill(trained, 16)
    average.after_step(1)
    assert values(average.averaged) == uniform(12, 16)


def test_it_is_trained_by_nobody_and_the_network_still_is() -> None:
    trained = network()
    average = WeightAverage(trained, Average("lookahead", every=1), 1)
    average.after_step(1)
    assert not any(parameter.requires_grad for parameter in average.averaged.parameters())
    assert [parameter.requires_grad for parameter in trained.parameters()] == [True] * 4 + [False]


class Shared(nn.Module):
    """Two layers of one weight, a buffer that is not kept, numbers of two sizes, and state besides the tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.other.weight = self.one.weight
        self.narrow = nn.Parameter(torch.zeros(2, dtype=torch.float16))
        self.running: torch.Tensor
        self.register_buffer("running", torch.zeros(2), persistent=False)

    def get_extra_state(self) -> dict[str, int]:
        return {"made": 1}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


@torch.no_grad()
def test_every_tensor_of_somebodys_network_is_averaged_once() -> None:
    trained = Shared()
    for tensor in (*trained.parameters(), *trained.buffers()):
        tensor.fill_(0)
    average = WeightAverage(trained, Average("ema", decay=0.5, every=1, ramp=0), 1)
    for tensor in (*trained.parameters(), *trained.buffers()):
        tensor.fill_(8)
    average.after_step(1)
    found = average.averaged
    assert isinstance(found, Shared)
    assert found.one.weight is found.other.weight
    assert [set(one.flatten().tolist()) for one in (found.one.weight, found.narrow, found.running)] == [{4.0}] * 3


def test_a_network_that_cannot_be_copied_is_one_line() -> None:
    network = nn.Linear(2, 2)
    network.under_way = (one for one in "a generator")  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"^average: a copy of the network: TypeError: cannot pickle"):
        WeightAverage(network, Average("ema"), 1)
