"""The state of a run: captured whole, restored bit for bit into the tensors that are there."""

import json
from typing import Any

import pytest
import torch
from same import assert_same

from fastcifar.recipe import Average
from fastcifar.training.average import WeightAverage
from fastcifar.training.log import EpochLog
from fastcifar.training.state import TrainState

LOG = EpochLog(1, 2.0, 0.5, 1.5, 0.4, 1.4, 0.5, 0.01, 150.0)


@pytest.fixture(params=["none", "ema", "lookahead"])
def state(restored_rng: object, request: pytest.FixtureRequest) -> TrainState:
    """Of a network with batch statistics, two optimizers, one that keeps a state from the first step on, and every kind
    of average."""
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    optimizers = [
        torch.optim.Adam(network[0].parameters(), lr=0.1),
        torch.optim.SGD([*network[1].parameters(), *network[2].parameters()], lr=0.1, momentum=0.9),
    ]
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    average = None
    if request.param != "none":
        average = WeightAverage(network, Average(request.param, decay=0.5, every=1, ramp=0), 3)
    return TrainState(network, optimizers, scaler, device=torch.device("cpu"), steps_per_epoch=3, average=average)


def step(state: TrainState) -> None:
    """Changes all of it."""
    state.network.train()
    loss = state.network(torch.randn(8, 3)).square().sum()
    loss.backward()
    for optimizer in state.optimizers:
        optimizer.param_groups[0]["lr"] *= 0.5
        optimizer.step()
    state.losses[state.step] = loss.detach()
    state.correct += 1
    state.step += 1
    if state.average:
        state.average.after_step(state.step)


def addresses(state: TrainState) -> list[int]:
    """Of every tensor that a CUDA graph would hold."""
    kept = [value for of in state.optimizers for values in of.state.values() for value in values.values()]
    tensors = [*state.network.state_dict().values(), *kept, state.losses, state.correct]
    if state.average:
        tensors += state.average.averaged.state_dict().values()
    return [value.data_ptr() for value in tensors]


def test_restored_it_is_as_captured_in_the_same_tensors(state: TrainState) -> None:
    step(state)
    state.network.eval()
    captured, before = state.capture(), addresses(state)
    assert_same(captured, state.state_dict())
    step(state)
    state.end_epoch(LOG)
    step(state)
    parts = ["network", "optimizers", "generators", "log", "losses", "training"]
    for part in [*parts, "average"] if state.average else parts:
        with pytest.raises(AssertionError):  # each had changed
            assert_same({part: captured[part]}, {part: state.state_dict()[part]})
    state.restore(captured)
    assert_same(state.state_dict(), captured)
    assert addresses(state) == before
    assert all(parameter.grad is None for parameter in state.network.parameters())
    assert (captured["average"] is None) == (state.average is None)


def test_restored_it_goes_on_as_it_did(state: TrainState) -> None:
    """Bit for bit, the average too."""
    step(state)
    captured = state.capture()
    ends = []
    for _ in range(2):
        state.restore(captured)
        step(state)
        step(state)
        ends.append(state.capture())
    assert_same(ends[0], ends[1])


class Own(torch.optim.SGD):
    """Nobody knows what it begins with."""


def test_what_an_optimizer_did_not_keep_then_is_zeros_or_of_ones_own_forgotten(state: TrainState) -> None:
    """In the same tensors; and to begin with zeros is to begin with nothing, to the bit."""
    state.optimizers = [*state.optimizers, Own(state.network[0].parameters(), lr=0.1, momentum=0.9)]
    captured, ends = state.capture(), []
    step(state)
    ends.append(state.capture())
    assert all(optimizer.state for optimizer in state.optimizers)
    before = addresses(state)
    state.restore(captured)
    adam, sgd, own = (optimizer.state for optimizer in state.optimizers)
    assert not own
    assert [len(adam), len(sgd)] == [2, 4]
    kept = [value for of in (adam, sgd) for values in of.values() for value in values.values()]
    assert not any(value.any() for value in kept)
    assert set(addresses(state)) < set(before)
    step(state)
    ends.append(state.capture())
    assert_same(*ends)


def test_a_gradient_that_is_dampened_but_for_the_first_is_begun_with_nothing(state: TrainState) -> None:
    state.optimizers = [torch.optim.SGD(state.network.parameters(), lr=0.1, momentum=0.9, dampening=0.5)]
    captured = state.capture()
    step(state)
    state.restore(captured)
    assert not state.optimizers[0].state


def test_a_capture_is_a_copy(state: TrainState) -> None:
    captured = state.capture()
    weight = captured["network"]["0.weight"].clone()
    step(state)
    assert torch.equal(captured["network"]["0.weight"], weight)
    assert not torch.equal(state.network.state_dict()["0.weight"], weight)


def test_what_is_inside_leaves_no_trace_though_it_raises(state: TrainState) -> None:
    step(state)
    before = state.capture()

    def interrupted() -> None:
        with state.untouched():
            step(state)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert_same(state.state_dict(), before)


def test_an_epoch_ends_with_its_sums_at_zero(state: TrainState) -> None:
    step(state)
    state.end_epoch(LOG)
    assert (state.epoch, state.step, state.log) == (1, 0, [LOG])
    assert state.losses.tolist() == [0, 0, 0]
    assert state.correct.item() == 0


def test_but_for_its_tensors_it_is_json(state: TrainState) -> None:
    """What a checkpoint will be made of."""
    step(state)
    state.end_epoch(LOG)

    def without_tensors(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): without_tensors(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [without_tensors(one) for one in value]
        return None if isinstance(value, torch.Tensor) else value

    plain = without_tensors(state.state_dict())
    assert json.loads(json.dumps(plain)) == plain


def test_a_gradient_scaler_goes_on_with_its_scale() -> None:
    """Of float16, which only GPUs train in: it has halved its scale at what overflowed."""

    def state() -> TrainState:
        network = torch.nn.Linear(2, 2)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        optimizers: list[torch.optim.Optimizer] = [torch.optim.SGD(network.parameters(), lr=0.1)]
        return TrainState(network, optimizers, scaler, device=torch.device("cpu"), steps_per_epoch=1)

    first, second = state(), state()
    for one in (first, second):
        one.scaler.scale(torch.ones(()))  # by which it has one
    first.scaler.update(new_scale=256.0)
    second.restore(first.capture())
    assert second.scaler.get_scale() == 256
