"""Every loader executes one plan: equal pixels, labels and order, whatever executes it."""

import re
from dataclasses import replace
from itertools import combinations
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_loader import augmentations, numpy_images
from torchvision_loader import TorchvisionLoader

from fastcifar.data.dali import DaliLoader
from fastcifar.data.dataset import Dataset
from fastcifar.data.fused import FusedLoader, _Fastest
from fastcifar.data.loader import LOADERS, Epochs, loader, open_loader
from fastcifar.data.plan import EpochPlan, draw_plan
from fastcifar.data.synthetic import synthetic
from fastcifar.errors import InputError, RunError
from fastcifar.recipe import Augmentation

CPU = torch.device("cpu")


def every_loader(dataset: Dataset, augmentation: Augmentation, batch_size: int) -> dict[str, object]:
    """Each loader, quick to make (fused uncompiled), and torchvision."""
    options = {"batch_size": batch_size, "device": CPU}
    return {
        "dali": DaliLoader(dataset, augmentation, **options),  # type: ignore[arg-type]
        "fused": FusedLoader(dataset, augmentation, compiled=False, **options),  # type: ignore[arg-type]
        "fused in bfloat16": FusedLoader(
            dataset,
            augmentation,
            compiled=False,
            dtype=torch.bfloat16,
            **options,  # type: ignore[arg-type]
        ),
        "torchvision": TorchvisionLoader(dataset, augmentation, batch_size=batch_size),
    }


def execute(loader: object, plan: EpochPlan) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Batch sizes, images and labels of a plan."""
    batches = list(loader.batches(plan))  # type: ignore[attr-defined]
    for images, labels in batches:
        assert images.shape == (len(labels), 3, 32, 32)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert labels.dtype == torch.int64
    if not batches:
        return [], np.empty((0, 3, 32, 32)), np.empty(0)
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return [len(labels) for _, labels in batches], images.float().numpy(), labels.numpy()


@settings(max_examples=60, deadline=None)
@given(
    augmentation=augmentations,
    n=st.integers(1, 80),
    batch_size=st.integers(1, 40),
    slice_size=st.integers(5, 50),
    start=st.integers(0, 3),
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 99),
)
def test_every_pair_of_loaders_gives_the_same_epoch_and_numpys(
    augmentation: Augmentation, n: int, batch_size: int, slice_size: int, start: int, seed: int, epoch: int
) -> None:
    """Float32 to 1e-5, bfloat16 to its rounding; DALI joins its batches from one or several slices."""
    dataset = replace(synthetic(n, 1, seed=seed % 1000), mean=(100.0, 120.0, 140.0), std=(50.0, 60.0, 70.0))
    plan = draw_plan(n, augmentation, seed=seed, epoch=epoch)[start * batch_size :]
    with mock.patch("fastcifar.data.dali.SLICE", slice_size):
        loaders = every_loader(dataset, augmentation, batch_size)
        done = {name: execute(loader, plan) for name, loader in loaders.items()}
    for (name, one), (other_name, other) in combinations(done.items(), 2):
        assert one[0] == other[0] == [len(part) for part in plan.batches(batch_size)]
        half = "bfloat16" in name + other_name
        np.testing.assert_allclose(one[1], other[1], atol=1e-5, rtol=2**-8 if half else 0)
        np.testing.assert_array_equal(one[2], other[2])
    _, images, labels = done["dali"]
    wanted = numpy_images(dataset.train_images, plan, augmentation, dataset.mean, dataset.std)
    np.testing.assert_allclose(images, wanted, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(labels, dataset.train_labels[plan.indices])


@pytest.mark.parametrize("name", LOADERS)
def test_as_training_opens_them_on_real_images(cifar10: Dataset, name: str) -> None:
    """Compiled, on real CIFAR-10; and a second epoch after a first that was left early."""
    augmentation = Augmentation(pad_mode="reflect", flip="alternating")
    dataset = cifar10.limited(2000)
    loader = open_loader(name, dataset, augmentation, batch_size=512, device=CPU)
    left_early = loader.batches(draw_plan(2000, augmentation, seed=0, epoch=0))
    next(left_early)
    left_early.close()  # type: ignore[attr-defined]
    plan = draw_plan(2000, augmentation, seed=0, epoch=1)
    sizes, images, labels = execute(loader, plan)
    assert sizes == [512, 512, 512, 464]
    np.testing.assert_allclose(images, numpy_images(dataset.train_images, plan, augmentation), atol=1e-5, rtol=0)
    np.testing.assert_array_equal(labels, dataset.train_labels[plan.indices])


def test_fused_in_bfloat16_is_the_rounded_float32(small: Dataset) -> None:
    augmentation, options = Augmentation(), {"batch_size": 64, "device": CPU, "compiled": False}
    plan = draw_plan(300, augmentation, seed=0, epoch=0)
    one = FusedLoader(small, augmentation, **options)  # type: ignore[arg-type]
    other = FusedLoader(
        small,
        augmentation,
        dtype=torch.bfloat16,
        **options,  # type: ignore[arg-type]
    )
    for (full, _), (half, _) in zip(one.batches(plan), other.batches(plan), strict=True):
        assert half.dtype == torch.bfloat16
        assert torch.equal(half, full.bfloat16())


def test_fused_is_one_kernel_a_batch(small: Dataset) -> None:
    """The C++ that torch.compile writes for a batch: one function, called once."""
    from torch._inductor.utils import run_and_get_code

    loader = FusedLoader(small, Augmentation(), batch_size=64, device=CPU, compiled=False)
    compiled = torch.compile(loader._execute, dynamic=False)
    _, (code,) = run_and_get_code(compiled, loader._bank, torch.zeros(3, 64, dtype=torch.int32))
    assert len(re.findall(r"^cpp_fused\w* = async_compile\.cpp", code, re.MULTILINE)) == 1
    assert len(re.findall(r"^\s+(?:cpp_fused\w*)\(", code, re.MULTILINE)) == 1


@pytest.mark.parametrize("brightness", [0.0, 0.2])
def test_fused_compiles_nothing_in_an_epoch(small: Dataset, brightness: float) -> None:
    """The seconds of compilation belong to the set-up."""
    augmentation = Augmentation(brightness=brightness)
    loader = FusedLoader(small, augmentation, batch_size=64, device=CPU)
    plan = draw_plan(300, augmentation, seed=0, epoch=0)
    with torch.compiler.set_stance("fail_on_recompile"):
        sizes, images, _ = execute(loader, plan)
    assert sizes == [64, 64, 64, 64, 44]
    wanted = numpy_images(small.train_images, plan, augmentation, small.mean, small.std)
    np.testing.assert_allclose(images, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("brightness", [0.0, 0.2])
def test_a_plan_in_place_is_the_same_batches(small: Dataset, brightness: float) -> None:
    """By a number on the device, in any sequence; of another plan after it, or of some of its images alone."""
    augmentation = Augmentation(brightness=brightness)
    loader = FusedLoader(small, augmentation, batch_size=64, device=CPU)
    chosen = torch.arange(300) % 3 > 0

    def check(plan: EpochPlan) -> None:
        number = torch.zeros(1, dtype=torch.int64)
        for k, (images, labels) in reversed(list(enumerate(loader.batches(plan)))):
            ours, its, indices = loader.placed(number.fill_(k), len(labels))
            assert torch.equal(ours, images)
            assert ours.stride() == images.stride()
            assert torch.equal(its, labels)
            assert indices.tolist() == plan.indices[64 * k :][: len(labels)].tolist()

    with torch.compiler.set_stance("fail_on_recompile"):
        for epoch in range(2):
            plan = draw_plan(300, augmentation, seed=0, epoch=epoch)
            loader.place(plan)
            check(plan)
            loader.choose(chosen, 200)
            part = plan.where(chosen.numpy()[plan.indices])
            check(part)
            loader.choose(torch.arange(300) < 30, 20)
            check(part.where(part.indices < 30))
        short = draw_plan(300, augmentation, seed=1, epoch=0)[:100]
        loader.place(short)
        check(short)


def test_without_jitter_nothing_executes_one(small: Dataset) -> None:
    """A loader of an augmentation that has none does not look at the plan's: what it executes is as it was before."""
    plan = draw_plan(300, Augmentation(), seed=0, epoch=0)
    nonsense = replace(plan, jitter=plan.jitter + 1)
    for augmentation, equal in ((Augmentation(), True), (Augmentation(contrast=0.1), False)):
        for name, opened in every_loader(small, augmentation, 128).items():
            if name != "torchvision":
                assert np.array_equal(execute(opened, plan)[1], execute(opened, nonsense)[1]) == equal, name


def test_three_lines_from_a_notebook() -> None:
    dataset = synthetic(100, 1)
    epochs: Epochs = loader("fused", dataset, batch_size=32, device="cpu", pad=4, flip="random", cutout=8)
    first, second = list(epochs), list(epochs)
    assert len(epochs) == len(first) == len(second) == 4
    assert not torch.equal(first[0][1], second[0][1])
    augmentation = Augmentation(pad=4, flip="random", cutout=8)
    plan = draw_plan(100, augmentation, seed=0, epoch=1)
    images = torch.cat([images for images, _ in second]).numpy()
    np.testing.assert_allclose(images, numpy_images(dataset.train_images, plan, augmentation), atol=1e-5, rtol=0)


def test_a_loader_for_cuda_without_cuda_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="device cuda:0: torch finds no CUDA device here; use cpu or auto"):
        loader("fused", synthetic(100, 1), batch_size=32, device="cuda:0")
    with pytest.raises(InputError, match=r"^device 'gpu': cpu, cuda, or"):
        loader("fused", synthetic(100, 1), batch_size=32, device="gpu")


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_epoch_may_leave_out_its_last_smaller_batch(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastcifar.data.loader.fastest_loader", lambda: "another")
    with pytest.raises(InputError, match=r"^'another': no such loader; there are auto, dali, fused$"):
        loader("auto", synthetic(70, 70), batch_size=32, device="cpu")
    monkeypatch.setattr("fastcifar.data.loader.fastest_loader", lambda: "dali")
    images = synthetic(70, 70)
    epochs = loader("auto", images, batch_size=32, device="cpu", drop_last=True, split=split)  # type: ignore[arg-type]
    assert (len(epochs), [len(labels) for _, labels in epochs]) == (2, [32, 32])
    assert len(loader("dali", images, batch_size=35, device="cpu", drop_last=True)) == 2
    assert len(loader("dali", images, batch_size=32, device="cpu")) == 3
    with pytest.raises(InputError, match=r"^batch_size: 100 is more than the 70 images, which drop_last leaves out"):
        loader("dali", images, batch_size=100, device="cpu", drop_last=True)


def test_every_fused_loader_is_compiled(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are in a process: torch by itself gives up after eight of one function."""
    torch._dynamo.reset()
    compile_, graphs = torch.compile, []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(graph)
        return graph.forward  # tracing is what counts here; making kernels of it would take long

    monkeypatch.setattr(torch, "compile", lambda function, **_: compile_(function, backend=backend, dynamic=False))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # else each has two kernels
    for cutout in range(10):
        augmentation = Augmentation(cutout=cutout)
        loader = open_loader("fused", small, augmentation, batch_size=128, device=CPU)
        assert len(graphs) == cutout + 1
        assert len(list(loader.batches(draw_plan(300, augmentation, seed=0, epoch=0)))) == 3
        assert len(graphs) == cutout + 1
    torch._dynamo.reset()


def test_fused_has_a_kernel_of_one_thread_beside_that_of_all(small: Dataset) -> None:
    augmentation, threads = Augmentation(brightness=0.1), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        loader = FusedLoader(small, augmentation, batch_size=100, device=CPU)
        plan = draw_plan(300, augmentation, seed=0, epoch=0)
        batches = list(loader.batches(plan))  # the first of one kernel, the second of the other
    finally:
        torch.set_num_threads(threads)
    assert isinstance(loader._execute, _Fastest)
    assert sorted(map(len, loader._execute._seconds))[0] == 1
    plain = FusedLoader(small, augmentation, batch_size=100, device=CPU, compiled=False)
    for (images, _), (expected, _) in zip(batches, plain.batches(plan), strict=True):
        torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)
    assert torch.equal(*(kernel(*arguments(loader, plan)) for kernel in loader._execute._kernels))
    torch._dynamo.reset()


def arguments(loader: FusedLoader, plan: EpochPlan) -> list[torch.Tensor]:
    """Of one batch's kernel, whatever they draw."""
    drawn = torch.zeros(3, 100, dtype=torch.int32)
    drawn[0] = torch.from_numpy(plan.indices[:100]) * 3 * loader._side**2
    return [loader._bank, drawn, torch.from_numpy(plan.jitter[:100]).T.contiguous()]


def test_the_kernel_that_was_fastest_lately_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    now, called = [0.0], list[str]()

    def taking(name: str, seconds: list[float]) -> object:
        def kernel() -> None:
            called.append(name)
            now[0] += seconds[0]

        return kernel

    all_threads, alone = [1.0], [2.0]
    monkeypatch.setattr("fastcifar.data.fused.perf_counter", lambda: now[0])
    fastest = _Fastest([taking("all", all_threads), taking("alone", alone)])  # type: ignore[list-item]

    def an_epoch() -> str:
        called.clear()
        fastest.look_again()
        for _ in range(12):
            fastest()
        assert {*called[:2]} == {"all", "alone"}
        return called[-1]

    assert an_epoch() == "all"
    all_threads[0] = 9.0  # another program begins
    assert an_epoch() == "alone"
    assert called.count("all") == 3  # of five, the median
    all_threads[0] = 1.0
    assert [an_epoch() for _ in range(3)] == ["alone", "alone", "all"]


def test_what_cannot_be_compiled_is_one_line(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(graph: torch.fx.GraphModule, _: object) -> None:
        raise OSError("disk full\nand much more")

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **_: compile_(function, backend=backend))
    with pytest.raises(RunError, match=r"^torch.compile failed: disk full; --loader dali needs no compiler$"):
        FusedLoader(small, Augmentation(), batch_size=100, device=CPU, compiled=True)
    torch._dynamo.reset()


def test_a_loader_on_its_own_takes_all_of_an_augmentation() -> None:
    dataset = synthetic(70, 1)
    about: dict[str, Any] = {"pad": 3, "pad_mode": "reflect", "flip": "alternating", "cutout": 5}
    about |= {"brightness": 0.2, "contrast": 0.3}
    epochs = loader("dali", dataset, batch_size=32, device="cpu", drop_last=True, seed=7, **about)
    epochs.epoch = 5
    images, labels = (torch.cat(all_).numpy() for all_ in zip(*epochs, strict=True))
    plan = draw_plan(70, Augmentation(**about), seed=7, epoch=5)[:64]
    np.testing.assert_array_equal(labels, dataset.train_labels[plan.indices])
    expected = numpy_images(dataset.train_images, plan, Augmentation(**about))
    np.testing.assert_allclose(images, expected, atol=1e-5, rtol=0)
    assert epochs.epoch == 6
