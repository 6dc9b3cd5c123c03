"""`fastcifar bench loaders`: images/s of every loader that can run here, next to plain torchvision and the limit."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from fastcifar.bench.environment import cores
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
Batches = Iterable[tuple[Tensor, Tensor]]
AUGMENTATION = Augmentation()  # seed's: pad 4 with black, crop, flip, cutout 8


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
    places = list(dict.fromkeys((device, CPU)))
    candidates = [copy_candidate(place, seconds) for place in places]
    whole = len(dataset.train_images) // batch_size
    fast = [("dali-gpu" if place.type == "cuda" else "dali-cpu", place) for place in places] if has_dali() else []
    for name, place in (*fast, ("fused", device)):
        loader = open_loader(name.split("-")[0], dataset, AUGMENTATION, device=place, batch_size=batch_size)
        a_pass = partial(_images, epochs(loader, dataset, whole * batch_size))
        candidates.append(Candidate(name, repeated(a_pass, place, seconds), place))
    for workers in sorted({2, cores()}):
        batches = min(max(8, 2 * workers), whole)  # so that every worker is busy throughout
        plain = PlainLoader(dataset, batches=batches, workers=workers, device=device, batch_size=batch_size)
        candidates.append(Candidate(f"plain-{workers}", partial(_images, itertools.repeat(plain)), device))

    rates = in_turn(candidates, blocks, progress)
    measured = {
        name: Measurement.of("loaders", name, "bytes/s" if name.startswith("copy") else "images/s", *taken)
        for name, taken in rates.items()
    }
    limits = {candidate.name: measured[f"copy-{candidate.device.type}"].median for candidate in candidates}
    return [
        one if one.unit == "bytes/s" else one.against(measured[YARDSTICK], limits[name] / BYTES_PER_IMAGE)
        for name, one in measured.items()
    ]


def epochs(loader: Loader, dataset: Dataset, images: int) -> Iterator[Batches]:
    """The batches of the first `images` of one epoch after another."""
    for epoch in itertools.count():
        yield loader.batches(draw_plan(len(dataset.train_images), AUGMENTATION, seed=0, epoch=epoch)[:images])


def _images(epochs: Iterator[Batches]) -> int:
    return sum(len(labels) for _, labels in next(epochs))
