"""Custom networks, optimizers and augmentations in the trainer: what is as it should be trains, the rest is one
line before the first step."""

import copy
import functools
import math
import random
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch._dynamo

from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError
from fastcifar.execution import Execution
from fastcifar.own import OwnCode
from fastcifar.recipe import OwnModel, OwnOptimizer, Recipe, Speednet
from fastcifar.training.trainer import Trainer

CPU = Execution(device="cpu", loader="dali", precision="float32", compile="off")
MINE = OwnModel("mine.py:Net")


def own(**parts: object) -> OwnCode:
    return OwnCode(**parts)  # type: ignore[arg-type]


class Linear(torch.nn.Module):
    """A custom network."""

    def __init__(self, classes: int, outputs: int | None = None) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, outputs or classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.mean(dim=(2, 3)))


def test_a_network_of_ones_own_trains(small: Dataset, quick: Recipe) -> None:
    trainer = Trainer(replace(quick, model=MINE), small, CPU, own(model=Linear))
    trainer.run()
    assert isinstance(trainer.model, Linear)
    other = Trainer(replace(quick, model=MINE, seed=1), small, CPU, own(model=Linear))
    assert not torch.equal(trainer.model.head.weight, other.model.head.weight)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (
            lambda classes: Linear(classes, 9),
            r"of images \(2, 3, 32, 32\) it gives \(2, 9\); logits \(2, 10\) are needed",
        ),
        (lambda classes: 3, "gives a int, not a torch.nn.Module"),
        (lambda classes: torch.nn.Flatten(), "a network without parameters to train"),
        (lambda: 3, "TypeError: .*takes 0 positional arguments but 1 was given"),
        (lambda classes: torch.nn.Linear(31, classes), r"of images \(2, 3, 32, 32\): RuntimeError: .*mat1 and mat2"),
    ],
)
def test_what_is_no_network_is_refused_before_the_first_step(
    small: Dataset, quick: Recipe, model: object, complaint: str
) -> None:
    with pytest.raises(InputError, match=rf"^mine\.py:Net.*{complaint}"):
        Trainer(replace(quick, model=MINE), small, CPU, own(model=model))


def sgd(network: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.1)


def test_an_optimizer_of_ones_own_has_its_rates_scaled(small: Dataset, quick: Recipe) -> None:
    recipe = quick.with_optimizer(OwnOptimizer("mine.py:make"))
    trainer = Trainer(recipe, small, CPU, own(optimizer=sgd))
    logs = [trainer.train_epoch() for _ in range(2)]
    assert [log.learning_rate for log in logs] == [pytest.approx(0.1), pytest.approx(0.01)]


@pytest.mark.parametrize(
    ("optimizer", "complaint"),
    [
        (lambda network: sgd(network.prep), r"misses the parameters layer1\.block\.conv\.weight.* and \d+ more"),
        (lambda network: [sgd(network), sgd(network.head)], "holds the parameter head.weight twice"),
        (lambda network: "adam", "gives a str, not a torch.optim.Optimizer"),
        (lambda network: None, "gives a NoneType, not a torch.optim.Optimizer"),
        (lambda network: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_optimizer_of_the_network_is_refused(
    small: Dataset, quick: Recipe, optimizer: object, complaint: str
) -> None:
    recipe = quick.with_optimizer(OwnOptimizer("mine.py:make"))
    with pytest.raises(InputError, match=rf"^mine\.py:make: {complaint}"):
        Trainer(recipe, small, CPU, own(optimizer=optimizer))


def noise(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return images + torch.randn(images.shape, generator=generator, device=images.device)


def augmented(quick: Recipe) -> Recipe:
    return replace(quick, augmentation=replace(quick.augmentation, own="mine.py:f"))


def test_an_augmentation_of_ones_own_is_keyed_by_seed_epoch_and_batch(small: Dataset, quick: Recipe) -> None:
    """The same seed gives the same losses, also of an epoch that is left in its midst; another one does not."""
    seen: list[torch.Tensor] = []

    def kept(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        seen.append(torch.rand(3, generator=generator))
        return noise(images, generator)

    plain = Trainer(quick, small, CPU).train_epoch()
    one, other = (Trainer(augmented(quick), small, CPU, own(augmentation=kept)) for _ in range(2))
    seen.clear()
    first = one.train_epoch()
    assert len({tuple(drawn.tolist()) for drawn in seen}) == 3
    assert first.train_loss != plain.train_loss
    assert other.train_epoch().train_loss == first.train_loss
    drawn = {tuple(one.tolist()) for one in seen}
    other.restart(replace(other.recipe, seed=1))
    seen.clear()
    restarted = other.train_epoch().train_loss
    assert len({tuple(one.tolist()) for one in seen} - drawn) == 3
    assert restarted != first.train_loss
    new = Trainer(replace(augmented(quick), seed=1), small, CPU, own(augmentation=kept))
    assert restarted == new.train_epoch().train_loss


@pytest.mark.parametrize(
    ("augmentation", "complaint"),
    [
        (
            lambda images, generator: images[:, :, 1:],
            r"changes a batch's shape from \(128, 3, 32, 32\) to \(128, 3, 31, 32\)",
        ),
        (lambda images, generator: images.double(), "changes a batch's dtype from torch.float32 to torch.float64"),
        (lambda images, generator: images.to("meta"), "changes a batch's device from cpu to meta"),
        (lambda images, generator: None, "gives a NoneType, not a batch of images"),
        (lambda images: images, "TypeError: .*takes 1 positional argument but 2 were given"),
    ],
)
def test_an_augmentation_that_changes_more_than_pixels_is_refused(
    small: Dataset, quick: Recipe, augmentation: object, complaint: str
) -> None:
    with pytest.raises(InputError, match=rf"^mine\.py:f: {complaint}"):
        Trainer(augmented(quick), small, CPU, own(augmentation=augmentation))


def test_an_augmentation_that_cannot_be_compiled_runs_as_it_is_and_it_is_said(small: Dataset, quick: Recipe) -> None:
    def eager(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        torch._dynamo.graph_break()
        return images

    trainer = Trainer(augmented(quick), small, replace(CPU, compile="default"), own(augmentation=eager))
    assert trainer.notes == ["mine.py:f: torch.compile does not take it whole: it runs eagerly"]
    trainer.train_epoch()


class Counting(Linear):
    """Its answers hang on how often it was asked, and on numbers that were drawn when it was made, in no state_dict."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.mask, self.asked, self.generator = torch.rand(3), 0, torch.Generator()
        self.seen = {"means": [torch.zeros(3)]}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.asked += self.training
        self.seen["means"][0] += images.mean(dim=(0, 2, 3))
        noise = torch.rand(3, generator=self.generator) if self.training else 1.0
        return self.head(images.mean(dim=(2, 3)) * self.mask * noise * (1 + self.asked)) + self.seen["means"][0].sum()


class Late(torch.optim.SGD):
    """Half of its steps it does not take, which only a number of its own tells apart."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__(network.parameters(), lr=0.1)
        self.taken = 0
        self.anchors = [parameter.detach().clone() for parameter in network.parameters()]

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        self.taken += 1
        if self.taken % 2:
            super().step()
        with torch.no_grad():
            for parameter, anchor in zip(self.param_groups[0]["params"], self.anchors, strict=True):
                parameter.lerp_(anchor, 0.1)


def of(trainer: Trainer) -> list[float | None]:
    """What all its epochs came to."""
    trainer.run()
    return [loss for one in trainer.state.log for loss in (one.train_loss, one.test_loss)]


@pytest.mark.parametrize("network", [Linear, Counting])
@pytest.mark.parametrize("optimizer", [lambda network: torch.optim.SGD(network.parameters(), lr=0.1), Late])
def test_each_run_begins_anew_whatever_ones_own_code_keeps(
    small: Dataset, quick: Recipe, network: type, optimizer: object, restored_rng: object
) -> None:
    """Where no state_dict has it: the run of a seed is the same after that of another one, and without a warm-up."""
    recipe = replace(quick, model=MINE, optimizer=OwnOptimizer("mine.py:make"), seed=1)
    parts = own(model=network, optimizer=optimizer)
    fresh = Trainer(recipe, small, CPU, parts)
    torch.manual_seed(1)
    twin = network(10)
    for name, value in twin.state_dict().items():
        assert torch.equal(fresh.model.state_dict()[name], value)
    if network is Counting:
        assert (fresh.model.asked, fresh.model.seen["means"][0].sum()) == (0, 0)
        assert torch.equal(fresh.model.mask, twin.mask)
    if optimizer is Late:
        assert fresh.state.optimizers[0].taken == 0
    again = Trainer(replace(recipe, seed=0), small, CPU, parts)
    first = of(again)
    again.restart(recipe)
    assert of(again) == of(fresh) != first
    said = [line for line in fresh.notes if "no state_dict holds" in line]
    assert bool(said) == (network is Counting or optimizer is Late)
    assert said == [line for line in again.notes if "no state_dict holds" in line]


def test_who_draws_from_generators_that_no_seed_decides_is_told(small: Dataset, quick: Recipe) -> None:
    class Drawing(Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images * random.random() * np.random.rand())

    random.seed(0)
    trainer = Trainer(replace(quick, model=MINE), small, CPU, own(model=Drawing))
    assert "a generator of random's, one of NumPy's" in "".join(trainer.notes)
    after = random.random()
    random.seed(0)  # what is left of the warm-up is nothing: each network was asked once as it was made
    assert after == [random.random() for _ in range(3)][-1]


def test_a_schedule_free_optimizer_is_told_when_it_is_tested(small: Dataset, quick: Recipe) -> None:
    """It trains other weights than it tests, here ones that are all zero."""
    told: list[str] = []

    class Free(torch.optim.SGD):
        def train(self) -> None:
            told.append("train")

        def eval(self) -> None:
            told.append("eval")
            for parameter in self.param_groups[0]["params"]:
                torch.nn.init.zeros_(parameter)

        def step(self, closure: object = None) -> None:  # type: ignore[override]
            assert told[-1] == "train"
            super().step()

    recipe = replace(quick, model=MINE, optimizer=OwnOptimizer("mine.py:make"))
    parts = own(model=Linear, optimizer=lambda network: Free(network.parameters(), lr=0.1))
    trainer = Trainer(recipe, small, CPU, parts)
    told.clear()
    trainer.run()
    assert trainer.state.log[-1].test_loss == pytest.approx(math.log(10))
    assert told == ["train", "eval"] * 2


class TrainingBreaks(Linear):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise ValueError("of no use")
        return super().forward(images)


class PreparingBreaks(Linear):
    def prepare(self, images: torch.Tensor) -> None:
        raise ValueError("of no use")


class Closure(torch.optim.SGD):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__(network.parameters(), lr=0.1)

    def step(self, closure: object) -> None:  # type: ignore[override]
        raise AssertionError


@pytest.mark.parametrize(
    ("network", "optimizer", "complaint"),
    [
        (TrainingBreaks, None, r"a step with mine\.py:Net: ValueError: of no use \(line \d+\)"),
        (PreparingBreaks, None, r"mine\.py:Net: prepare: ValueError: of no use \(line \d+\)"),
        (Linear, Closure, r"a step with mine\.py:Net and mine\.py:make: TypeError: .*missing 1 .* 'closure'"),
    ],
)
def test_a_fault_in_training_is_a_line_before_the_first_step(
    small: Dataset, quick: Recipe, network: type, optimizer: object, complaint: str
) -> None:
    recipe = replace(quick, model=MINE)
    if optimizer:
        recipe = replace(recipe, optimizer=OwnOptimizer("mine.py:make"))
    with pytest.raises(InputError, match=f"^{complaint}"):
        Trainer(recipe, small, CPU, own(model=network, optimizer=optimizer))


def test_an_optimizer_of_another_network_is_refused(small: Dataset, quick: Recipe) -> None:
    def both(network: torch.nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD([*network.parameters(), *Linear(10).parameters()], lr=0.1)

    recipe = replace(quick, optimizer=OwnOptimizer("mine.py:make"))
    with pytest.raises(InputError, match=r"^mine\.py:make: holds a parameter that is none of the network's$"):
        Trainer(recipe, small, CPU, own(optimizer=both))


def test_an_optimizer_of_ones_own_trains_all_parameters_to_the_end(small: Dataset, quick: Recipe) -> None:
    """And says so where the network would have some left alone."""
    recipe = replace(quick, model=Speednet(widths=(4, 4)), optimizer=OwnOptimizer("mine.py:make"))
    trainer = Trainer(recipe, small, CPU, own(optimizer=lambda network: torch.optim.SGD(network.parameters(), lr=0.1)))
    assert trainer.notes == ["mine.py:make: trains to the end what the network's trained_epochs names"]


class Odd(Linear):
    """Its attributes are what nobody would want to look at."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.modules_of = [math, np, torch.nn.functional, random.SystemRandom(), threading.Lock()]
        self.tensors = [
            torch.zeros(2, device="meta"),
            torch.eye(3).to_sparse(),
            torch.ones(2, dtype=torch.complex64).conj(),
        ]
        self.itself = [self]


def test_odd_attributes_do_no_harm(small: Dataset, quick: Recipe) -> None:
    trainer = Trainer(replace(quick, model=MINE), small, CPU, own(model=Odd))
    trainer.run()
    assert trainer.notes == []


class Kept:
    """Called, and counting."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> int:
        self.count += 1
        return self.count


def averages(network: torch.nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    optimizer.average = copy.deepcopy(network)  # type: ignore[attr-defined]

    def move(*_: object) -> None:
        for one, other in zip(optimizer.average.parameters(), network.parameters(), strict=True):  # type: ignore[attr-defined]
            one.data.lerp_(other.data + 1, 0.5)

    optimizer.register_step_post_hook(move)
    return optimizer


DRAWING = functools.partial(torch.rand, 3, generator=torch.Generator())


@pytest.mark.parametrize("kept", [Kept(), np.random.RandomState(0).rand, DRAWING, None])
def test_what_is_changed_in_other_objects_is_seen(small: Dataset, quick: Recipe, kept: object) -> None:
    """One that is called, generators of NumPy's and torch's, a second network that an optimizer has."""

    class Calling(Linear):
        def __init__(self, classes: int) -> None:
            super().__init__(classes)
            self.kept = getattr(kept, "__self__", kept)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if kept:
                kept()  # type: ignore[operator]
            return super().forward(images)

    recipe = replace(quick, model=MINE, optimizer=OwnOptimizer("mine.py:make"))
    trainer = Trainer(recipe, small, CPU, own(model=Calling, optimizer=averages if kept is None else sgd))
    assert [("kept" if kept else "SGD.average") in line for line in trainer.notes] == [True]
