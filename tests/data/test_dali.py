"""DALI on real images, and what is its own: whose memory, prefetching. Its pixels on any plan: test_loaders.py."""

import signal
import warnings
from collections.abc import Generator

import numpy as np
import pytest
import torch
from numpy_loader import numpy_images

from fastcifar.data.dali import _ahead
from fastcifar.data.dataset import Dataset
from fastcifar.data.loader import Loader, open_loader
from fastcifar.data.plan import draw_plan
from fastcifar.errors import InputError
from fastcifar.recipe import Augmentation

CPU = torch.device("cpu")


def dali(dataset: Dataset, augmentation: Augmentation, batch_size: int) -> Loader:
    return open_loader("dali", dataset, augmentation, batch_size=batch_size, device=CPU)


@pytest.mark.parametrize("pad_mode", ["zero", "reflect"])
def test_pixels_of_a_real_epoch(cifar10: Dataset, pad_mode: str) -> None:
    augmentation = Augmentation(pad_mode=pad_mode)  # type: ignore[arg-type]
    plan = draw_plan(len(cifar10.train_images), augmentation, seed=0, epoch=0)[:2000]
    loader = dali(cifar10, augmentation, 512)
    images = torch.cat([images for images, _ in loader.batches(plan)]).numpy()
    np.testing.assert_allclose(images, numpy_images(cifar10.train_images, plan, augmentation), atol=1e-5, rtol=0)


def test_batches_are_channels_last_floats_and_int64_labels(small: Dataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loader = dali(small, Augmentation(cutout=0), 128)
        plan = draw_plan(len(small.train_images), Augmentation(cutout=0), seed=0, epoch=0)
        for images, labels in loader.batches(plan):
            assert images.shape == (len(labels), 3, 32, 32)
            assert images.dtype == torch.float32
            assert images.is_contiguous(memory_format=torch.channels_last)
            assert labels.dtype == torch.int64


def test_kept_batches_are_not_overwritten(small: Dataset) -> None:
    """Each is memory of torch's, of which DALI has none to wait for; while one is held, nothing is written into it."""
    augmentation = Augmentation()
    loader = dali(small, augmentation, 16)
    plan = draw_plan(len(small.train_images), augmentation, seed=0, epoch=0)
    copies, kept = [], []
    for images, _ in loader.batches(plan):
        copies.append(images.clone())
        kept.append(images)
        assert images.untyped_storage().resizable()  # which another's memory is not
    for images, copy in zip(kept, copies, strict=True):
        assert torch.equal(images, copy)


def test_an_epoch_left_early_does_not_leak_into_the_next(small: Dataset) -> None:
    augmentation = Augmentation()
    loader = dali(small, augmentation, 32)
    first = draw_plan(len(small.train_images), augmentation, seed=0, epoch=0)
    second = draw_plan(len(small.train_images), augmentation, seed=0, epoch=1)
    expected = torch.cat([images for images, _ in loader.batches(second)])
    for leave_after in (1, 2, 5):
        batches = loader.batches(first)
        for _ in range(leave_after):
            next(batches)
        batches.close()  # type: ignore[attr-defined]
        images = torch.cat([images for images, _ in loader.batches(second)])
        assert torch.equal(images, expected)


@pytest.mark.timeout(60)  # two epochs in one pipeline wait for each other
def test_an_epoch_that_is_asked_for_ends_the_one_before(small: Dataset) -> None:
    """There is one pipeline: an error, where the images of one epoch would come with the labels of the other."""
    augmentation = Augmentation()
    loader = dali(small, augmentation, 32)
    first, second = (draw_plan(len(small.train_images), augmentation, seed=0, epoch=epoch) for epoch in (0, 1))
    expected = list(loader.batches(second))
    before = loader.batches(first)
    next(before)
    never_begun = loader.batches(first)
    for (images, labels), (right, answers) in zip(loader.batches(second), expected, strict=True):
        assert torch.equal(images, right)
        assert torch.equal(labels, answers)
    for old in (before, never_begun):
        with pytest.raises(RuntimeError, match="next epoch has begun"):
            next(old)
    del before, never_begun, old
    assert torch.equal(next(loader.batches(second))[0], expected[0][0])


def test_a_signal_at_any_instant_ends_the_iteration() -> None:
    """Ctrl-C raises wherever the training thread is, in the midst of handing over a batch too: nothing may hang."""
    batch = (torch.zeros(1), torch.zeros(1))

    def batches() -> Generator[tuple[torch.Tensor, torch.Tensor]]:
        yield from [batch] * 3

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before, stopped = signal.signal(signal.SIGPROF, stop), 0
    try:
        for trial in range(400):
            try:
                signal.setitimer(signal.ITIMER_PROF, 1e-4 * (1 + trial % 20))
                while True:
                    assert len(list(_ahead(batches()))) == 3
            except KeyboardInterrupt:
                stopped += 1
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert stopped == 400


def test_an_error_in_the_thread_is_raised_where_the_batches_are_used() -> None:
    def batches() -> Generator[tuple[torch.Tensor, torch.Tensor]]:
        yield torch.zeros(1), torch.zeros(1)
        raise OSError("out of luck")

    ahead = _ahead(batches())
    assert next(ahead)[0].numel() == 1
    with pytest.raises(OSError, match="out of luck"):
        next(ahead)


def test_an_unknown_loader_is_one_line(small: Dataset) -> None:
    with pytest.raises(InputError, match=r"^'fast': no such loader; there are auto, dali, fused$"):
        open_loader("fast", small, Augmentation(), batch_size=8, device=CPU)


def test_without_dali_one_line_says_how_to_get_it(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nvidia.dali", None)
    monkeypatch.delitem(__import__("sys").modules, "fastcifar.data.dali", raising=False)
    with pytest.raises(InputError, match="pip install nvidia-dali-cuda120"):
        open_loader("dali", small, Augmentation(), batch_size=8, device=CPU)
