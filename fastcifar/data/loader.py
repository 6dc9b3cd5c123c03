"""What a loader is, the ones there are, and a loader on its own for three lines in a notebook."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, replace
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from fastcifar.data.dataset import Dataset
from fastcifar.data.fused import FusedLoader
from fastcifar.data.plan import EpochPlan, draw_plan, plain_plan
from fastcifar.errors import InputError, perhaps, short
from fastcifar.execution import LoaderName, fastest_loader
from fastcifar.recipe import Augmentation, Recipe, validated

LOADERS: tuple[str, ...] = get_args(LoaderName)


class Loader(Protocol):
    """Turns plans into batches on the training device."""

    prepare_seconds: float
    """What it took to pad the images, once, which is a part of the training."""

    def batches(self, plan: EpochPlan) -> Generator[tuple[Tensor, Tensor]]:
        """Execute `plan`, in batches of the loader's size; the last may be shorter.

        Yields normalised images (B, 3, 32, 32), channels_last in memory, and labels (B,) int64, both on the training
        device. Closing the generator early is fine; a new call starts afresh, and of `dali` ends the one before.
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
        names = ("auto", *LOADERS)
        raise InputError(f"{short(name)}: no such loader; there are {', '.join(names)}{perhaps(name, names)}")
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

    epoch: int
    """The next one, counted from 0; set it to go on where an earlier program was."""

    def __init__(
        self, loader: Loader, images: int, plan: Callable[[int], EpochPlan], *, batch_size: int, drop_last: bool
    ) -> None:
        self._loader, self._plan, self.epoch = loader, plan, 0
        self._batches, rest = divmod(images, batch_size)
        self._images = images - rest if drop_last else images
        self._batches += bool(rest) and not drop_last

    def __len__(self) -> int:
        """Batches an epoch."""
        return self._batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, 3, 32, 32) channels_last and labels (B,) int64: see `Loader`."""
        plan = self._plan(self.epoch)[: self._images]
        self.epoch += 1
        return self._loader.batches(plan)


def loader(
    name: LoaderName | Literal["auto"],
    dataset: Dataset,
    *,
    batch_size: int = 512,
    drop_last: bool = False,
    device: str | torch.device = "auto",
    pad: int = 4,
    pad_mode: Literal["zero", "reflect"] = "zero",
    flip: Literal["none", "random", "alternating"] = "random",
    brightness: float = 0.0,
    contrast: float = 0.0,
    cutout: int = 0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    split: Literal["train", "test"] = "train",
) -> Epochs:
    """A loader for any training loop: each iteration over it yields the augmented batches of the next epoch.

    >>> images = np.zeros((8, 32, 32, 3), np.uint8)
    >>> dataset = fastcifar.Dataset.from_arrays(images, np.arange(8), images, np.arange(8))
    >>> for images, labels in fastcifar.loader("dali", dataset, batch_size=4, device="cpu"):
    ...     print(tuple(images.shape), len(labels))
    (4, 3, 32, 32) 4
    (4, 3, 32, 32) 4

    With `split` "test" it yields the test images, in order, normalised and without augmentation. `name` auto is the
    loader that training would use here; `device` auto is CUDA if there is a GPU, else the CPU. `drop_last` drops the
    last, smaller batch of an epoch. The `epoch` of the returned object is the number of the next epoch, from 0. `pad`
    to `cutout` are those of a recipe's `augmentation`; `dtype` is for `fused` (the others yield float32). Raises
    `InputError` at a value out of range, and at CUDA without a GPU.
    """
    if not isinstance(dataset, Dataset):
        raise InputError(f"dataset: a {type(dataset).__name__}; Dataset.from_arrays makes a data set of arrays")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device {short(device)}: cpu, cuda, or cuda:1 and so on, or auto") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device}: torch finds no CUDA device here; use cpu or auto")
    if split == "test":
        dataset = replace(dataset, train_images=dataset.test_images, train_labels=dataset.test_labels)
        pad, flip, brightness, contrast, cutout = 0, "none", 0.0, 0.0, 0
    elif split != "train":
        raise InputError(f"split {split}: train or test")
    augmentation = Augmentation(
        pad=pad, pad_mode=pad_mode, flip=flip, brightness=brightness, contrast=contrast, cutout=cutout
    )
    validated(asdict(Recipe(augmentation=augmentation, batch_size=batch_size, seed=seed)))
    images = len(dataset.train_images)

    def plan(epoch: int) -> EpochPlan:
        if split == "test":
            return plain_plan(images)
        return draw_plan(images, augmentation, seed=seed, epoch=epoch)

    if drop_last and images < batch_size:
        raise InputError(f"batch_size: {batch_size:,} is more than the {images:,} images, which drop_last leaves out")
    name = fastest_loader() if name == "auto" else name
    opened = open_loader(name, dataset, augmentation, batch_size=batch_size, device=device, dtype=dtype)
    return Epochs(opened, images, plan, batch_size=batch_size, drop_last=drop_last)
