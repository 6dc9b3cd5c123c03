"""The loader on NVIDIA DALI: one pipeline, its operators on the GPU or, where there is none, on the CPU."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, pipeline_def, types
from torch import Tensor

from fastcifar.data.dataset import MEAN, STD, padded
from fastcifar.data.plan import IMAGE_SIZE, EpochPlan
from fastcifar.recipe import Augmentation


class DaliLoader:
    """Executes plans on DALI: see `fastcifar.data.loader.Loader`.

    The images (n, 32, 32, 3) uint8 are padded once; on CUDA they stay on the GPU, where each batch is gathered.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        augmentation: Augmentation,
        *,
        batch_size: int,
        device: torch.device,
    ) -> None:
        pad = augmentation.pad
        bank = padded(images, augmentation)
        self._labels = torch.from_numpy(labels).to(device)
        self._device = device
        self._feed = _Feed(bank if device.type == "cpu" else torch.from_numpy(bank).to(device), batch_size, pad)
        self._pipeline = _pipeline(
            self._feed,
            cutout=augmentation.cutout,
            operators="gpu" if device.type == "cuda" else "cpu",
            batch_size=batch_size,
            num_threads=min(len(os.sched_getaffinity(0)), 8),
            prefetch_queue_depth=2,
            exec_dynamic=True,  # whose outputs stay whole for as long as torch holds them
            device_id=(device.index or 0) if device.type == "cuda" else None,
        )
        self._pipeline.build()

    def batches(self, plan: EpochPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (B, 3, 32, 32) float32 channels_last and labels (B,) int64; see `Loader`."""
        # On a stream of torch's, DALI's outputs are ordered by the stream and the host does not wait for them.
        stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
        indices = torch.from_numpy(plan.indices).to(self._device)
        self._feed.start(plan, indices)
        start = 0
        try:
            while (images_nhwc := self._next(stream)) is not None:
                stop = start + len(images_nhwc)
                yield images_nhwc.permute(0, 3, 1, 2), self._labels[indices[start:stop]]
                start = stop
        finally:
            # After an early exit the pipeline still holds prefetched batches of this plan: let it run dry.
            self._feed.stop()
            while self._next(stream) is not None:
                pass
            self._pipeline.reset()

    def _next(self, stream: Any) -> Tensor | None:
        """The pipeline's next batch (B, 32, 32, 3), sharing DALI's memory, or None at the end of the plan."""
        try:
            (images,) = self._pipeline.run(stream)
        except StopIteration:
            return None
        return torch.from_dlpack(images.as_tensor())


@pipeline_def
def _pipeline(feed: "_Feed", *, cutout: int, operators: str) -> Any:
    """The transforms, one definition for both devices: `operators` is "cpu" or "gpu". Gives (B, 32, 32, 3) float32."""
    padded = fn.external_source(feed.images, device=operators, batch=True, dtype=types.UINT8, ndim=3, layout="HWC")
    crop_y, crop_x, mirror = fn.external_source(
        feed.arguments,
        num_outputs=3,
        batch=True,
        dtype=[types.FLOAT, types.FLOAT, types.INT32],
        ndim=[0, 0, 0],
    )
    images = fn.crop_mirror_normalize(
        padded,
        crop=(IMAGE_SIZE, IMAGE_SIZE),
        crop_pos_y=crop_y,
        crop_pos_x=crop_x,
        mirror=mirror,
        mean=MEAN,
        std=STD,
        dtype=types.FLOAT,
        output_layout="HWC",
    )
    if not cutout:
        return images
    corner = fn.external_source(feed.corners, batch=True, dtype=types.FLOAT, ndim=1)
    # After the normalisation zero is the mean colour.
    return fn.erase(images, anchor=corner, shape=[cutout, cutout], axis_names="HW", fill_value=0)


class _Feed:
    """What the pipeline's external sources call for their next batch: the images, and the operators' arguments."""

    def __init__(self, padded: Any, batch_size: int, pad: int) -> None:
        self._padded = padded  # (n, 32 + 2 * pad, 32 + 2 * pad, 3) uint8: an ndarray, or a tensor on the GPU
        self._batch_size = batch_size
        # crop_mirror_normalize takes a crop's position as a fraction of the room there is for it.
        self._room = np.float32(max(2 * pad, 1))
        self._images: Iterator[Any] = iter(())
        self._arguments: Iterator[EpochPlan] = iter(())
        self._corners: Iterator[EpochPlan] = iter(())

    def start(self, plan: EpochPlan, indices: Tensor) -> None:
        """Make the next batches those of `plan`; `indices` are its indices on the training device."""
        chosen = indices if isinstance(self._padded, Tensor) else plan.indices
        starts = range(0, len(plan), self._batch_size)
        self._images = (self._padded[chosen[start : start + self._batch_size]] for start in starts)
        self._arguments = plan.batches(self._batch_size)
        self._corners = plan.batches(self._batch_size)

    def stop(self) -> None:
        """Have no next batch."""
        self._images, self._arguments, self._corners = iter(()), iter(()), iter(())

    def images(self) -> Any:
        """Padded images (B, 32 + 2 * pad, 32 + 2 * pad, 3) uint8."""
        return next(self._images)

    def arguments(self) -> tuple[NDArray[Any], ...]:
        """Crop y (B,) and x (B,) as fractions of the room, mirror (B,) 0 or 1."""
        plan = next(self._arguments)
        crop = plan.crop.astype(np.float32) / self._room
        return np.ascontiguousarray(crop[:, 0]), np.ascontiguousarray(crop[:, 1]), plan.flip.astype(np.int32)

    def corners(self) -> NDArray[np.float32]:
        """Upper left corner of the cutout (B, 2), y and x in pixels."""
        return next(self._corners).cutout.astype(np.float32)
