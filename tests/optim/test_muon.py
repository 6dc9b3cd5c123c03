"""Muon: updates orthogonalised by Newton-Schulz, whatever they are stacked with; the rest by SGD or Adam."""

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from same import assert_same
from torch import Tensor, nn

from fastcifar.models.resnet import ResNet
from fastcifar.optim.muon import Muon, _half, muon, newton_schulz, orthogonalised, stepped
from fastcifar.recipe import Muon as Config
from fastcifar.recipe import Resnet
from fastcifar.training.state import TrainState

SHAPES = [(16, 27), (16, 144), (40, 144), (40, 360), (40, 360), (30, 10)]


def by_hand(matrix: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """The quintic of airbench94_muon.py on singular values, which is what its matrix products do to them."""
    u, values, v = np.linalg.svd(matrix, full_matrices=False)
    values = values / (np.linalg.norm(matrix) + 1e-7)
    for _ in range(steps):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return (u * values) @ v


def apart(ours: Tensor, expected: NDArray[np.float64]) -> float:
    """The norm of the difference, as a share of what is expected; one rounding to bfloat16 is about 0.002."""
    difference = np.linalg.norm(ours.detach().double().flatten().numpy() - expected.flatten())
    return float(difference / np.linalg.norm(expected))


def each_orthogonalised(matrices: list[Tensor], steps: int) -> list[Tensor]:
    """Each of them, at its place."""
    found = {}
    for places, stack in orthogonalised(matrices, steps):
        found.update(zip(places, stack, strict=True))
    return [found[place] for place in range(len(matrices))]


def optimizer_of(*parameters: Tensor, lr: float = 0.1, momentum: float = 0.6, **about: Any) -> Muon:
    return Muon(parameters, lr=lr, momentum=momentum, newton_schulz_steps=3, **{"normalise_weights": False, **about})


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_each_matrix_is_what_it_is_alone_in_float64(steps: int, restored_rng: object) -> None:
    matrices = [torch.randn(shape) * scale for shape, scale in zip(SHAPES, [1, 1e-3, 1e3, 1, 1e-2, 1], strict=True)]
    for result, matrix in zip(each_orthogonalised(matrices, steps), matrices, strict=True):
        assert result.dtype == torch.bfloat16
        assert apart(result, by_hand(matrix.double().numpy(), steps)) < 0.008 * steps


def test_after_five_steps_singular_values_are_about_one(restored_rng: object) -> None:
    for result in each_orthogonalised([torch.randn(shape) for shape in SHAPES], 5):
        values = torch.linalg.svdvals(result.float())
        assert 0.6 < values.min() <= values.max() < 1.3


def test_what_a_matrix_is_stacked_with_does_not_change_it(restored_rng: object) -> None:
    one, huge = torch.randn(24, 60), 1e6 * torch.randn(24, 60)
    alone = newton_schulz(one[None], 3, torch.bfloat16)[0].float()
    for others in ([huge], [torch.zeros(24, 60), huge], [torch.randn(24, 61), torch.randn(60, 24)]):
        among = each_orthogonalised([*others, one], 3)[-1].float()
        torch.testing.assert_close(among, alone, rtol=0.02, atol=0.01)
        assert all(torch.isfinite(other).all() for other in each_orthogonalised(others, 3))


def test_a_transposed_matrix_gives_the_transposed_result(restored_rng: object) -> None:
    wide = torch.randn(3, 12, 50)
    torch.testing.assert_close(newton_schulz(wide.mT, 4, torch.float32).mT, newton_schulz(wide, 4, torch.float32))


def test_zeros_stay_zeros() -> None:
    parameter = nn.Parameter(torch.zeros(4, 3, 3, 3))
    parameter.grad = torch.zeros_like(parameter)
    optimizer_of(parameter, normalise_weights=True).step()
    assert torch.equal(parameter, torch.zeros(4, 3, 3, 3))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("normalise_weights", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_three_steps_by_hand(
    layout: torch.memory_format, normalise_weights: bool, momentum: float, restored_rng: object
) -> None:
    """Nesterov's momentum over sums, norms of the weights, and a rate that changes from step to step."""
    weight = nn.Parameter(torch.randn(8, 5, 3, 3).to(memory_format=layout))
    optimizer = optimizer_of(weight, momentum=momentum, normalise_weights=normalise_weights)
    expected = weight.detach().double().flatten(1).numpy()
    buffer = np.zeros_like(expected)
    for rate in (0.3, 0.2, 0.1):
        weight.grad = torch.randn(8, 5, 3, 3).to(memory_format=layout)
        gradient = weight.grad.double().flatten(1).numpy()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        buffer = momentum * buffer + gradient
        if normalise_weights:
            expected = expected * 8**0.5 / np.linalg.norm(expected)
        expected = expected - rate * by_hand(gradient + momentum * buffer, 3)
    assert apart(weight, expected) < 0.01
    assert weight.is_contiguous(memory_format=layout)


def test_with_a_second_momentum_rows_are_evened_over_time(restored_rng: object) -> None:
    """NorMuon's by hand: the update's rows over the root of the running mean of their mean squares, its norm kept."""
    shape = 8, 5, 3, 3
    weight, plain = (nn.Parameter(torch.zeros(shape)) for _ in range(2))
    evening = optimizer_of(weight, lr=1.0, momentum=0.0, second_momentum=0.75)
    other = optimizer_of(plain, lr=1.0, momentum=0.0)
    running = torch.zeros(8, 1)
    for step in range(3):
        before, before_plain = weight.detach().clone(), plain.detach().clone()
        weight.grad = torch.randn(shape) * torch.linspace(0.1, 3, 8)[:, None, None, None]
        plain.grad = weight.grad.clone()
        evening.step()
        other.step()
        update = (before_plain - plain).detach().flatten(1)
        running = 0.75 * running + 0.25 * update.square().mean(1, keepdim=True)
        even = update / running.sqrt()
        wanted = even * update.norm() / even.norm()
        found = (before - weight).detach().flatten(1)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
        if not step:
            assert found.norm(dim=1).std() < 1e-3 < update.norm(dim=1).std()
    weight.grad = torch.zeros(shape)
    nothing = nn.Parameter(torch.ones(shape))
    nothing.grad = torch.zeros(shape)
    optimizer_of(nothing, lr=1.0, second_momentum=0.75).step()
    assert torch.equal(nothing, torch.ones(shape))


def test_on_wide_matrices_it_is_torchs_own(restored_rng: object) -> None:
    """Whose buffer is a mean, not a sum: a factor that Newton-Schulz does not see."""
    ours, theirs = (nn.Parameter(torch.ones(6, 20)) for _ in range(2))
    torchs = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0, momentum=0.6, nesterov=True, ns_steps=3)
    optimizer = optimizer_of(ours, lr=0.1, momentum=0.6)
    for _ in range(3):
        ours.grad = torch.randn(6, 20)
        theirs.grad = ours.grad.clone()
        optimizer.step()
        torchs.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.003)


def test_normalised_weights_have_the_norm_of_the_root_of_their_channels() -> None:
    weights = [nn.Parameter(torch.full(shape, 7.0)) for shape in [(9, 2, 3, 3), (4, 5)]]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer_of(*weights, lr=0.0, normalise_weights=True).step()
    assert [weight.norm().item() for weight in weights] == pytest.approx([3, 2])


def test_what_has_no_gradient_stays_as_it_is() -> None:
    still, moved = (nn.Parameter(torch.ones(4, 4)) for _ in range(2))
    moved.grad = torch.eye(4)
    optimizer = optimizer_of(still, moved, normalise_weights=True)
    optimizer.step()
    assert torch.equal(still, torch.ones(4, 4))
    assert not torch.equal(moved, torch.ones(4, 4))
    assert list(optimizer.state) == [moved]


def test_a_regression_is_learnt(restored_rng: object) -> None:
    weight = nn.Parameter(torch.zeros(6, 10))
    inputs, truth = torch.randn(200, 10), torch.randn(6, 10)
    optimizer = optimizer_of(weight)

    def loss() -> Tensor:
        optimizer.zero_grad()
        error = (inputs @ (weight - truth).T).square().mean()
        error.backward()
        return error.detach()

    losses = []
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / 60)
        losses.append(float(optimizer.step(loss)))  # type: ignore[arg-type]
    assert losses[-1] < 0.01 * losses[0]


@pytest.mark.parametrize("evened", [0.0, 0.9])
def test_a_step_is_one_graph_whatever_the_rate(evened: float, restored_rng: object) -> None:
    """What a GPU compiles: without its kernels here, the graph run as it is."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(stepped, fullgraph=True, dynamic=False, backend=backend)
    shapes = [(8, 3, 3, 3), (8, 8, 3, 3), (8, 8, 3, 3), (6, 20)]
    ours, theirs = ([torch.ones(shape) for shape in shapes] for _ in range(2))
    states = [
        ([torch.zeros(shape) for shape in shapes], [torch.zeros(shape[0], 1) for shape in shapes if evened])
        for _ in range(2)
    ]
    about = {"momentum": 0.6, "second_momentum": evened, "newton_schulz_steps": 3, "normalise_weights": True}
    for rate in (0.1, 0.2, 0.0):
        gradients = [torch.randn(shape) for shape in shapes]
        at = torch.tensor(rate)
        for function, parameters, state in ((compiled, ours, states[0]), (stepped, theirs, states[1])):
            function(parameters, gradients, *state, at, **about, dtype=torch.bfloat16)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(states[0], states[1])
    (graph,) = graphs
    assert not {"item", "tolist", "cpu"} & {node.target for node in graph.graph.nodes}  # a GPU would be waited for


@pytest.mark.parametrize(("rest", "evened"), [("sgd", 0.0), ("adam", 0.0), ("sgd", 0.9)])
def test_captured_and_restored_it_goes_on_as_it_would_have(rest: str, evened: float, restored_rng: object) -> None:
    network = ResNet(Resnet(width=4)).to(memory_format=torch.channels_last)
    config = Config(rest=rest, lr=0.1, bias_lr=0.01, head_lr=0.01, second_momentum=evened)  # type: ignore[arg-type]
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    state = TrainState(network, muon(network, config), scaler, device=torch.device("cpu"), steps_per_epoch=4)
    images = torch.randn(4, 3, 32, 32)

    def step() -> None:
        network(images).square().sum().backward()
        for optimizer in state.optimizers:
            optimizer.step()
            optimizer.zero_grad()

    step()
    captured = state.capture()
    (first, *_) = state.optimizers[0].state.values()
    place = first["momentum_buffer"].data_ptr()
    step()
    expected = state.capture()
    state.restore(captured)
    (first, *_) = state.optimizers[0].state.values()
    assert first["momentum_buffer"].data_ptr() == place
    step()
    assert_same(state.state_dict(), expected)


def test_a_state_dict_goes_into_another_optimizer(restored_rng: object) -> None:
    one, other = (nn.Parameter(torch.ones(6, 2, 3, 3)) for _ in range(2))
    before, after = optimizer_of(one), optimizer_of(other, lr=9.0)
    gradients = torch.randn(3, 6, 2, 3, 3)
    one.grad = gradients[0]
    before.step()
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    other.data.copy_(one.data)
    for gradient, (weight, optimizer) in itertools.product(gradients[1:], ((one, before), (other, after))):
        weight.grad = gradient.clone()
        optimizer.step()
    assert torch.equal(one, other)


def test_a_gradient_scaler_unscales_it_and_leaves_out_what_overflowed() -> None:
    weight = nn.Parameter(torch.eye(4))
    optimizer = optimizer_of(weight)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((weight * torch.arange(16.0).view(4, 4)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(optimizer.state[weight]["momentum_buffer"], torch.arange(16.0).view(4, 4))
    before = weight.detach().clone()
    weight.grad = torch.full((4, 4), float("inf"))
    scaler.scale(torch.ones(()))
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(weight, before)
    assert scaler.get_scale() == 512


def groups_of(optimizer: torch.optim.Optimizer) -> list[tuple[int, float, float]]:
    return [(len(group["params"]), group["lr"], group["weight_decay"]) for group in optimizer.param_groups]


def test_the_kinds_of_the_resnet_and_their_rates() -> None:
    config = Config(lr=0.3, rest="sgd", rest_momentum=0.7, bias_lr=100.0, head_lr=1000.0, weight_decay=0.004)
    weights, rest = muon(ResNet(Resnet(width=4)), config)
    assert isinstance(weights, Muon)
    assert [(len(group["params"]), group["lr"]) for group in weights.param_groups] == [(8, 0.3)]
    assert isinstance(rest, torch.optim.SGD)
    assert groups_of(rest) == [(9 + 16, 100.0, pytest.approx(4e-5)), (1, 1000.0, pytest.approx(4e-6))]
    assert all((group["momentum"], group["nesterov"]) == (0.7, True) for group in rest.param_groups)


def test_a_rest_without_momentum_or_rate() -> None:
    config = Config(rest="sgd", rest_momentum=0.0, bias_lr=0.0, head_lr=1.0, weight_decay=0.5)
    _, rest = muon(ResNet(Resnet(width=4)), config)
    assert groups_of(rest) == [(25, 0.0, 0.0), (1, 1.0, 0.5)]
    assert not rest.param_groups[0]["nesterov"]


def test_without_one_of_the_two_there_is_the_other() -> None:
    (only,) = muon(nn.Conv2d(3, 4, 3, bias=False), Config())
    assert isinstance(only, Muon)
    (only,) = muon(nn.Linear(3, 2), Config(rest="adam"))
    assert isinstance(only, torch.optim.AdamW)


@pytest.mark.parametrize("rest", ["sgd", "adam"])
def test_at_full_rate_a_step_takes_the_decay_from_what_is_not_pulled(rest: str) -> None:
    """Without a gradient, with either: the share `weight_decay` of a value, less of it where the schedule is lower."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    config = Config(rest=rest, rest_momentum=0.0, bias_lr=20.0, head_lr=0.1, weight_decay=0.25)  # type: ignore[arg-type]
    _, optimizer = muon(network, config)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(held) == 5
    for share, left in ((1.0, 0.75), (0.4, 0.9)):
        for group, full in zip(optimizer.param_groups, (20.0, 0.1), strict=True):
            group["lr"] = share * full
        for parameter in held:
            parameter.data.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        assert [value for one in held for value in one.flatten().tolist()] == pytest.approx([left] * 12)


@pytest.mark.parametrize(("units", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_without_bfloat16_instructions_a_cpu_iterates_in_float32(
    monkeypatch: pytest.MonkeyPatch, units: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: units)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert _half.__wrapped__(torch.device("cpu")) == dtype
