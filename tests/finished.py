"""A finished run of a tiny network, made on the fly, once for all the tests that read it."""

import functools
import tempfile
from pathlib import Path

import fastcifar
from fastcifar.data.cifar import locate_cifar10
from fastcifar.data.dataset import Dataset
from fastcifar.data.load import load_dataset
from fastcifar.execution import Execution
from fastcifar.recipe import Recipe, Resnet, Schedule
from fastcifar.runs.observer import Trained

RECIPE = Recipe(
    epochs=2,
    batch_size=128,
    limit_train=300,
    limit_test=1100,  # a whole batch of the test and a short one
    dataset="cifar10" if locate_cifar10() else "synthetic",
    model=Resnet(width=4),
    schedule=Schedule(min_lr=0.001, max_lr=0.01, peak_epoch=1),
)
CPU = Execution(device="cpu", loader="dali", precision="float32", compile="off")


@functools.cache
def dataset() -> Dataset:
    """The images of `RECIPE`."""
    return load_dataset(RECIPE)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()  # removed when Python ends


@functools.cache
def finished_run() -> tuple[Path, Trained]:
    """The run directory of `RECIPE`, trained on the CPU in float32, and what `train` gave; to be left as it is."""
    path = Path(_folder().name) / "run"
    return path, fastcifar.train(RECIPE, execution=CPU, out=path)
