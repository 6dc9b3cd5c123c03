"""What only a GPU can show: DALI's GPU operators, CUDA graphs, half precision. Skips without one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_loader import augmentations, numpy_images

from fastcifar.data.dataset import Dataset
from fastcifar.data.loader import LOADERS, open_loader
from fastcifar.data.plan import draw_plan
from fastcifar.data.synthetic import synthetic
from fastcifar.execution import Execution, resolve
from fastcifar.recipe import Augmentation, Model, Recipe, Schedule
from fastcifar.training.log import EpochLog
from fastcifar.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

CUDA = torch.device("cuda", 0)
EAGER = Execution(device="cuda", precision="float32", compile="off")


@pytest.mark.parametrize("name", LOADERS)
@settings(max_examples=15, deadline=None)
@given(augmentation=augmentations, start=st.integers(0, 2), seed=st.integers(0, 1000))
def test_every_loader_on_the_gpu_equals_numpy(name: str, augmentation: Augmentation, start: int, seed: int) -> None:
    dataset, batch_size = synthetic(300, 1, seed=seed), 64
    loader = open_loader(name, dataset, augmentation, batch_size=batch_size, device=CUDA)
    plan = draw_plan(300, augmentation, seed=seed, epoch=1)[start * batch_size :]
    for part, (images, labels) in zip(plan.batches(batch_size), loader.batches(plan), strict=True):
        assert images.device == labels.device == CUDA
        assert images.is_contiguous(memory_format=torch.channels_last)
        expected = numpy_images(dataset.train_images, part, augmentation)
        np.testing.assert_allclose(images.cpu().numpy(), expected, atol=1e-5, rtol=0)
        np.testing.assert_array_equal(labels.cpu().numpy(), dataset.train_labels[part.indices])


def test_fused_is_one_kernel_a_batch() -> None:
    """Twice the batches, and as many more kernels as there are more batches."""
    dataset, augmentation = synthetic(6400, 1), Augmentation()
    loader = open_loader("fused", dataset, augmentation, batch_size=64, device=CUDA)

    def kernels(batches: int) -> int:
        plan = draw_plan(6400, augmentation, seed=0, epoch=0)[: batches * 64]
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            for _ in loader.batches(plan):
                pass
            torch.cuda.synchronize()
        return sum(not event.name.startswith(("Memcpy", "Memset")) for event in profile.events())

    kernels(10)
    assert kernels(100) - kernels(50) == 50


def test_batches_in_flight_are_not_overwritten() -> None:
    """The host runs ahead of the device: every batch must still hold its own pixels when it is read at last."""
    dataset, augmentation = synthetic(20_000, 1), Augmentation()
    loader = open_loader("dali", dataset, augmentation, batch_size=512, device=CUDA)
    plan = draw_plan(20_000, augmentation, seed=0, epoch=0)
    torch.cuda._sleep(200_000_000)  # about a tenth of a second, in which the host gets far ahead
    sums = [images.double().sum(dim=(1, 2, 3)) for images, _ in loader.batches(plan)]
    expected = torch.cat([images.double().sum(dim=(1, 2, 3)).cpu() for images, _ in loader.batches(plan)])
    assert torch.equal(torch.cat(sums).cpu(), expected)


class Losses:
    def __init__(self) -> None:
        self.logs: list[EpochLog] = []

    def step(self, epoch: int, step: int) -> None:
        pass

    def epoch(self, log: EpochLog) -> None:
        self.logs.append(log)


def losses(dataset: Dataset, recipe: Recipe, execution: Execution) -> list[float]:
    seen = Losses()
    Trainer(recipe, dataset, execution).run([seen])
    return [log.train_loss for log in seen.logs]


@pytest.fixture
def gentle() -> Recipe:
    """A learning rate so low that rounding is not amplified."""
    schedule = Schedule(min_lr=0, max_lr=1e-5, peak_epoch=1)
    return Recipe(epochs=2, batch_size=128, model=Model(width=16), schedule=schedule)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_gives_the_same_losses(small: Dataset, gentle: Recipe, mode: str) -> None:
    compiled = losses(small, gentle, replace(EAGER, compile=mode))  # type: ignore[arg-type]
    assert compiled == pytest.approx(losses(small, gentle, EAGER), rel=1e-3)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_gives_about_the_same_losses(small: Dataset, gentle: Recipe, precision: str) -> None:
    half = losses(small, gentle, replace(EAGER, precision=precision))  # type: ignore[arg-type]
    assert half == pytest.approx(losses(small, gentle, EAGER), rel=0.03)


def test_warm_up_leaves_no_trace(small: Dataset, gentle: Recipe) -> None:
    execution, _ = resolve(Execution())
    trainer = Trainer(gentle, small, execution)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    generator = torch.cuda.get_rng_state()
    trainer.warm_up(steps=3)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert trainer.optimizer.state_dict()["state"] == {}
    assert torch.equal(torch.cuda.get_rng_state(), generator)


def test_auto_learns_on_the_gpu(small: Dataset) -> None:
    recipe = Recipe(epochs=8, batch_size=100, model=Model(width=16), augmentation=Augmentation(cutout=0))
    recipe = replace(recipe, schedule=Schedule(min_lr=0.001, max_lr=0.01, peak_epoch=2))
    execution, _ = resolve(Execution())
    seen = losses(small, recipe, execution)
    assert seen[-1] < seen[0] - 0.3
