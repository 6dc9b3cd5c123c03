"""A step as one CUDA graph, with a call of the function in the graph's place: all of it but CUDA's own."""

import contextlib
import copy
import gc
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from same import assert_same
from torch import Tensor, nn

from fastcifar import optim
from fastcifar.data.dataset import Dataset
from fastcifar.data.plan import draw_plan
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution, LoaderName, has_dali
from fastcifar.optim.muon import Muon as MuonOptimizer
from fastcifar.own import AugmentationFunction, OwnCode
from fastcifar.recipe import Adam, Augmentation, Muon, Recipe, Schedule, Selection, Sgd, Speednet
from fastcifar.training import step as step_module
from fastcifar.training import trainer as trainer_module
from fastcifar.training.log import Observer
from fastcifar.training.step_graph import FIRST, CudaGraphs, Graphed, Outputs
from fastcifar.training.trainer import Trainer

needs_dali = pytest.mark.skipif(not has_dali(), reason="no NVIDIA DALI here")
CPU = Execution(device="cpu", loader="fused", precision="float32", compile="off")
GRAPH = replace(CPU, compile="cuda-graph")


class Called(CudaGraphs):
    """As on a GPU: nothing runs when it is captured, and each replay gives the same tensors, written over."""

    def __init__(self, device: torch.device) -> None:
        self.captured = self.replayed = self.besides = 0

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        self.besides += 1
        yield

    def capture(self, function: Callable[[], Outputs]) -> Callable[[], Outputs]:
        self.captured += 1
        kept: list[Tensor] = []

        def replay() -> Outputs:
            self.replayed += 1
            outputs = function()
            if not kept:
                kept.extend(torch.empty_like(one) for one in outputs)
            for place, one in zip(kept, outputs, strict=True):
                place.copy_(one)
            return tuple(kept)

        return replay


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Called]:
    """Those of every step that is made; what is compiled runs as it is."""
    made: list[Called] = []

    def new(device: torch.device) -> Called:
        made.append(Called(device))
        return made[-1]

    monkeypatch.setattr(trainer_module, "CudaGraphs", new)
    monkeypatch.setattr(step_module, "compiled", lambda function, **_: function)
    return made


RECIPES = {
    "adam": {"optimizer": Adam()},
    "sgd": {"optimizer": Sgd()},
    "selection": {
        "selection": Selection(leave_out=1 / 3, after_epoch=1),
        "augmentation": Augmentation(brightness=0.1, contrast=0.1),
        "batch_sizes": (128, 100, 50),
    },
    "muon": {
        "optimizer": Muon(second_momentum=0.9),
        "model": Speednet(widths=(4, 8, 8), norm_images=30, whiten_bias_epochs=1.0),
        "image_sizes": (16, 24, 32),
    },
}


@pytest.fixture(params=RECIPES)
def recipe(request: pytest.FixtureRequest, quick: Recipe) -> Recipe:
    # Rates so low that it does not tell that a tensor's are rounded to float32.
    gentle = Schedule(min_lr=0, max_lr=1e-4, peak_epoch=1.5)
    return replace(quick, epochs=3, schedule=gentle, **RECIPES[request.param])


def darker(images: Tensor, generator: torch.Generator) -> Tensor:
    return images - 0.3 * torch.rand(len(images), 1, 1, 1, generator=generator)


def places(trainer: Trainer) -> dict[str, int]:
    """Where all lies that a step reads and writes beside its batch."""
    found = {name: one.data_ptr() for name, one in trainer.model.state_dict().items()}
    for number, optimizer in enumerate(trainer.state.optimizers):
        for group in optimizer.param_groups:
            found[f"{number} lr {len(found)}"] = group["lr"].data_ptr()
        for values in optimizer.state.values():
            found |= {
                f"{number} {name} {len(found)}": one.data_ptr() for name, one in values.items() if one is not None
            }
    return found


def test_it_trains_as_without(small: Dataset, recipe: Recipe, graphs: list[Called]) -> None:
    plain, graphed = Trainer(recipe, small, CPU), Trainer(recipe, small, GRAPH)
    (made,) = graphs
    # With short last batches, of 300 - 2 * 128 images. Of 100 and 50 there are none, nor where images are left out.
    shapes = 4 if recipe.batch_sizes else 2 * len({recipe.image_size_of(epoch) for epoch in range(3)})
    assert (made.captured, made.replayed, made.besides) == (shapes, shapes, 2 * shapes)
    before, began = places(graphed), copy.deepcopy(plain.model.state_dict())
    one, other = plain.run(), graphed.run()
    tests = 3 - FIRST  # of those of three epochs, which is one graph more
    assert (made.captured, made.replayed) == (shapes + tests, shapes + sum(graphed.steps) + tests)
    assert one.final_accuracy == pytest.approx(other.final_accuracy, abs=0.02)
    for ours, its in zip(graphed.state.log, plain.state.log, strict=True):
        assert ours.train_loss == pytest.approx(its.train_loss, rel=1e-4)
        assert ours.learning_rate == its.learning_rate
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(graphed.model.state_dict()[name], value, rtol=1e-2, atol=1e-3)
    for name, weight in plain.model.named_parameters():
        if weight.requires_grad:  # how far it has come from where it began, which is less than that
            way, apart = weight - began[name], weight - graphed.model.get_parameter(name)
            assert apart.norm() <= 0.1 * way.norm(), name
    assert places(graphed) == before


@pytest.mark.parametrize("loader", ["fused", pytest.param("dali", marks=needs_dali)])
def test_fewer_rates_are_fewer_steps(small: Dataset, quick: Recipe, graphs: list[Called], loader: LoaderName) -> None:
    trainer = Trainer(quick, small, replace(GRAPH, loader=loader))
    assert trainer.steps[0] == 3
    assert len(trainer.losses_at([1e-4, 1e-3], stop=lambda loss: False)) == 2


@pytest.mark.parametrize(
    ("loader", "own"), [("fused", None), ("fused", darker), pytest.param("dali", None, marks=needs_dali)]
)
def test_it_goes_on_in_the_middle_of_an_epoch(
    small: Dataset, quick: Recipe, graphs: list[Called], loader: LoaderName, own: AugmentationFunction | None
) -> None:
    """And with batches that are made outside of the graphs: of another loader, or by custom code."""
    execution, code = replace(GRAPH, loader=loader), OwnCode(augmentation=own)
    recipe = replace(
        quick,
        batch_size=50,
        augmentation=Augmentation(brightness=0.1, own="own.py:darker" if own else None),
        selection=Selection(leave_out=1 / 3),
        schedule=Schedule(min_lr=0, max_lr=1e-4, peak_epoch=1),
    )
    whole, halves = (Trainer(recipe, small, execution, code) for _ in range(2))
    kept = []

    class Keep(Observer):
        def step(self, epoch: int, step: int) -> None:
            if (epoch, step) in ((1, 2), (2, 3)):
                kept.append(whole.state.capture())

    whole.run([Keep()])
    plain = Trainer(recipe, small, replace(execution, compile="off"), code)
    plain.run()
    for ours, its in zip(whole.state.log, plain.state.log, strict=True):
        assert ours.train_loss == pytest.approx(its.train_loss, rel=1e-4)
    for state in kept:
        halves.restore(state)
        halves.run()
        for name, value in whole.model.state_dict().items():
            assert torch.equal(halves.model.state_dict()[name], value), name
        assert [one.train_loss for one in halves.state.log] == [one.train_loss for one in whole.state.log]


def test_a_plan_that_was_chosen_from_is_whole_when_it_comes_again(
    small: Dataset, quick: Recipe, graphs: list[Called]
) -> None:
    trainer = Trainer(replace(quick, batch_size=100, selection=Selection(leave_out=1 / 3)), small, GRAPH)
    losses, plan = trainer.state.image_losses, draw_plan(300, quick.augmentation, seed=0, epoch=1)
    assert losses
    for descending in (False, True):
        losses.before.copy_(torch.arange(300.0).sort(descending=descending).values)
        losses.latest.fill_(-1)
        assert len(list(trainer._epoch_steps.of(plan, 0, 1, trainer._rates[1]))) == 2
        assert torch.equal(losses.latest >= 0, losses.hardest(200))


def test_a_plan_is_where_the_batches_of_its_epoch_are_made(small: Dataset, quick: Recipe, graphs: list[Called]) -> None:
    """Each size of batch has a loader of its own."""
    recipe = replace(quick, batch_sizes=(100, 50), selection=Selection(leave_out=0.1, after_epoch=2))
    trainer, plan = Trainer(recipe, small, GRAPH), draw_plan(300, quick.augmentation, seed=5, epoch=0)
    losses = trainer.state.image_losses
    assert losses
    trainer._epoch_steps.prepare(plan, 0)
    losses.latest.fill_(-1)
    next(trainer._epoch_steps.of(plan, 0, 1, trainer._rates[1]))
    assert sorted(plan.indices[:50]) == (losses.latest >= 0).nonzero().flatten().tolist()


def test_what_a_graph_reads_stays_where_it_is(small: Dataset, recipe: Recipe, graphs: list[Called]) -> None:
    """Through a restart, another's state, and a warm-up; and what is kept is as without graphs."""
    trainer = Trainer(recipe, small, GRAPH)
    before = places(trainer)
    trainer.train_epoch()
    kept = trainer.state.capture()
    rates = [group["lr"] for one in kept["optimizers"] for group in one["param_groups"]]
    assert all(type(rate) is float for rate in rates)
    for seed in (9, recipe.seed):
        trainer.restart(replace(recipe, seed=seed))
        assert places(trainer) == before
    trainer.restore(kept)
    assert_same(trainer.state.state_dict(), kept)
    assert places(trainer) == before
    trainer.train_epoch()

    plain = Trainer(recipe, small, CPU)
    plain.restore(kept)
    assert all(type(group["lr"]) is float for group in optim.groups(plain.state.optimizers))
    plain.train_epoch()
    assert plain.state.log[-1].train_loss == pytest.approx(trainer.state.log[-1].train_loss, rel=1e-4)
    trainer.restore(plain.state.capture())
    assert places(trainer) == before


def test_a_graph_has_the_batch_that_is_given() -> None:
    """At the same strides each time, for what is compiled is compiled for them: also of a part of a larger image."""
    seen: list[float] = []
    strides = set[tuple[int, ...]]()

    def step(images: Tensor, labels: Tensor) -> Outputs:
        seen.append(images.sum().item())
        strides.add(images.stride())
        return images.sum() + labels.sum(), labels, labels.sum()

    graph = Graphed(step, Called(torch.device("cpu")))
    images = torch.ones(2, 3, 6, 6).to(memory_format=torch.channels_last)[:, :, 1:5, 1:5]
    for number in range(5):
        total, labels, _ = graph(number * images, torch.full((2,), number))
        assert total == 98 * number
        assert labels.tolist() == [number] * 2
        images = images.contiguous(memory_format=torch.channels_last) if number % 2 else images
    assert seen == [0, 96, 192, 288, 384]
    assert strides == {(48, 1, 12, 3)}


def test_there_is_a_graph_for_each_size_and_kind_of_what_is_given() -> None:
    graphs = Called(torch.device("cpu"))
    graph = Graphed(lambda *given, times: (times * given[0].sum(),), graphs)
    kinds = [(torch.ones(2), 1), (torch.ones(2), 3), (torch.ones(5), 1), (torch.ones(2, dtype=torch.int64), 1)]
    for _ in range(4):
        for one, times in kinds:
            assert graph(one, times=times)[0] == times * len(one)
    assert (graphs.captured, graphs.replayed) == (4, 8)


def test_rates_are_written_where_a_graph_reads_them() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    optimizers = optim.make(network, Recipe(optimizer=Muon()), compile="cuda-graph")
    groups = list(optim.groups(optimizers))
    initial = [group["initial_lr"] for group in groups]
    rates = optim.capturable(optimizers)
    assert rates.tolist() == pytest.approx(initial)
    held = [group["lr"] for group in groups]
    assert all(one.data_ptr() % 16 == 0 for one in held)
    rates.copy_(torch.tensor(optim.rates_at(optimizers, 0.5)))
    adam = torch.optim.Adam(network.parameters(), lr=0.1, fused=True)
    optim.capturable([adam])
    assert adam.param_groups[0]["capturable"]  # else torch refuses to capture it
    assert all(group["lr"] is one for group, one in zip(groups, held, strict=True))
    assert [rate.item() for rate in held] == pytest.approx([0.5 * rate for rate in initial])


@pytest.mark.parametrize("second_momentum", [0.0, 0.9])
def test_muon_takes_the_same_step_by_a_rate_on_the_device(second_momentum: float) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 3, 3, 3), torch.randn(3, 4, 3, 3, 3)
    weights = [nn.Parameter(start.clone()) for _ in range(2)]
    config = {"lr": 0.5, "momentum": 0.6, "newton_schulz_steps": 3, "normalise_weights": True}
    ours, its = (MuonOptimizer([one], **config, second_momentum=second_momentum) for one in weights)
    optim.capturable([ours])
    for gradient in gradients:
        for optimizer, one in zip((ours, its), weights, strict=True):
            one.grad = gradient.clone()
            optimizer.step()
    assert (weights[0] - start).abs().max() > 0.1
    torch.testing.assert_close(weights[0], weights[1])


def test_the_sgd_of_somebodys_own_leaves_its_rate_on_the_device() -> None:
    """As torch makes it, it would ask the device for the rate, which a capture forbids."""
    weights = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    ours, its = (torch.optim.SGD([one], lr=0.1, momentum=0.9, nesterov=True) for one in weights)
    optim.capturable([ours])
    for optimizer, one in zip((ours, its), weights, strict=True):
        for _ in range(3):
            one.grad = one.detach() * 2
            optimizer.step()
    assert ours.param_groups[0]["fused"]
    torch.testing.assert_close(weights[0], weights[1])


def test_an_optimizer_that_may_not_be_captured_is_refused() -> None:
    network = nn.Linear(2, 2)
    with pytest.raises(InputError, match=r"--compile cuda-graph: for Adam, AdamW, SGD and Muon, not LBFGS"):
        optim.capturable([torch.optim.LBFGS(network.parameters())])
    for options in ({"differentiable": True}, {"momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(InputError, match=f"not for an optimizer with {[*options][-1]}"):
            optim.capturable([torch.optim.SGD(network.parameters(), **options)])


class Failing(contextlib.AbstractContextManager[None]):
    """A capture in which something has failed: its end fails too, and says less. Nothing may be collected in it."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> None:
        assert not gc.isenabled()

    def __exit__(self, *_: object) -> None:
        raise RuntimeError("operation failed due to a previous error during capture")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CUDA error: operation not permitted when stream is capturing\nmore", RunError),
        ("CUDA out of memory. Tried to allocate 2 GiB", RuntimeError),
    ],
)
def test_a_step_that_cannot_be_captured(monkeypatch: pytest.MonkeyPatch, text: str, expected: type[Exception]) -> None:
    """What waits for the device is one line; what memory lacks is told elsewhere."""
    for name in ("CUDAGraph", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "graph", Failing)
    streams: list[str] = []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "before")
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)

    def waits() -> Outputs:
        raise RuntimeError(text)

    with pytest.raises((RuntimeError, RunError)) as caught:
        CudaGraphs(torch.device("cuda")).capture(waits)
    assert type(caught.value) is expected
    assert text.splitlines()[0] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert gc.isenabled()
    assert streams == ["before"]


def test_every_graph_is_there_and_the_next_plan_before_an_epoch_begins(
    small: Dataset, quick: Recipe, graphs: list[Called]
) -> None:
    """The last 100 of 300 images are a batch of 200's loader, whose graph is not that of 100's."""
    trainer = Trainer(replace(quick, batch_sizes=(100, 200)), small, GRAPH)
    (made,) = graphs
    assert made.captured == 3
    trainer.train_epoch()
    assert made.captured == 3
    in_place = trainer._epoch_steps._in_place
    assert in_place
    wanted = draw_plan(300, quick.augmentation, seed=quick.seed, epoch=1)
    assert (in_place[1].indices == wanted.indices).all()
    trainer.train_epoch()
    assert made.captured == 3
