"""Images made smaller (or larger), as torchvision's Resize makes them: for epochs that train on other sides than 32."""

from functools import cache
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

Taps: TypeAlias = tuple[Tensor, Tensor]


@cache
def taps_of(side: int, to: int, device: torch.device) -> Taps:
    """Of each of `to` values that `side` values are resized to: which of those it is made of (to, k), and their weights
    (to, k), 0 where it is made of fewer."""
    identity = torch.eye(side)[None, None]
    matrix = F.interpolate(identity, (to, side), mode="bilinear", antialias=True)[0, 0]
    width = int((matrix != 0).sum(dim=1).max())
    places = matrix.ne(0).int().argmax(dim=1)[:, None] + torch.arange(width)
    places.clamp_(max=side - 1)
    weights = matrix.gather(1, places)
    weights[:, 1:][places[:, 1:] == places[:, :-1]] = 0  # what the clamp has twice
    return places.to(device), weights.to(device)


def resized(images: Tensor, side: int, dtype: torch.dtype, taps: Taps | None = None) -> Tensor:
    """Images (B, 3, H, W) at (B, 3, side, side) in `dtype`, as torchvision's Resize makes them: bilinear, antialiased.

    They are rounded to `dtype` before too, as the `fused` loader gives them, so that no loader's images differ. `taps`,
    those of `taps_of`, are for where torch.compile makes one kernel of it; else torch's operator does it.
    """
    images = images.to(dtype).float()  # which on the CPU it is not there for less than
    if taps is None:
        return F.interpolate(images, (side, side), mode="bilinear", antialias=True).to(dtype)
    places, weights = taps  # (side, k)
    for dimension in (2, 3):
        over = weights[..., None] if dimension == 2 else weights  # the rows' weights, and the columns'
        images = sum(  # type: ignore[assignment]
            images.index_select(dimension, places[:, tap]) * over[:, tap] for tap in range(places.shape[1])
        )
    return images.to(dtype, memory_format=torch.channels_last)
