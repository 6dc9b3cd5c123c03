"""Networks, optimizers and augmentations of one's own in the trainer: what is as it should be trains, the rest is one
line before the first step."""

from dataclasses import replace

import pytest
import torch
import torch._dynamo

from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError
from fastcifar.execution import Execution
from fastcifar.own import OwnCode
from fastcifar.recipe import OwnModel, OwnOptimizer, Recipe
from fastcifar.training.trainer import Trainer

CPU = Execution(device="cpu", loader="dali", precision="float32", compile="off")
MINE = OwnModel("mine.py:Net")


def own(**parts: object) -> OwnCode:
    return OwnCode(**parts)  # type: ignore[arg-type]


class Linear(torch.nn.Module):
    """A network of one's own."""

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
