"""One optimizer step: forward, loss, backward, update, in the precision and compilation asked for."""

import contextlib
import traceback
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastcifar.data.plan import IMAGE_SIZE
from fastcifar.errors import RunError, memory_problem
from fastcifar.execution import compiled
from fastcifar.training.memory import reuse_pages
from fastcifar.training.ranks import Ranks
from fastcifar.training.resize import Taps, resized, taps_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The precision as a context, a new one each time: for one that is kept, torch 2.11 compiles each step anew."""
    return torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "float32")


class TrainingStep:
    """Calling it with images (B, 3, 32, 32) and labels (B,) takes one step and gives what came of it.

    With `ranks` they are this rank's rows of a batch of as many as the call says, the step is all ranks' together, and
    it gives the loss and the right answers of the whole batch, and the losses of its own images.

    `precision` is float32, bfloat16 or float16 (with a gradient scaler); `compile` a mode of torch.compile, "off",
    or "cuda-graph": compiled to be captured whole (`step_graph`; one process, no scaler, optimizers that are
    `optim.capturable`). `batch_sizes` are those of whole batches. `image_size`, which may change from epoch to epoch,
    is the side in pixels that the images are resized to first.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        batch_sizes: Collection[int],
        device: torch.device,
        precision: str,
        compile: str,
        label_smoothing: float = 0.0,
        ranks: Ranks | None = None,
    ) -> None:
        self._ranks = ranks or Ranks()
        network: Any = model
        if self._ranks.count > 1 and compile != "off":  # inside of what waits for the gradients of the others
            network, compile = compiled(model, mode=compile), "off"
        self._model, self._optimizers = self._ranks.together(network), optimizers
        self._batch_sizes, self._label_smoothing = frozenset(batch_sizes), label_smoothing
        self.image_size = IMAGE_SIZE
        self._device, self._precision = device, precision
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # the shapes are few, and come again and again
        else:
            reuse_pages()
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
        self._compiled = None
        if compile != "off":
            self._compiled = compiled(self._forward, mode="default" if compile == "cuda-graph" else compile)

    def __call__(self, images: Tensor, labels: Tensor, batch: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Loss (), each image's cross-entropy (B,) float32, its label not smoothed, and how many are answered right (),
        detached; to be read before the next step, which may write over them. `batch` is the size of the whole batch, by
        default B."""
        if self._device.type == "cuda":  # else it only imports torch's compiler, which takes a second
            torch.compiler.cudagraph_mark_step_begin()
        side, taps = self.image_size, None
        # The short last batch runs uncompiled: a second compilation would cost more than it ever saves.
        if self._compiled and len(labels) in self._batch_sizes:
            if self._device.type == "cuda" and images.shape[-1] != side:
                taps = taps_of(images.shape[-1], side, self._device)
            loss, losses, correct = self._compiled(images, labels, side, taps)
        else:
            loss, losses, correct = self._forward(images, labels, side)
        batch = batch or len(labels)
        self.scaler.scale(loss if self._ranks.count == 1 else loss * self._ranks.weight(batch)).backward()
        for optimizer in self._optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss, correct = self._ranks.of_batch(loss.detach(), correct, batch)
        return loss, losses, correct

    @contextlib.contextmanager
    def within_memory(self) -> Iterator[None]:
        """Where memory runs out inside, the error says which batch would have fitted: raises `RunError`."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if memory_problem(error) is None:
                raise
            traceback.clear_frames(error.__traceback__)  # which hold what has to be freed
            size = self._fitting_batch()
            remedy = f"a batch of {size} would fit (--batch-size {size})" if size else "a smaller network needs less"
            raise RunError(memory_problem(error, remedy)) from error

    def _fitting_batch(self) -> int:
        """The largest half, quarter, ... of a batch whose forward and backward pass memory has room for now, or 0. What
        the network's state is afterwards is nobody's concern."""
        size = max(self._batch_sizes) if self._ranks.count == 1 else 0  # the others would not try along
        while size := size // 2:
            for optimizer in self._optimizers:
                optimizer.zero_grad(set_to_none=True)
            try:
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
                images = torch.zeros(size, 3, IMAGE_SIZE, IMAGE_SIZE, device=self._device)
                labels = torch.zeros(size, dtype=torch.int64, device=self._device)
                self._forward(images, labels, self.image_size)[0].backward()
            except (MemoryError, RuntimeError) as error:
                if memory_problem(error) is None:
                    return 0
                traceback.clear_frames(error.__traceback__)
            else:
                break
        return size

    def _forward(
        self, images: Tensor, labels: Tensor, side: int, taps: Taps | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        if images.shape[-1] != side:
            images = resized(images, side, DTYPES[self._precision], taps)
        with autocast(self._device, self._precision):
            logits = self._model(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=self._label_smoothing)
        logits = logits.detach().float()
        losses = F.cross_entropy(logits, labels, reduction="none")
        return loss, losses, (logits.argmax(dim=1) == labels).sum()
