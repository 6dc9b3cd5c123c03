"""What only a GPU can show: DALI's GPU operators, CUDA graphs, half precision. Skips without one."""

import gc
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_loader import augmentations, numpy_images
from same import assert_same

import fastcifar
from fastcifar.bench.environment import environment
from fastcifar.bench.profile import profile_training
from fastcifar.commands import main
from fastcifar.data.dataset import Dataset
from fastcifar.data.fused import FusedLoader
from fastcifar.data.loader import LOADERS, open_loader
from fastcifar.data.plan import draw_plan
from fastcifar.data.synthetic import synthetic
from fastcifar.execution import Execution, LoaderName, has_dali, has_gpu, resolve
from fastcifar.models.pool import MaxPool2
from fastcifar.own import OwnCode
from fastcifar.recipe import Augmentation, Evaluation, Muon, Recipe, Resnet, Schedule, Selection, Speednet
from fastcifar.training.log import EpochLog, Observer
from fastcifar.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

CUDA = torch.device("cuda", 0)
LOADER: LoaderName = "dali" if has_dali() else "fused"
EAGER = Execution(device="cuda", loader=LOADER, precision="float32", compile="off")
needs_dali = pytest.mark.skipif(not has_dali(), reason="no NVIDIA DALI here")
HERE = [pytest.param(name, marks=needs_dali) if name == "dali" else name for name in LOADERS]


@pytest.mark.parametrize("name", HERE)
@settings(max_examples=8, deadline=None)
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


@settings(max_examples=8, deadline=None)
@given(augmentation=augmentations, seed=st.integers(0, 1000))
def test_a_plan_in_place_equals_numpy(augmentation: Augmentation, seed: int) -> None:
    """By numbers on the device, of all images of a plan and of those that are chosen there."""
    dataset, number = synthetic(300, 1, seed=seed), torch.zeros(1, dtype=torch.int64, device=CUDA)
    loader = FusedLoader(dataset, augmentation, batch_size=64, device=CUDA)
    chosen = torch.arange(300, device=CUDA) % 3 > 0
    for epoch in range(2):
        plan = draw_plan(300, augmentation, seed=seed, epoch=epoch)
        loader.place(plan)
        for part_of in (plan, plan.where(chosen.cpu().numpy()[plan.indices])):
            if part_of is not plan:
                loader.choose(chosen, 200)
            for k, part in enumerate(part_of.batches(64)):
                images, labels, indices = loader.placed(number.fill_(k), len(part))
                expected = numpy_images(dataset.train_images, part, augmentation)
                np.testing.assert_allclose(images.cpu().numpy(), expected, atol=1e-5, rtol=0)
                np.testing.assert_array_equal(labels.cpu().numpy(), dataset.train_labels[part.indices])
                np.testing.assert_array_equal(indices.cpu().numpy(), part.indices)


@needs_dali
def test_dali_on_the_gpu_equals_numpy_on_cifar10(cifar10: Dataset) -> None:
    """The recipe `seed`'s transforms, whole batches and a short one, of more slices than DALI has at a time."""
    dataset, augmentation = cifar10.limited(5_000, 1), Augmentation()
    loader = open_loader("dali", dataset, augmentation, batch_size=512, device=CUDA)
    plan = draw_plan(5_000, augmentation, seed=0, epoch=0)
    images = torch.cat([images.cpu() for images, _ in loader.batches(plan)])
    expected = numpy_images(dataset.train_images, plan, augmentation)
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-5, rtol=0)


@needs_dali
@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(LOADERS, 2)))
def test_every_two_loaders_give_the_same(small: Dataset, one: str, other: str) -> None:
    augmentation = Augmentation()
    plan = draw_plan(300, augmentation, seed=3, epoch=2)
    loaders = [open_loader(name, small, augmentation, batch_size=128, device=CUDA) for name in (one, other)]
    for (images, labels), (others, their_labels) in zip(*(each.batches(plan) for each in loaders), strict=True):
        torch.testing.assert_close(images, others, atol=1e-5, rtol=0)
        assert torch.equal(labels, their_labels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fused_in_half_precision_is_its_float32_rounded(small: Dataset, dtype: torch.dtype) -> None:
    augmentation = Augmentation()
    plan = draw_plan(300, augmentation, seed=3, epoch=2)
    whole, half = (
        open_loader("fused", small, augmentation, batch_size=128, device=CUDA, dtype=one)
        for one in (torch.float32, dtype)
    )
    for (images, _), (rounded, _) in zip(whole.batches(plan), half.batches(plan), strict=True):
        assert rounded.dtype == dtype
        torch.testing.assert_close(rounded.float(), images, atol=1e-5, rtol=torch.finfo(dtype).eps)


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
        on_gpu = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        return sum(not event.name.startswith(("Memcpy", "Memset")) for event in on_gpu)

    kernels(10)
    # The profiler may miss a few at its start; with two kernels a batch there would be 100.
    assert 45 <= kernels(100) - kernels(50) <= 55


@needs_dali
def test_batches_in_flight_are_not_overwritten() -> None:
    """The host runs ahead of the device: every batch must still hold its own pixels when it is read at last."""
    dataset, augmentation = synthetic(20_000, 1), Augmentation()
    loader = open_loader("dali", dataset, augmentation, batch_size=512, device=CUDA)
    plan = draw_plan(20_000, augmentation, seed=0, epoch=0)
    torch.cuda._sleep(200_000_000)  # about a tenth of a second, in which the host gets far ahead
    sums = [images.double().sum(dim=(1, 2, 3)) for images, _ in loader.batches(plan)]
    expected = torch.cat([images.double().sum(dim=(1, 2, 3)).cpu() for images, _ in loader.batches(plan)])
    assert torch.equal(torch.cat(sums).cpu(), expected)


@needs_dali
def test_a_batch_of_dali_is_memory_of_torchs(small: Dataset) -> None:
    """Memory of DALI's own is given back by a thread that waits for the whole GPU."""
    loader = open_loader("dali", small, Augmentation(), batch_size=256, device=CUDA)
    before = torch.cuda.memory_allocated()
    for images, _ in loader.batches(draw_plan(300, Augmentation(), seed=0, epoch=0)):
        assert images.untyped_storage().resizable()
        assert torch.cuda.memory_allocated() >= before + images.nbytes


@pytest.mark.parametrize(("channels", "side"), [(64, 19), (24, 8)])
def test_what_is_compiled_of_a_pooling_is_torchs(channels: int, side: int) -> None:
    """Values of few kinds, so that many are equal."""
    images = torch.randint(-2, 3, (32, channels, side, side), device=CUDA, dtype=torch.bfloat16)
    images = images.to(memory_format=torch.channels_last)
    found = []
    for pool in (MaxPool2(), torch.compile(MaxPool2(), dynamic=False)):
        x = images.clone().requires_grad_()
        out = pool(x)
        out.backward(torch.arange(out.numel(), device=CUDA).view_as(out).to(out.dtype))
        found.append((out, x.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


class Losses(Observer):
    def __init__(self) -> None:
        self.logs: list[EpochLog] = []

    def epoch(self, log: EpochLog) -> None:
        self.logs.append(log)


def losses(dataset: Dataset, recipe: Recipe, execution: Execution) -> list[float]:
    seen = Losses()
    Trainer(recipe, dataset, execution).run([seen])
    return [log.train_loss for log in seen.logs]


@pytest.fixture
def gentle() -> Recipe:
    """A learning rate so low that rounding is not amplified; and one network for most tests: it is compiled once."""
    schedule = Schedule(min_lr=0, max_lr=1e-5, peak_epoch=1)
    return Recipe(epochs=2, batch_size=128, model=Resnet(width=16), schedule=schedule)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "cuda-graph"])
def test_compiled_gives_the_same_losses(small: Dataset, gentle: Recipe, mode: str) -> None:
    compiled = losses(small, gentle, replace(EAGER, compile=mode))  # type: ignore[arg-type]
    assert compiled == pytest.approx(losses(small, gentle, EAGER), rel=1e-3)


@pytest.mark.parametrize(
    ("mode", "loader", "rest"),
    [
        ("default", LOADER, "adam"),
        *(("cuda-graph", one, "adam") for one in ("fused", LOADER)),
        ("cuda-graph", "fused", "sgd"),
    ],
)
def test_compiled_the_speedruns_network_gives_the_same_losses(
    small: Dataset, gentle: Recipe, mode: str, loader: LoaderName, rest: Literal["adam", "sgd"]
) -> None:
    """All that is compiled in another way than it runs: ghost batches, pooling, resizing, NorMuon; and, where the graph
    makes the batches, of images that it chooses."""
    recipe = replace(
        gentle,
        batch_size=100,  # of 300 images, so that no step is of a short batch, which is not compiled
        model=Speednet(widths=(16, 32, 32), norm_images=25),
        optimizer=Muon(second_momentum=0.9, rest=rest),
        image_sizes=(20, 32),
        augmentation=Augmentation(brightness=0.1, contrast=0.1),
        selection=Selection(leave_out=1 / 3, after_epoch=1),
        evaluation=Evaluation(tta="flip+shift-quarter"),
    )
    compiled = losses(small, recipe, replace(EAGER, compile=mode, loader=loader))  # type: ignore[arg-type]
    # Of two images of nearly the same loss rounding may choose the other, which moves the mean by a thousandth.
    assert compiled == pytest.approx(losses(small, recipe, EAGER), rel=5e-3)


def moved(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """By a pixel, and darker by chance: a part of a larger image, which no batch is."""
    images = images - 0.3 * torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device)
    return torch.nn.functional.pad(images, (1, 1, 1, 1))[:, :, :32, 1:33]


def test_a_graph_has_the_batches_of_an_own_augmentation(small: Dataset, gentle: Recipe) -> None:
    """Which are made outside of it, and copied to where it begins."""
    recipe = replace(gentle, augmentation=replace(gentle.augmentation, own="own.py:moved"))
    code = OwnCode(augmentation=moved)
    found = []
    for execution in (EAGER, replace(EAGER, loader="fused", compile="cuda-graph")):
        trainer = Trainer(recipe, small, execution, code)
        trainer.run()
        found.append([log.train_loss for log in trainer.state.log])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_gives_about_the_same_losses(small: Dataset, gentle: Recipe, precision: str) -> None:
    half = losses(small, gentle, replace(EAGER, precision=precision))  # type: ignore[arg-type]
    assert half == pytest.approx(losses(small, gentle, EAGER), rel=0.03)


def test_warm_up_leaves_no_trace(small: Dataset, gentle: Recipe) -> None:
    execution, _ = resolve(Execution())
    trainer = Trainer(gentle, small, execution)
    for _ in range(2):  # the optimizer has nothing to be put back at first, and something after an epoch
        before = trainer.state.capture()
        trainer.warm_up(steps=3)
        assert_same(trainer.state.state_dict(), before)
        trainer.train_epoch()


def test_auto_learns_on_the_gpu(small: Dataset) -> None:
    recipe = Recipe(epochs=8, batch_size=128, model=Resnet(width=16), augmentation=Augmentation(cutout=0))
    recipe = replace(recipe, schedule=Schedule(min_lr=0.001, max_lr=0.01, peak_epoch=2))
    execution, _ = resolve(Execution())
    seen = losses(small, recipe, execution)
    assert seen[-1] < seen[0] - 0.3


@pytest.mark.parametrize("mode", ["off", "reduce-overhead", "cuda-graph"])
def test_a_restarted_trainer_is_a_new_one(small: Dataset, gentle: Recipe, mode: str) -> None:
    """Its weights bit for bit; its losses to the rounding of kernels that add in any order."""
    execution = replace(EAGER, compile=mode)  # type: ignore[arg-type]
    again = Trainer(gentle, small, execution)
    again.run()
    again.restart(replace(gentle, seed=7))
    new = Trainer(replace(gentle, seed=7), small, execution)
    for name, value in new.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    seen = [Losses(), Losses()]
    for trainer, observer in zip((again, new), seen, strict=True):
        trainer.run([observer])
    one, other = ([log.train_loss for log in observer.logs] for observer in seen)
    assert one == pytest.approx(other, rel=1e-3)


MODES = [("bfloat16", "cuda-graph"), ("bfloat16", "reduce-overhead"), ("float16", "reduce-overhead")]


@pytest.mark.parametrize(("precision", "mode"), [*MODES, ("bfloat16", "off"), ("float16", "off")])
def test_a_range_test_leaves_no_trace(small: Dataset, gentle: Recipe, precision: str, mode: str) -> None:
    execution = Execution("cuda", LOADER, precision, mode)  # type: ignore[arg-type]
    trainer = Trainer(gentle, small, execution)
    before = trainer.state.capture()
    rates = [1e-5, 1e-4, 1e-3, 1e-2]
    losses = trainer.losses_at(rates, stop=lambda loss: False)
    assert trainer.losses_at(rates, stop=lambda loss: False) == pytest.approx(losses, rel=0.02)
    assert len(set(losses)) == len(rates)
    assert_same(trainer.state.state_dict(), before)


class Strict(Observer):
    """Has torch refuse whatever makes the host wait for the device, from the second step to the last."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def step(self, epoch: int, step: int) -> None:
        torch.cuda.set_sync_debug_mode("error" if 1 < step < self._steps else "default")


@pytest.fixture
def no_debugging() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("precision", "mode"), MODES)
@pytest.mark.parametrize("loader", HERE)
def test_the_host_waits_for_no_step(gentle: Recipe, loader: str, precision: str, mode: str, no_debugging: None) -> None:
    execution = Execution("cuda", loader, precision, mode)  # type: ignore[arg-type]
    trainer = Trainer(gentle, synthetic(1200, 100), execution)
    trainer.train_epoch()
    trainer.train_epoch([Strict(trainer.steps[0])])


def test_the_host_waits_for_nothing_in_an_epoch(
    gentle: Recipe, monkeypatch: pytest.MonkeyPatch, no_debugging: None
) -> None:
    """From asking for the first batch to the last step, the choice of images and the next epoch's plan among it."""
    choosing = replace(gentle.with_epochs(4), selection=Selection(leave_out=0.3, after_epoch=1))
    trainer = Trainer(choosing, synthetic(1200, 100), Execution("cuda", "fused", "bfloat16", "cuda-graph"))
    steps, lap = trainer._epoch_steps.of, trainer.lap

    def strict(*about: Any, **more: Any) -> Any:
        torch.cuda.set_sync_debug_mode("error")
        return steps(*about, **more)

    def over() -> None:
        torch.cuda.set_sync_debug_mode("default")
        lap()

    monkeypatch.setattr(trainer._epoch_steps, "of", strict)
    monkeypatch.setattr(trainer, "lap", over)
    for _ in range(4):
        trainer.train_epoch()
    assert trainer.steps[0] > trainer.steps[2]


@pytest.mark.parametrize("loader", HERE)
def test_memory_does_not_grow(small: Dataset, gentle: Recipe, loader: str) -> None:
    execution, _ = resolve(Execution(loader=loader))  # type: ignore[arg-type]
    trainer = Trainer(gentle.with_epochs(4), small, execution)
    used = []
    for _ in range(4):
        trainer.train_epoch()
        gc.collect()
        used.append(torch.cuda.memory_allocated())
    assert used[3] <= used[1] + 2**20


def test_a_profile_is_of_the_gpus_kernels(gentle: Recipe) -> None:
    found = profile_training(gentle, synthetic(2560, 100), resolve(Execution())[0], steps=5)
    calls = ("aten::", "cudaLaunch", "cudaGraph", "cudaMemcpy", "cuLaunch")  # of the host
    assert not [kernel.name for kernel in found.kernels if kernel.name.startswith(calls)]
    assert 0 < found.matmul_share < 1
    # What ran at once on two streams is busy once; the sums of kernels count it twice.
    assert 0 < found.busy_seconds <= sum(kernel.seconds for kernel in found.kernels) * (1 + 1e-6)
    assert found.busy_seconds < 1.2 * found.profiled_step_seconds


def test_the_environment_says_what_is_used() -> None:
    assert has_gpu()
    assert environment("cuda")["gpus"] == 1
    assert environment("cuda")["gpu"] == torch.cuda.get_device_name()
    assert (environment("cpu")["gpu"], environment("cpu")["gpus"]) == (None, 0)


TOY = ["--width", "16", "--batch-size", "128", "--limit-train", "640", "--limit-test", "300", "--epochs", "2"]


def test_from_training_to_prediction(tmp_path: Path, cifar10: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands in turn, on the GPU; what it trained is the same network on a CPU."""
    run = tmp_path / "run"
    assert main(["train", "--recipe", "seed", *TOY, "--out", str(run)]) == 0
    assert (run / "report" / "index.html").exists()
    assert main(["eval", str(run), "--tta", "flip"]) == 0
    assert "images/s" in capsys.readouterr().out
    assert main(["export", str(run), "--format", "torch-export", "--out", str(tmp_path / "network.pt2")]) == 0
    assert next(fastcifar.load(run).parameters()).device.type == "cpu"


def test_out_of_memory_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**28) / total)
    try:
        toy = ["--dataset", "synthetic", "--limit-train", "4096", "--limit-test", "100", "--batch-size", "4096"]
        toy += ["--compile", "off"]
        code = main(["train", "--recipe", "seed", *toy, "--epochs", "1", "--out", str(tmp_path / "run")])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    said = capsys.readouterr().err
    assert code == 1
    assert said.startswith("fastcifar: out of GPU memory (")
    assert said.count("\n") == 1
