"""What a loader is, the ones there are, and a loader on its own for three lines in a notebook."""

from collections.abc import Generator, Iterator
from dataclasses import asdict
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from fastcifar.data.dataset import Dataset
from fastcifar.data.fused import FusedLoader
from fastcifar.data.plan import EpochPlan, draw_plan
from fastcifar.errors import InputError
from fastcifar.execution import LoaderName
from fastcifar.recipe import Augmentation, Recipe, validated

LOADERS: tuple[str, ...] = get_args(LoaderName)


class Loader(Protocol):
    """Turns plans into batches on the training device."""

    def batches(self, plan: EpochPlan) -> Generator[tuple[Tensor, Tensor]]:
        """Execute `plan`, in batches of the loader's size; the last may be shorter.

        Yields normalised images (B, 3, 32, 32), channels_last in memory, and labels (B,) int64, both on the training
        device. Closing the generator early is fine; a new call starts afresh.
        """
        ...


def open_loader(
    name: str,
    dataset: Dataset,
    augmentation: Augmentation,
    *,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Loader:
    """The loader `name` over the training images of `dataset`. Raises `InputError` where it is not installed.

    `dtype` is that of the images `fused` gives; the others give float32.
    """
    if name == "fused":
        return FusedLoader(dataset, augmentation, batch_size=batch_size, device=device, dtype=dtype)
    if name != "dali":
        raise InputError(f"--loader {name}: no such loader; there are {', '.join(LOADERS)}")
    try:
        from fastcifar.data.dali import DaliLoader
    except ImportError as error:
        raise InputError(
            f"--loader dali: NVIDIA DALI cannot be imported ({error}); on Linux x86-64: pip install "
            "nvidia-dali-cuda120; elsewhere: --loader fused"
        ) from error
    return DaliLoader(dataset, augmentation, batch_size=batch_size, device=device)


class Epochs:
    """The batches of one epoch each time it is iterated over: the next epoch, then the one after."""

    def __init__(self, loader: Loader, images: int, augmentation: Augmentation, *, batch_size: int, seed: int) -> None:
        self._loader, self._images, self._augmentation = loader, images, augmentation
        self._batch_size, self._seed = batch_size, seed
        self.epoch = 0  # the next one to be drawn, counted from 0

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self._images // self._batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, 3, 32, 32) channels_last and labels (B,) int64: see `Loader`."""
        plan = draw_plan(self._images, self._augmentation, seed=self._seed, epoch=self.epoch)
        self.epoch += 1
        return self._loader.batches(plan)


def loader(
    name: LoaderName,
    dataset: Dataset,
    *,
    batch_size: int = 512,
    device: str | torch.device = "auto",
    pad: int = 4,
    pad_mode: Literal["zero", "reflect"] = "zero",
    flip: Literal["none", "random", "alternating"] = "random",
    cutout: int = 0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Epochs:
    """A loader to iterate over, on its own: each time gives the augmented batches of the next epoch of `dataset`.

    `device` auto is CUDA if there is a GPU, else the CPU. Pixels `pad` and `cutout` as in a recipe's `augmentation`;
    `dtype` is for `fused` (the others give float32). Raises `InputError` at a value out of range,
    and at CUDA where there is none.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device}: torch finds no CUDA device here; use cpu or auto")
    augmentation = Augmentation(pad=pad, pad_mode=pad_mode, flip=flip, cutout=cutout)
    validated(asdict(Recipe(augmentation=augmentation, batch_size=batch_size, seed=seed)))
    opened = open_loader(name, dataset, augmentation, batch_size=batch_size, device=torch.device(device), dtype=dtype)
    return Epochs(opened, len(dataset.train_images), augmentation, batch_size=batch_size, seed=seed)
