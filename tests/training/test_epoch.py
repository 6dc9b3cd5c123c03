"""An epoch, step by step: the rates that the optimizer has, what the average is told, and what the log says of it."""

from collections.abc import Generator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastcifar.data import dali, fused
from fastcifar.data.dataset import Dataset
from fastcifar.data.padding import padded
from fastcifar.data.plan import draw_plan
from fastcifar.execution import Execution, LoaderName
from fastcifar.own import OwnCode
from fastcifar.recipe import Augmentation, Average, OwnModel, OwnOptimizer, Recipe, Schedule
from fastcifar.training import clock, epoch_steps
from fastcifar.training.augment import OwnAugmentation
from fastcifar.training.average import WeightAverage
from fastcifar.training.clock import Clock
from fastcifar.training.epoch_steps import EpochSteps
from fastcifar.training.ranks import Ranks
from fastcifar.training.trainer import Trainer

CPU = Execution(device="cpu", loader="fused", precision="float32", compile="off")
MINE = OwnModel("mine.py:Net")
NOW = [0.0]


class Noting(torch.optim.SGD):
    """Notes the rates of its groups at each step."""

    taken: list[list[float]]

    def step(self, closure: Any = None) -> Any:
        self.taken.append([group["lr"] for group in self.param_groups])
        return super().step(closure)


def test_each_step_has_the_rates_of_its_place_in_the_schedule(small: Dataset, quick: Recipe) -> None:
    """Up in the first of two epochs of three steps and down in the second; a group of its own falls over an epoch."""
    taken: list[list[float]] = []

    def make(network: torch.nn.Module) -> torch.optim.Optimizer:
        *first, last = network.parameters()
        noting = Noting([{"params": first}, {"params": [last], "lr": 0.5, "epochs": 1.0}], lr=0.1)
        noting.taken = taken
        return noting

    recipe = replace(quick.with_optimizer(OwnOptimizer("mine.py:make")), batch_size=100)
    recipe = replace(recipe, schedule=Schedule(min_lr=0.001, max_lr=0.01, peak_epoch=1.0))
    trainer = Trainer(recipe, small, CPU, OwnCode(optimizer=make))
    taken.clear()  # of the warm-up
    trainer.run()
    assert trainer.steps == [3, 3]
    rates, falling = np.array(taken).T
    np.testing.assert_allclose(rates, 0.1 * np.array([0.001, 0.0055, 0.01, 0.007, 0.004, 0.001]))
    np.testing.assert_allclose(falling, 0.5 * 0.01 * np.array([1, 2 / 3, 1 / 3, 0, 0, 0]), atol=1e-12)


def test_the_average_is_told_of_every_step_of_the_run(
    small: Dataset, quick: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(quick, batch_sizes=(100, 150), average=Average(name="ema", every=1))
    trainer = Trainer(recipe, small, CPU)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(WeightAverage, "after_step", lambda self, step: told.append((step, self._steps)))
    trainer.run()
    assert told == [(step, 5) for step in range(1, 6)]


class Slow(torch.nn.Module):
    """Says that every image is of class 0; while it is tested, time passes by the clock of tests."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(classes).index_fill(0, torch.tensor([0]), 1.0))

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            NOW[0] += 7
        return self.bias.expand(len(images), -1)


def of_class_0(small: Dataset, quick: Recipe) -> Trainer:
    recipe = replace(quick, model=MINE, schedule=Schedule(min_lr=0, max_lr=1e-9, peak_epoch=1))
    return Trainer(recipe, small, CPU, OwnCode(model=Slow))


@pytest.mark.parametrize("loader", ["fused", "dali"])
def test_padding_the_images_is_in_the_seconds_of_the_first_epoch(
    small: Dataset, quick: Recipe, loader: LoaderName, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = {"fused": fused, "dali": dali}[loader]
    monkeypatch.setattr(module, "padded", lambda *about, **more: (padded(*about, **more)[0], 7.0))
    trainer = Trainer(quick, small, replace(CPU, loader=loader))
    first, second = trainer.train_epoch(), trainer.train_epoch()
    assert first.train_seconds > 7 > second.train_seconds
    trainer.restart(replace(quick, seed=1))
    assert trainer.setup_seconds > 0
    assert trainer.train_epoch().train_seconds > 7


def test_the_seconds_of_a_test_are_the_tests(small: Dataset, quick: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = of_class_0(small, quick)
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: NOW[0]))
    log = trainer.train_epoch()
    assert log.train_seconds == pytest.approx(trainer.prepare_seconds)
    assert log.eval_seconds >= 7


def test_accuracy_in_training_is_a_share_of_all_images(small: Dataset, quick: Recipe) -> None:
    """Those of the last batch, which is smaller, count as much as all others."""
    assert len(small.train_labels) % quick.batch_size
    log = of_class_0(small, quick).train_epoch()
    assert log.train_accuracy == pytest.approx((small.train_labels == 0).mean())
    assert log.test_accuracy == pytest.approx((small.test_labels == 0).mean())


def test_labels_are_smoothed_in_training_alone(small: Dataset, quick: Recipe) -> None:
    recipe = replace(quick, model=MINE, schedule=Schedule(min_lr=0, max_lr=1e-9, peak_epoch=1))
    plain, smooth = (
        Trainer(replace(recipe, label_smoothing=share), small, CPU, OwnCode(model=Slow)).train_epoch()
        for share in (0.0, 0.5)
    )
    assert smooth.test_loss == pytest.approx(plain.test_loss)
    assert smooth.train_loss != pytest.approx(plain.train_loss, rel=1e-3)


def test_what_other_programs_had_of_the_cores_is_kept(
    small: Dataset, quick: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clock, "others", lambda self: 3.0)
    log = Trainer(quick, small, CPU).train_epoch()
    assert log.other_cores == pytest.approx(3.0 / log.train_seconds)


def test_an_own_augmentation_draws_anew_for_each_batch_of_each_epoch() -> None:
    def noise(images: Tensor, generator: torch.Generator) -> Tensor:
        return images + torch.rand(images.shape, generator=generator)

    def batches() -> Generator[tuple[Tensor, Tensor]]:
        for _ in range(2):
            yield torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.int64)

    def made(rank: int, seed: int, epoch: int, first: int) -> list[Tensor]:
        augmentation = OwnAugmentation(noise, "noise", torch.device("cpu"), compiled=False, rank=rank)
        return [images for images, _ in augmentation.batches(batches(), seed, epoch, first)]

    seen = [image for about in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)) for image in made(*about, first=0)]
    assert len({image.numpy().tobytes() for image in seen}) == 8
    assert torch.equal(made(0, 0, 1, first=1)[0], made(0, 0, 1, first=0)[1])


@pytest.fixture
def second_of_two(small: Dataset, quick: Recipe, monkeypatch: pytest.MonkeyPatch) -> tuple[EpochSteps, list[Any]]:
    """The steps of rank 1 of 2, of batches of 25 images, of which 12 are its own; each is noted, and none is taken."""
    ranks: list[int] = []
    own_augmentation = epoch_steps.OwnAugmentation
    monkeypatch.setattr(
        epoch_steps,
        "OwnAugmentation",
        lambda *about, rank, **more: ranks.append(rank) or own_augmentation(*about, rank=rank, **more),
    )
    recipe = replace(quick, batch_size=25, augmentation=Augmentation(own="mine.py:same"))
    steps = EpochSteps(
        SimpleNamespace(),  # type: ignore[arg-type]
        SimpleNamespace(image_losses=None, optimizers=[]),  # type: ignore[arg-type]
        recipe=recipe,
        dataset=small,
        execution=CPU,
        own=OwnCode(augmentation=lambda images, generator: images),
        device=torch.device("cpu"),
        ranks=Ranks(1, 2),
        graphs=None,
    )
    assert ranks == [1]
    taken: list[Any] = []

    def note(images: Tensor, labels: Tensor, which: Tensor, *, batch: int, size: int, side: int) -> tuple[Tensor]:
        taken.append((which.tolist(), labels.tolist(), batch))
        return (torch.zeros(()),)

    monkeypatch.setattr(steps, "_taken", note)
    return steps, taken


def test_a_rank_goes_on_in_the_middle_of_an_epoch_with_its_own_rows(
    second_of_two: tuple[EpochSteps, list[Any]], small: Dataset, quick: Recipe
) -> None:
    steps, taken = second_of_two
    plan = draw_plan(len(small.train_images), quick.augmentation, seed=0, epoch=0)
    rates: list[list[float]] = [[]] * 12
    assert len(list(steps.of(plan, 0, 0, rates))) == 12
    whole = taken.copy()
    batches = [plan.indices[start : start + 25] for start in range(0, 300, 25)]
    assert [which for which, _, _ in whole] == [batch[1::2].tolist() for batch in batches]
    assert [labels for _, labels, _ in whole] == [small.train_labels[batch[1::2]].tolist() for batch in batches]
    assert {batch for *_, batch in whole} == {25}
    taken.clear()
    list(steps.of(plan, 0, 0, rates, first=5))
    assert taken == whole[5:]
