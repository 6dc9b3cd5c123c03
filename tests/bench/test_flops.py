"""Operations of training: the published figures, closed forms, and no trace of the counting."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fastcifar.bench import flops
from fastcifar.bench.flops import flops_by_epoch, flops_per_image, optimizer_flops, recounted, work_of
from fastcifar.models import build
from fastcifar.models.resnet import ResNet
from fastcifar.models.speednet import SpeedNet
from fastcifar.optim import make
from fastcifar.own import OwnCode, sealed
from fastcifar.recipe import Adam, Muon, OwnModel, OwnOptimizer, Recipe, Resnet, Sgd, Speednet

CPU = torch.device("cpu")
OWN_NET = Path(__file__).parents[2] / "examples" / "own_net.py"


class One(nn.Module):
    """Two convolutions 3x3 from 3 over 4 to 5 channels, with batch normalisation, a mean and no head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        return self.second(self.norm(self.first(images))).mean(dim=(2, 3))


FIRST, SECOND = 2 * 9 * 3 * 4 * 32**2, 2 * 9 * 4 * 5 * 32**2  # a multiplication and an addition are two


def test_the_published_networks_have_their_published_operations() -> None:
    """airbench94's 711 MFLOP an image; the ResNet's 2.28 GFLOP: three times 0.38 GMAC, less a little."""
    assert flops_per_image(SpeedNet(Speednet())) == pytest.approx(711e6, rel=0.01)
    assert flops_per_image(ResNet(Resnet(conv_bias=False))) == pytest.approx(2.28e9, rel=0.01)


def test_forward_and_both_gradients_count_and_that_of_the_image_does_not() -> None:
    assert flops_per_image(One()) == 2 * FIRST + 3 * SECOND
    assert flops_per_image(One(), side=16) == (2 * FIRST + 3 * SECOND) / 4


def test_what_is_frozen_costs_no_gradient() -> None:
    network = One()
    network.first.requires_grad_(False)
    network.norm.requires_grad_(False)
    assert flops_per_image(network) == FIRST + 2 * SECOND


def test_what_is_compiled_is_counted() -> None:
    """A whole graph, as Muon's on a GPU is, refuses to be run under a counter."""
    network = One()
    network.forward = torch.compile(network.forward, fullgraph=True)  # type: ignore[method-assign]
    assert flops_per_image(network) == 2 * FIRST + 3 * SECOND


def test_counting_leaves_no_trace(restored_rng: object) -> None:
    network = One()
    network.first.eval()
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    tensors = {name: (one, one.clone()) for name, one in network.state_dict(keep_vars=True).items()}
    random = torch.get_rng_state()
    flops_per_image(network)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in network.modules()] == [True, False, True, True]
    for name, one in network.state_dict(keep_vars=True).items():
        assert one is tensors[name][0]
        assert torch.equal(one, tensors[name][1]), name
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert (parameter.grad - 3).abs().max() == 0


def test_each_epoch_has_its_images_size_and_each_size_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def count(network: nn.Module, side: int) -> float:
        counted.append(side)
        return float(side)

    monkeypatch.setattr(flops, "flops_per_image", count)
    recipe = Recipe(epochs=5, image_sizes=(24, 24, 28, 32))
    assert flops_by_epoch(One(), recipe) == [24.0, 24.0, 28.0, 32.0, 32.0]
    assert sorted(counted) == [24, 28, 32]


def test_a_step_of_muon_is_its_newton_schulz() -> None:
    """Of a matrix (rows, columns), rows the fewer, in each iteration X X', its square and their product with X."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 16, 3), nn.Linear(16, 10)

    network, rows, columns = Net(), 16, 27
    recipe = Recipe().with_optimizer(Muon(newton_schulz_steps=3))
    once = 2 * rows * rows * columns * 2 + 2 * rows**3
    assert optimizer_flops(make(network, recipe)) == 3 * once
    for elementwise in (Adam(), Sgd()):
        assert optimizer_flops(make(network, Recipe().with_optimizer(elementwise))) == 0


@pytest.mark.parametrize("optimizer", [Adam(), Sgd(), Muon()])
def test_counted_again_without_its_memory_it_is_the_same(optimizer: Adam | Sgd | Muon, restored_rng: object) -> None:
    recipe = Recipe(epochs=2, image_sizes=(16, 24), model=Speednet(widths=(8, 16))).with_optimizer(optimizer)
    random = torch.get_rng_state()
    found = work_of(recipe, classes=10, own=OwnCode(), device=CPU)
    assert torch.equal(torch.get_rng_state(), random)
    assert recounted(recipe, classes=10) == found
    assert (found[1] > 0) == isinstance(optimizer, Muon)
    large, _ = recounted(replace(recipe, model=Resnet(width=1024)), classes=10)  # 1.7 billion parameters
    assert large is not None
    assert large[1] > 1e11


def test_code_of_somebodys_own_is_counted_where_it_is_trained_and_never_run_to_check() -> None:
    recipe, own = sealed(Recipe(epochs=1, model=OwnModel(f"{OWN_NET}:Net", {"width": 4})))
    (an_image,), _ = work_of(recipe, classes=10, own=own, device=CPU)
    assert own.model is not None
    assert an_image == flops_per_image(build(recipe.model, 10, own.model)) > 0
    assert recounted(recipe, classes=10) == (None, None)
    by_epoch, optimizer = recounted(Recipe(optimizer=OwnOptimizer("x.py:make")), classes=10)
    assert (len(by_epoch or []), optimizer) == (24, None)


def test_threads_that_count_at_once_leave_torch_compiling() -> None:
    """To run uncompiled is a stance of all threads: the second would put back, as it ends, what the first had taken."""
    first_in, first_out = threading.Event(), threading.Event()

    def first() -> None:
        with flops._uncompiled():
            first_in.set()
            first_out.wait(timeout=60)

    def second() -> None:
        first_in.wait(timeout=60)
        threading.Timer(0.2, first_out.set).start()
        with flops._uncompiled():
            first_out.wait(timeout=60)
            time.sleep(0.2)  # the first one's end comes before its own

    threads = [threading.Thread(target=one) for one in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch._dynamo.eval_frame._stance.stance == "default"
