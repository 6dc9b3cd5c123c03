"""`fastcifar bench loaders`: images/s of every loader that can run here, next to plain torchvision and the limit."""

import os
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fastcifar.bench.plain import PlainLoader
from fastcifar.bench.throughput import Candidate, Measurement, copy_candidate, in_turn, repeated
from fastcifar.data.dataset import Dataset
from fastcifar.data.loader import Loader, open_loader
from fastcifar.data.plan import draw_plan
from fastcifar.execution import has_dali
from fastcifar.recipe import Augmentation

CPU = torch.device("cpu")
# The least a loader must move for an image: read it as bytes, write it as float32.
BYTES_PER_IMAGE = 32 * 32 * 3 * (1 + 4)
YARDSTICK = "plain-2"
AUGMENTATION = Augmentation()  # seed's: pad 4 with black, crop, flip, cutout 8


def worker_counts() -> list[int]:
    """2 workers, and as many as there are cores."""
    return sorted({2, len(os.sched_getaffinity(0))})


def slow_batches(dataset: Dataset, batch_size: int, workers: int) -> int:
    """Batches of a block of a DataLoader: enough that every worker is busy throughout."""
    return min(max(8, 2 * workers), len(dataset.train_images) // batch_size)


def passes(loader: Loader, dataset: Dataset, batch_size: int) -> Iterator[int]:
    """Images of one pass after another, each over all whole batches of a new epoch."""
    images = len(dataset.train_images)
    stop = images // batch_size * batch_size
    for epoch in range(2**31):
        plan = draw_plan(images, AUGMENTATION, seed=0, epoch=epoch)[:stop]
        yield sum(len(labels) for _, labels in loader.batches(plan))


def bench_loaders(
    dataset: Dataset,
    *,
    device: torch.device,
    batch_size: int = 512,
    blocks: int = 7,
    seconds: float = 0.5,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Measurement]:
    """Images/s of dali (GPU and CPU), fused and plain torchvision with several numbers of workers.

    Blocks of about `seconds`, or of 8 batches where that is longer; the limit is BYTES_PER_IMAGE at the rate of a copy
    on the loader's device; the yardstick is plain torchvision with 2 workers.
    """
    candidates = [copy_candidate(place, seconds) for place in dict.fromkeys((device, CPU))]

    def fast(name: str, loader: Loader, place: torch.device) -> Candidate:
        through = passes(loader, dataset, batch_size)
        return Candidate(name, repeated(lambda: next(through), place, seconds), place)

    if has_dali():
        for place in dict.fromkeys((device, CPU)):
            loader = open_loader("dali", dataset, AUGMENTATION, device=place, batch_size=batch_size)
            candidates.append(fast("dali-gpu" if place.type == "cuda" else "dali-cpu", loader, place))
    candidates.append(
        fast("fused", open_loader("fused", dataset, AUGMENTATION, device=device, batch_size=batch_size), device)
    )
    for workers in worker_counts():
        batches = slow_batches(dataset, batch_size, workers)
        plain = PlainLoader(dataset, batches=batches, workers=workers, device=device, batch_size=batch_size)
        candidates.append(Candidate(f"plain-{workers}", lambda plain=plain: sum(map(_images, plain)), device))  # type: ignore[misc]

    rates = in_turn(candidates, blocks, progress)
    measured = {
        name: Measurement.of("loaders", name, "bytes/s" if name.startswith("copy") else "images/s", values)
        for name, values in rates.items()
    }
    limits = {candidate.name: measured[f"copy-{candidate.device.type}"].median for candidate in candidates}
    return [
        one if one.unit == "bytes/s" else one.against(measured[YARDSTICK], limits[name] / BYTES_PER_IMAGE)
        for name, one in measured.items()
    ]


def _images(batch: tuple[Tensor, Tensor]) -> int:
    return len(batch[1])
