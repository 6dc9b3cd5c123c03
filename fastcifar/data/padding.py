"""Images padded once for all epochs: part of the augmentation, and so of the training, though it comes before it."""

from time import perf_counter

import torch
from torch import Tensor

from fastcifar.data.plan import IMAGE_SIZE
from fastcifar.recipe import Augmentation


def padded(images_nhwc: Tensor, augmentation: Augmentation, *, mirrored: bool = False) -> tuple[Tensor, float]:
    """Images (n, 32, 32, 3) with `pad` pixels on each side, on their device: (n, 32 + 2 * pad, 32 + 2 * pad, 3), or,
    `mirrored`, as many again left to right after them; and the seconds it took."""
    side = IMAGE_SIZE + 2 * augmentation.pad
    if images_nhwc.is_cuda:
        _fill(images_nhwc.new_zeros(1 + mirrored, 1, side, side, 3), images_nhwc[:1], augmentation)  # loads the kernels
        torch.cuda.synchronize(images_nhwc.device)
    start = perf_counter()
    bank = images_nhwc.new_zeros(1 + mirrored, len(images_nhwc), side, side, 3)
    _fill(bank, images_nhwc, augmentation)
    if images_nhwc.is_cuda:
        torch.cuda.synchronize(images_nhwc.device)
    return bank.flatten(0, 1), perf_counter() - start


def _fill(bank: Tensor, images_nhwc: Tensor, augmentation: Augmentation) -> None:
    """Write the images, and in a second place (2, n, side, side, 3) them mirrored, into zeros."""
    pad = augmentation.pad
    inner = slice(pad, pad + IMAGE_SIZE)
    bank[0, :, inner, inner] = images_nhwc
    if len(bank) > 1:
        bank[1, :, inner, inner] = images_nhwc.flip(2)
    if augmentation.pad_mode == "reflect":  # which torch's own padding does not of bytes
        for axis in (2, 3):
            bank.narrow(axis, 0, pad).copy_(bank.narrow(axis, pad + 1, pad).flip(axis))
            bank.narrow(axis, pad + IMAGE_SIZE, pad).copy_(bank.narrow(axis, IMAGE_SIZE - 1, pad).flip(axis))
