"""Images made smaller or larger for an epoch: as torchvision does it, compiled or not."""

import contextlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from fastcifar.data.dataset import Dataset
from fastcifar.execution import Execution
from fastcifar.recipe import Recipe
from fastcifar.training import step
from fastcifar.training.evaluate import normalise
from fastcifar.training.resize import resized, taps_of
from fastcifar.training.trainer import Trainer

CPU = Execution(device="cpu", loader="dali", precision="float32", compile="off")


def test_images_are_resized_as_torchvision_does(small: Dataset) -> None:
    images = normalise(torch.from_numpy(small.test_images[:4]))
    wanted = resize(images, [24, 24], antialias=True)
    torch.testing.assert_close(resized(images, 24, torch.float32), wanted)
    halved = resized(images, 24, torch.bfloat16)
    assert halved.dtype == torch.bfloat16
    assert torch.equal(halved, resized(images.bfloat16(), 24, torch.bfloat16))  # what either loader gives


def test_what_is_not_compiled_is_resized_by_torch(
    small: Dataset, quick: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one kernel: taps are for a compiler, which makes them one. The last batch of an epoch is not compiled."""
    trainer = Trainer(replace(quick, image_sizes=(24,)), small, CPU)
    given: list[tuple[int, bool]] = []

    def noted(images: Tensor, side: int, dtype: torch.dtype, taps: Any) -> Tensor:
        given.append((len(images), taps is not None))
        return resized(images, side, dtype, taps)

    monkeypatch.setattr(step, "resized", noted)
    taken = trainer._step
    monkeypatch.setattr(taken, "_device", SimpleNamespace(type="cuda"))
    monkeypatch.setattr(step, "taps_of", lambda source, side, device: taps_of(source, side, torch.device("cpu")))
    monkeypatch.setattr(step, "autocast", lambda device, precision: contextlib.nullcontext())
    taken.image_size = 24
    batches = [torch.zeros(size, 3, 32, 32) for size in (128, 44)]
    for images in batches:
        taken(images, torch.zeros(len(images), dtype=torch.int64))
    taken._compiled = taken._forward
    for images in batches:
        taken(images, torch.zeros(len(images), dtype=torch.int64))
    assert given == [(128, False), (44, False), (128, True), (44, False)]


@pytest.mark.parametrize("side", [12, 16, 20, 24, 28, 31, 40])
def test_what_a_gpu_compiles_resizes_likewise(small: Dataset, side: int) -> None:
    images = normalise(torch.from_numpy(small.test_images[:4]))
    taps = taps_of(32, side, torch.device("cpu"))
    found = resized(images, side, torch.float32, taps)
    torch.testing.assert_close(found, resized(images, side, torch.float32), rtol=0, atol=1e-5)
    torch.testing.assert_close(taps[1].sum(dim=1), torch.ones(side))
    assert found.is_contiguous(memory_format=torch.channels_last)
