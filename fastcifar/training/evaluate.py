"""The network on images it was not trained on: the one loop over them, and test-time augmentation in it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fastcifar.data.dataset import MEAN, STD, Channels
from fastcifar.errors import InputError
from fastcifar.execution import Execution, compiled
from fastcifar.training.ranks import Ranks
from fastcifar.training.step import autocast
from fastcifar.training.step_graph import CudaGraphs, Graphed, Outputs

BATCH_SIZE = 1250  # by which 10,000 images are divided, and their quarter
TTA = Literal["none", "flip", "flip+shift", "flip+shift-quarter"]


@dataclass(frozen=True)
class Evaluated:
    """Mean cross-entropy, share of right answers (0 to 1), and the logits (n, classes) float32 they follow from."""

    loss: float
    accuracy: float
    logits: Tensor


def normalise(images_nhwc: Tensor | NDArray[np.uint8], mean: Channels = MEAN, std: Channels = STD) -> Tensor:
    """uint8 images (B, 32, 32, 3) to float32 (B, 3, 32, 32), channels_last, as the loaders normalise them.

    >>> fastcifar.normalise(np.zeros((2, 32, 32, 3), np.uint8)).shape
    torch.Size([2, 3, 32, 32])

    `mean` and `std` of each channel are in pixel values, 0..255; CIFAR-10's by default. Raises `InputError` at values
    of another type or shape, images of 0 to 1 for one, which would give wrong answers.
    """
    if not isinstance(images_nhwc, Tensor):
        images_nhwc = torch.from_numpy(np.array(images_nhwc))  # a copy, for torch warns of what may not be written to
    if images_nhwc.dtype != torch.uint8 or images_nhwc.ndim != 4 or images_nhwc.shape[-1] != 3:
        found = f"{images_nhwc.dtype} of shape {tuple(images_nhwc.shape)}"
        raise InputError(f"normalise takes uint8 images (B, 32, 32, 3), not {found}")
    centre, scale = (images_nhwc.new_tensor(values, dtype=torch.float32) for values in (mean, std))
    return ((images_nhwc.float() - centre) / scale).permute(0, 3, 1, 2)


class OnBytes(nn.Module):
    """`network` on uint8 images (B, 32, 32, 3), RGB: it normalises them itself and gives logits (B, classes), means
    over several views of each image as `tta` says, as in airbench.

    `none`: the image. `flip`: mean of the image's logits and those of its mirror image. `flip+shift`: half of it is
    `flip`; the other half is the mean of `flip` over the image shifted by one pixel down and right, and up and left,
    where the border that comes into view mirrors the image (reflect padding): six views, of weight 1/4, 1/4 and four
    times 1/8. This is `infer_mirror_translate` of airbench (Keller Jordan, "94% on CIFAR-10 in 3.29 Seconds on a
    Single GPU", 2024, arXiv 2404.00498; github.com/KellerJordan/cifar10-airbench). float32 unless `tta` is none.
    `flip+shift-quarter`: `flip+shift` for the least certain quarter of all images, the others plainly; that is for
    `logits_of`, which sees them all, and called with a batch alone it raises `InputError`. Hiverge's cifar10-speedrun
    does so (github.com/hiverge/cifar10-speedrun), its six views of equal weight, where these have airbench's.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Channels = MEAN, std: Channels = STD, tta: TTA = "none") -> None:
        super().__init__()
        self.network, self.tta = network, tta
        self._compiled: Callable[[Tensor], Tensor] | None = None
        self._compiled_for = 0
        device = next(network.parameters()).device
        self.register_buffer("mean", torch.tensor(mean, device=device))
        self.register_buffer("std", torch.tensor(std, device=device))

    def forward(self, images_nhwc: Tensor) -> Tensor:
        images = ((images_nhwc.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        if self.tta == "none":
            return self._logits(images)
        if self.tta == "flip+shift-quarter":
            raise InputError("flip+shift-quarter compares how certain images are: logits_of takes them all at once")
        logits = self._flipped(images)
        if self.tta == "flip":
            return logits
        height, width = images.shape[2:]
        padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
        down_right, up_left = padded[:, :, :height, :width], padded[:, :, 2:, 2:]
        return 0.5 * logits + 0.25 * (self._flipped(down_right) + self._flipped(up_left))

    def viewed(self, tta: TTA) -> Self:
        """The same network with other views of each image."""
        other = copy.copy(self)
        other.tta = tta
        return other

    def compiled(self, size: int) -> Self:
        """The same network, called by way of torch.compile with a view of `size` images, and as it is with others."""
        other, network = copy.copy(self), self.network
        other._compiled, other._compiled_for = compiled(lambda images: network(images)), size
        return other

    def _flipped(self, view: Tensor) -> Tensor:
        return 0.5 * (self._logits(view).float() + self._logits(view.flip(3)).float())

    def _logits(self, view: Tensor) -> Tensor:
        if self._compiled is None or len(view) != self._compiled_for:
            return cast(Tensor, self.network(view))
        return self._compiled(view.contiguous(memory_format=torch.channels_last))  # lest it is compiled for each view


def _nothing() -> None: ...


@torch.no_grad()
def logits_of(
    network: OnBytes,
    images_nhwc: Tensor,
    *,
    precision: str = "float32",
    between: Callable[[], None] = _nothing,
    ranks: Ranks | None = None,
) -> Tensor:
    """Logits (n, classes) float32 of uint8 images (n, 32, 32, 3) on the network's device, n at least 1, in batches.

    The network is in evaluation mode meanwhile, and back in its own afterwards; `precision` is float32, bfloat16 or
    float16; `between` is called after each batch. With flip+shift-quarter, the n // 4 images whose highest probability
    is the lowest, of equal ones the first, are answered a second time. Of several `ranks` each answers its
    share, and gets all.
    """
    was_training = network.network.training
    network.network.eval()
    about = precision, between, ranks or Ranks()
    try:
        if network.tta != "flip+shift-quarter":
            return _in_batches(network, images_nhwc, *about)
        logits = _in_batches(network.viewed("none"), images_nhwc, *about)
        certainty = logits.softmax(dim=1).amax(dim=1)
        least = certainty.argsort(stable=True)[: len(images_nhwc) // 4]
        if len(least):
            logits[least] = _in_batches(network.viewed("flip+shift"), images_nhwc[least], *about)
        return logits
    finally:
        network.network.train(was_training)


def _in_batches(
    network: OnBytes, images_nhwc: Tensor, precision: str, between: Callable[[], None], ranks: Ranks
) -> Tensor:
    logits, total = [], len(images_nhwc)
    images_nhwc = images_nhwc[ranks.rank :: ranks.count]
    # Around them all, and not in inference mode: so a weight is cast once, if it is one that wants a gradient.
    with autocast(images_nhwc.device, precision):
        for images in images_nhwc.split(BATCH_SIZE):
            logits.append(network(images).float())
            between()
    return ranks.gathered(torch.cat(logits), total)


def evaluate(
    network: OnBytes,
    images_nhwc: Tensor,
    labels: Tensor,
    *,
    precision: str = "float32",
    between: Callable[[], None] = _nothing,
    ranks: Ranks | None = None,
) -> Evaluated:
    """Test `network` on images and labels (n,) int64 on its device: see `logits_of`."""
    return scored(logits_of(network, images_nhwc, precision=precision, between=between, ranks=ranks), labels)


def scored(logits: Tensor, labels: Tensor) -> Evaluated:
    """How good the answers `logits` (n, classes) are, of which `labels` (n,) are the right ones."""
    return _evaluated(logits, *_sums(logits, labels))


def _sums(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and right answers, () each."""
    loss = torch.zeros((), device=logits.device)
    for part, truth in zip(logits.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True):
        loss += F.cross_entropy(part, truth, reduction="sum")  # batch by batch, as it always was summed
    return loss, (logits.argmax(dim=1) == labels).sum()


def _evaluated(logits: Tensor, loss: Tensor, correct: Tensor) -> Evaluated:
    return Evaluated(loss.item() / len(logits), correct.item() / len(logits), logits)


class Evaluator:
    """The test of one network on the same images (n, 32, 32, 3) and labels (n,), again and again.

    In the precision of `execution`, which is resolved; where it compiles, the network is compiled, unless it is on a
    CPU, where that gained nothing. With `graphs`, of a network on a GPU, it is one CUDA graph from the third time on,
    and `between` is called once.
    """

    def __init__(
        self,
        network: OnBytes,
        images_nhwc: Tensor,
        labels: Tensor,
        *,
        execution: Execution,
        ranks: Ranks,
        graphs: CudaGraphs | None = None,
    ) -> None:
        self._network = network
        if execution.compile != "off" and images_nhwc.is_cuda:
            self._network = network.compiled(min(BATCH_SIZE, len(images_nhwc)))
        self._images, self._labels = images_nhwc, labels
        self._precision, self._ranks = execution.precision, ranks
        self._graphed = Graphed(self._answers, graphs) if graphs else None

    def __call__(self, between: Callable[[], None] = _nothing) -> Evaluated:
        """As `evaluate`; of several ranks, all of them."""
        if self._graphed:
            logits, loss, correct = self._graphed()
            between()
        else:
            logits, loss, correct = self._answers(between)
        return _evaluated(logits, loss, correct)

    def _answers(self, between: Callable[[], None] = _nothing) -> Outputs:
        logits = logits_of(self._network, self._images, precision=self._precision, between=between, ranks=self._ranks)
        return logits, *_sums(logits, self._labels)
