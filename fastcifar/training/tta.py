"""Test-time augmentation: the network's mean answer over an image, its mirror image and images shifted by a pixel."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

TTA = Literal["none", "flip", "flip+shift"]


class Averaged(nn.Module):
    """A network whose logits are means over several views of each image, as in airbench.

    `none`: the image. `flip`: mean of the image's logits and those of its mirror image. `flip+shift`: half of it is
    `flip`; the other half is the mean of `flip` over the image shifted by one pixel down and right, and up and left,
    where the border that comes into view mirrors the image (reflect padding): six views, of weight 1/4, 1/4 and four
    times 1/8. This is `infer_mirror_translate` of airbench (Keller Jordan, "94% on CIFAR-10 in 3.29 Seconds on a
    Single GPU", 2024, arXiv 2404.00498; github.com/KellerJordan/cifar10-airbench).
    """

    def __init__(self, model: nn.Module, tta: TTA) -> None:
        super().__init__()
        self.model, self.tta = model, tta

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 10) of normalised images (B, 3, 32, 32); float32 unless `tta` is none."""
        if self.tta == "none":
            return self.model(images)
        logits = self._flipped(images)
        if self.tta == "flip":
            return logits
        height, width = images.shape[2:]
        padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
        down_right = self._flipped(padded[:, :, :height, :width])
        up_left = self._flipped(padded[:, :, 2:, 2:])
        return 0.5 * logits + 0.25 * (down_right + up_left)

    def _flipped(self, images: Tensor) -> Tensor:
        return 0.5 * (self.model(images).float() + self.model(images.flip(3)).float())
