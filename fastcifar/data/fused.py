"""The loader with everything on the device: a batch is one index expression, which torch.compile makes one kernel."""

import math
import statistics
from collections import deque
from collections.abc import Callable, Generator, Sequence
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from fastcifar.data.dataset import Dataset
from fastcifar.data.padding import padded
from fastcifar.data.plan import IMAGE_SIZE, EpochPlan
from fastcifar.errors import RunError
from fastcifar.execution import compiled as torch_compiled
from fastcifar.execution import compiler
from fastcifar.recipe import Augmentation

ROW = 3 * IMAGE_SIZE  # values in a row of an image


class FusedLoader:
    """Executes plans over the training images by indexing: see `fastcifar.data.loader.Loader`.

    The padded images lie on the device twice, as they are and mirrored: then every row of every crop is ROW bytes in
    sequence, which the kernel reads, normalises and writes as vectors. At 50,000 images padded by 4 that is 480 MB.
    Without a compiler the expression runs uncompiled, as several kernels. Raises `RunError` where compiling fails.
    """

    def __init__(
        self,
        dataset: Dataset,
        augmentation: Augmentation,
        *,
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        compiled: bool | None = None,
    ) -> None:
        self._images, self._pad = len(dataset.train_images), augmentation.pad
        self._batch_size, self._device = batch_size, device
        images = torch.from_numpy(dataset.train_images).to(device)
        bank, self.prepare_seconds = padded(images, augmentation, mirrored=True)
        self._side, self._bank = bank.shape[1], bank.flatten()
        self._labels = torch.from_numpy(dataset.train_labels).to(device)
        self._places: list[Tensor] = []
        # Offsets into the bank are int32 where they fit: half the index arithmetic of int64.
        self._offsets = torch.int32 if len(self._bank) < 2**31 else torch.int64
        mean, std = (torch.tensor(values, device=device).repeat(IMAGE_SIZE) for values in (dataset.mean, dataset.std))
        self._jittered = bool(augmentation.brightness or augmentation.contrast)
        expression = _expression(3 * self._side, augmentation.cutout, 1 / std, -mean / std, dtype)
        self._execute = expression
        if compiler() is not None if compiled is None else compiled:
            from torch._dynamo.exc import BackendCompilerFailed  # torch's compiler takes two seconds to import

            kernels = [torch_compiled(expression)]
            if device.type == "cpu" and torch.get_num_threads() > 1:
                kernels.append(torch_compiled(expression, options={"cpp.threads": 1}))
            self._execute = kernels[0] if len(kernels) == 1 else _Fastest(kernels)
            drawn = [torch.zeros(3, batch_size, dtype=self._offsets, device=device)]
            if self._jittered:
                drawn.append(torch.zeros(2, batch_size, device=device))
            try:
                for kernel in kernels:
                    kernel(self._bank, *drawn)  # compiles here, and not in the first batch
            except BackendCompilerFailed as error:
                said = str(error.inner_exception).strip().partition("\n")[0]
                raise RunError(f"torch.compile failed: {said}; --loader dali needs no compiler") from error

    def batches(self, plan: EpochPlan) -> Generator[tuple[Tensor, Tensor]]:
        """Yield images (B, 3, 32, 32), channels_last, in the loader's dtype, and labels (B,) int64; see `Loader`."""
        # Every batch has its full size, the last one filled up, so that one kernel serves them all.
        missing = -len(plan) % self._batch_size
        arrays = [pad(one, (0, missing)).to(self._device) for one in self._arrays(plan)]
        by_batch = [one.unflatten(-1, (-1, self._batch_size)).movedim(-2, 0).contiguous() for one in arrays]
        if isinstance(self._execute, _Fastest):
            self._execute.look_again()
        by_batch[0] = self._labels[by_batch[0]]
        for number, (labels, *drawn) in enumerate(zip(*(one.unbind() for one in by_batch), strict=True)):
            images = min(self._batch_size, len(plan) - number * self._batch_size)
            yield self._executed(drawn)[:images], labels[:images]

    def place(self, plan: EpochPlan) -> None:
        """Copy `plan` to the device for `placed`, over the plan before it; the host does not wait for the GPU."""
        arrays = self._arrays(plan)
        if not self._places:
            room = math.ceil(self._images / self._batch_size) * self._batch_size
            self._places = [one.new_zeros(*one.shape[:-1], room, device=self._device) for one in arrays]
        if self._device.type == "cuda":  # all before the first is copied, so that each time there is memory for each
            arrays = [one.pin_memory() for one in arrays]
        for place, one in zip(self._places, arrays, strict=True):
            place[..., : len(plan)].copy_(one, non_blocking=True)

    def choose(self, chosen: Tensor, images: int) -> None:
        """Keep only those rows of the plan in place whose training images are `chosen` (n,) bool, on the device; they
        are `images` many."""
        rows = (~chosen[self._places[0]]).sort(stable=True).indices[:images]
        for place in self._places:
            place[..., :images].copy_(place.index_select(-1, rows))

    def placed(self, number: Tensor, images: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images, labels and indices of the training images (B,) int64 of batch `number` of the plan in place.

        `images` is how many the batch has. `number` (1,) int64 lies on the device, and the host does not read it, so
        that one CUDA graph makes every batch.
        """
        by_batch = (place.unflatten(-1, (-1, self._batch_size)) for place in self._places)
        indices, *drawn = (one.index_select(-2, number).squeeze(-2) for one in by_batch)
        return self._executed(drawn)[:images], self._labels[indices[:images]], indices[:images]

    def _arrays(self, plan: EpochPlan) -> list[Tensor]:
        """What is drawn for the n images of `plan`, on the CPU: which ones (n,) int64; offset of each crop in the bank,
        row and value of the cutout's corner (3, n); and, where the augmentation has it, jitter (2, n)."""
        flipped = plan.flip.astype(np.int64)
        left = np.where(plan.flip, 2 * self._pad - plan.crop[:, 1], plan.crop[:, 1])
        row = (plan.indices + self._images * flipped) * self._side + plan.crop[:, 0]
        start = row * (3 * self._side) + 3 * left
        drawn = torch.empty(3, len(plan), dtype=self._offsets)
        for place, values in zip(drawn.numpy(), (start, plan.cutout[:, 0], 3 * plan.cutout[:, 1]), strict=True):
            place[:] = values
        arrays = [torch.from_numpy(plan.indices), drawn]
        return [*arrays, torch.from_numpy(plan.jitter).T.contiguous()] if self._jittered else arrays

    def _executed(self, drawn: Sequence[Tensor]) -> Tensor:
        """Images of a whole batch (B, 3, 32, 32)."""
        return self._execute(self._bank, *drawn).view(-1, IMAGE_SIZE, IMAGE_SIZE, 3).permute(0, 3, 1, 2)


class _Fastest:
    """Calls whichever of some kernels was the fastest lately, by the median of its last calls.

    A batch is about a millisecond of work for one thread. On a quiet machine more threads do it sooner; where one of
    them has to wait for its core all wait for it, and one thread alone is five times as fast.
    """

    CALLS = 5

    def __init__(self, kernels: list[Callable[..., Tensor]]) -> None:
        self._kernels = kernels
        self._seconds = [deque[float](maxlen=self.CALLS) for _ in kernels]
        self._look: list[int] = []

    def look_again(self) -> None:
        """Have each kernel called once, since other programs may have begun or ended."""
        self._look = list(range(len(self._kernels)))

    def __call__(self, *arguments: Tensor | None) -> Tensor:
        medians = [statistics.median(seconds) if seconds else math.inf for seconds in self._seconds]
        number = self._look.pop() if self._look else medians.index(min(medians))
        start = perf_counter()
        images = self._kernels[number](*arguments)
        self._seconds[number].append(perf_counter() - start)
        return images


def _expression(stride: int, cutout: int, scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Callable[..., Tensor]:
    """The transforms of a batch. `stride`: bytes in a row of the bank; `scale` and `shift` (ROW,) normalise."""

    def execute(bank: Tensor, drawn: Tensor, jitter: Tensor | None = None) -> Tensor:
        """Images (B, 32, ROW) from what is `drawn` (3, B), the offset of each crop in the bank, row and value of the
        cutout's corner, and what is added and multiplies then (2, B)."""
        start, top, corner = drawn.unbind()
        y = torch.arange(IMAGE_SIZE, device=bank.device, dtype=start.dtype)[:, None]
        k = torch.arange(ROW, device=bank.device, dtype=start.dtype)
        # Every 32 rows of ROW bytes that the bank holds, by their offset. Indexing this view by one number an image,
        # and not the bank by one number a value, is what lets the compiler read whole vectors.
        crops = bank.as_strided((len(bank) - (IMAGE_SIZE - 1) * stride - ROW + 1, IMAGE_SIZE, ROW), (1, stride, 1))
        values = crops[start] * scale + shift
        if jitter is not None:
            added, factor = jitter[:, :, None, None].unbind()
            values = (values + added) * factor
        if cutout:
            top, corner = top[:, None, None], corner[:, None, None]
            inside = (y >= top) & (y < top + cutout) & (k >= corner) & (k < corner + 3 * cutout)
            values = torch.where(inside, 0.0, values)
        return values.to(dtype)

    return execute
