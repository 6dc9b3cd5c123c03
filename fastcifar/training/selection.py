"""Which training images an epoch is of: all, or without the easiest ones, whose gradients are next to nothing.

An image's loss is that of the step it was last trained in, which costs nothing to know: nearest to the selective
backpropagation of Jiang et al. 2019, "Accelerating Deep Learning by Focusing on the Biggest Losers", arXiv 1910.00762,
which needs a forward pass of every image first; airbench96 (github.com/KellerJordan/cifar10-airbench) asks a small
network trained before.
"""

import torch
from torch import Tensor

from fastcifar.training.ranks import Ranks


class ImageLosses:
    """The loss of each of `images` training images when it was last trained on, on the device.

    `latest` (images,) float32 is written step by step, and `before` is what it was when the present epoch began, by
    which that epoch's images are chosen: so an epoch that is resumed in its middle is the same one. At first all are
    infinite.
    """

    def __init__(self, images: int, device: torch.device, ranks: Ranks | None = None) -> None:
        self._ranks = ranks or Ranks()
        self.latest = torch.full((images,), torch.inf, device=device)
        self.before = self.latest.clone()

    def hardest(self, images: int) -> Tensor:
        """Whether each training image (n,) is among the `images` of the greatest losses."""
        chosen = torch.zeros(len(self.before), dtype=torch.bool, device=self.before.device)
        return chosen.index_fill_(0, self.before.argsort(descending=True, stable=True)[:images], True)

    def after_step(self, indices: Tensor, losses: Tensor) -> None:
        """A step was taken on the training images `indices` (B,) int64, on the device, of these `losses` (B,)."""
        self.latest.index_copy_(0, indices, losses)

    def state_dict(self) -> dict[str, Tensor]:
        """What it knows, live."""
        return {"latest": self.latest, "before": self.before}

    def end_epoch(self) -> None:
        """The next epoch is chosen by what is known now, to all ranks. Called twice, it is as called once."""
        if self._ranks.count > 1:
            new = self._ranks.greatest(torch.where(self.latest == self.before, -torch.inf, self.latest))
            self.latest.copy_(torch.where(new == -torch.inf, self.before, new))
        self.before.copy_(self.latest)
