"""The loader on NVIDIA DALI: one pipeline, its operators on the GPU or, where there is none, on the CPU."""

import contextlib
import math
import os
from _thread import start_new_thread
from collections import deque
from collections.abc import Generator, Sequence
from queue import SimpleQueue
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.plugin.pytorch import feed_ndarray
from torch import Tensor

from fastcifar.data.dataset import Channels, Dataset
from fastcifar.data.padding import padded
from fastcifar.data.plan import IMAGE_SIZE, EpochPlan
from fastcifar.errors import RunError, memory_problem
from fastcifar.recipe import Augmentation

Batch: TypeAlias = tuple[Tensor, Tensor]

# Images the pipeline makes at a time; a batch is joined from as many. For each image and argument crop_mirror_normalize
# checks the shapes of the whole batch's argument, so its cost grows with the square of this; every run of the pipeline
# costs something too. Of 32 to 1024, 128 was the fastest on 2 CPU cores, twice as fast as 512.
SLICE = 128


class DaliLoader:
    """Executes plans on DALI: see `fastcifar.data.loader.Loader`.

    The training images are padded once; on CUDA they stay on the GPU, where each batch is gathered.
    """

    def __init__(
        self,
        dataset: Dataset,
        augmentation: Augmentation,
        *,
        batch_size: int,
        device: torch.device,
    ) -> None:
        pad = augmentation.pad
        bank, self.prepare_seconds = padded(torch.from_numpy(dataset.train_images).to(device), augmentation)
        self._labels = torch.from_numpy(dataset.train_labels).to(device)
        self._batch_size, self._device = batch_size, device
        self._feed = _Feed(bank.numpy() if device.type == "cpu" else bank, pad, dataset.mean, dataset.std)
        self._pipeline = _pipeline(
            self._feed,
            cutout=augmentation.cutout,
            jittered=bool(augmentation.brightness or augmentation.contrast),
            mean=dataset.mean,
            std=dataset.std,
            operators="gpu" if device.type == "cuda" else "cpu",
            batch_size=min(SLICE, batch_size),
            num_threads=min(len(os.sched_getaffinity(0)), 8),
            prefetch_queue_depth=max(2, math.ceil(batch_size / SLICE)),  # a batch ahead
            exec_dynamic=True,  # whose outputs stay whole until they are copied
            device_id=None if device.type == "cpu" else device.index or torch.cuda.current_device(),
        )
        self._pipeline.build()
        self._under_way: Generator[Batch] | None = None

    def batches(self, plan: EpochPlan) -> Generator[Batch]:
        """Yield images (B, 3, 32, 32) float32 channels_last and labels (B,) int64; see `Loader`.

        There is one pipeline: a call ends the batches of the one before, which are a `RuntimeError` when asked for.
        """
        if self._under_way:
            self._under_way.close()
        batches = self._batches(plan)
        # The host has time to spare while a GPU works. On the CPU what it does for a batch would delay the next step.
        self._under_way = batches if self._device.type == "cuda" else _ahead(batches)
        return self._only(self._under_way)

    def _only(self, batches: Generator[Batch]) -> Generator[Batch]:
        """The same, as long as no others are asked for."""
        with contextlib.closing(batches):
            while self._under_way is batches:
                batch = next(batches, None)
                if batch is None:
                    self._under_way = None
                    return
                yield batch
        raise RuntimeError("dali: this loader's next epoch has begun; two at once need a loader each")

    def _batches(self, plan: EpochPlan) -> Generator[Batch]:
        # On a stream of torch's, DALI's outputs are ordered by the stream and the host does not wait for them.
        stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
        indices = torch.from_numpy(plan.indices).to(self._device)
        batches = list(plan.batches(self._batch_size))
        self._feed.start([part for batch in batches for part in batch.batches(SLICE)], indices)
        start, broken = 0, False
        try:
            for batch in batches:
                images_nhwc = torch.empty(len(batch), IMAGE_SIZE, IMAGE_SIZE, 3, device=self._device)
                for part in images_nhwc.split(SLICE):
                    self._write_next(part, stream)
                yield images_nhwc.permute(0, 3, 1, 2), self._labels[indices[start : start + len(batch)]]
                start += len(batch)
        except RunError:
            broken = True
            raise
        finally:
            # After an early exit the pipeline still holds prefetched slices of this plan: let it run dry.
            self._feed.start([], indices[:0])
            with contextlib.suppress(StopIteration):
                while not broken:
                    self._pipeline.run(stream)
            if not broken:
                self._pipeline.reset()

    def _write_next(self, images_nhwc: Tensor, stream: Any) -> None:
        """Write the pipeline's next slice into (b, 32, 32, 3). Raises `RunError` where DALI fails.

        Memory of DALI's that torch were given by DLPack would be given back by a thread of DALI's that waits for the
        whole GPU; a copy on torch's stream waits for nothing.
        """
        try:
            (images,) = self._pipeline.run(stream)
        except RuntimeError as error:
            if memory_problem(error):
                raise
            said = str(error).rpartition("encountered:")[2].strip().partition("\n")[0]
            raise RunError(f"DALI failed: {said}") from error
        feed_ndarray(images.as_tensor(), images_nhwc, cuda_stream=stream)


def _ahead(batches: Generator[Batch]) -> Generator[Batch]:
    """The same batches, the next one being made in a thread while one is in use."""
    # Of these queues and of a bare thread, no lock stays behind where a signal (Ctrl-C) raises in the midst of a call;
    # those of threading and concurrent.futures are Python code, in which one does, and the run then never ends.
    wanted: SimpleQueue[bool] = SimpleQueue()
    made: SimpleQueue[Batch | BaseException | None] = SimpleQueue()
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def make() -> None:
        # Holding on to the last three leaves it to the thread to give back their memory, which takes milliseconds.
        held: deque[Batch | None] = deque(maxlen=3)
        problem = None
        try:
            while wanted.get():
                held.append(next(batches, None))
                made.put(held[-1])
            batches.close()  # lets the pipeline run dry
        except BaseException as error:
            problem = error
        made.put(problem)
        ended.put(problem)

    started = 0
    try:
        started = start_new_thread(make, ())
        wanted.put(True)
        while isinstance(batch := made.get(), tuple):
            wanted.put(True)
            yield batch
    finally:
        wanted.put(False)
        if started and (problem := ended.get()):
            raise problem


@pipeline_def
def _pipeline(feed: "_Feed", *, cutout: int, jittered: bool, mean: Channels, std: Channels, operators: str) -> Any:
    """The transforms, one definition for both devices: `operators` is "cpu" or "gpu". Gives (B, 32, 32, 3) float32."""
    padded = fn.external_source(feed.images, device=operators, batch=True, dtype=types.UINT8, ndim=3, layout="HWC")
    crop_y, crop_x, mirror = fn.external_source(
        feed.arguments,
        num_outputs=3,
        batch=True,
        dtype=[types.FLOAT, types.FLOAT, types.INT32],
        ndim=[0, 0, 0],
    )
    if jittered:
        mean, std = fn.external_source(
            feed.normalisation, num_outputs=2, batch=True, dtype=[types.FLOAT, types.FLOAT], ndim=[1, 1]
        )
    images = fn.crop_mirror_normalize(
        padded,
        crop=(IMAGE_SIZE, IMAGE_SIZE),
        crop_pos_y=crop_y,
        crop_pos_x=crop_x,
        mirror=mirror,
        mean=mean,
        std=std,
        dtype=types.FLOAT,
        output_layout="HWC",
    )
    if not cutout:
        return images
    corner = fn.external_source(feed.corners, batch=True, dtype=types.FLOAT, ndim=1)
    # After the normalisation zero is the mean colour.
    return fn.erase(images, anchor=corner, shape=[cutout, cutout], axis_names="HW", fill_value=0)


class _Feed:
    """What the pipeline's external sources call for their next slice: the images, and the operators' arguments."""

    def __init__(self, padded: Any, pad: int, mean: Channels, std: Channels) -> None:
        self._padded = padded  # (n, 32 + 2 * pad, 32 + 2 * pad, 3) uint8: an ndarray, or a tensor on the GPU
        # crop_mirror_normalize takes a crop's position as a fraction of the room there is for it.
        self._room = np.float32(max(2 * pad, 1))
        self._mean, self._std = np.array(mean), np.array(std)

    def start(self, slices: Sequence[EpochPlan], indices: Tensor) -> None:
        """Make these the next slices, and the last; `indices` are theirs, in sequence, on the training device."""
        self._indices = iter(indices.split([len(part) for part in slices]))
        self._arguments, self._corners, self._jitter = iter(slices), iter(slices), iter(slices)

    def images(self) -> Any:
        """Padded images (b, 32 + 2 * pad, 32 + 2 * pad, 3) uint8."""
        chosen = next(self._indices)
        return self._padded[chosen if chosen.is_cuda else chosen.numpy()]

    def arguments(self) -> tuple[NDArray[Any], ...]:
        """Crop y (b,) and x (b,) as fractions of the room, mirror (b,) 0 or 1."""
        plan = next(self._arguments)
        crop = plan.crop.astype(np.float32) / self._room
        return np.ascontiguousarray(crop[:, 0]), np.ascontiguousarray(crop[:, 1]), plan.flip.astype(np.int32)

    def normalisation(self) -> tuple[NDArray[np.float32], ...]:
        """Mean and standard deviation (b, 3) by which normalising jitters too: no operator passes over them again.

        ((x - mean) / std + added) * factor is (x - (mean - added * std)) / (std / factor).
        """
        jitter = next(self._jitter).jitter
        added, factor = jitter[:, :1], jitter[:, 1:]
        return (self._mean - added * self._std).astype(np.float32), (self._std / factor).astype(np.float32)

    def corners(self) -> NDArray[np.float32]:
        """Upper left corner of the cutout (b, 2), y and x in pixels."""
        return next(self._corners).cutout.astype(np.float32)
