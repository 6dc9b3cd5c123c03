"""Real CIFAR-10 where it is present, made-up images of its shape elsewhere."""

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fastcifar.data.cifar import load_cifar10, locate_cifar10
from fastcifar.data.dataset import Dataset
from fastcifar.data.synthetic import synthetic
from fastcifar.recipe import Recipe, Resnet, Schedule


@pytest.fixture(scope="session")
def cifar10() -> Dataset:
    """All of CIFAR-10; skips the test on a machine without it."""
    if locate_cifar10() is None:
        pytest.skip("CIFAR-10 is not on this machine ($FASTCIFAR_DATA names its folder)")
    return load_cifar10()


@pytest.fixture(scope="session", autouse=True)
def cifar10_is_read_once() -> Iterator[None]:
    """By a process of tests, for whatever it trains: to read 170 MB and take their MD5s is two seconds each time."""
    here, once = locate_cifar10(), functools.cache(load_cifar10)

    def read(folder: str | Path | None = None) -> Dataset:
        return once() if here and locate_cifar10(folder) == here else load_cifar10(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastcifar.data.load.load_cifar10", read)
        yield


@pytest.fixture(scope="module", autouse=True)
def compilers_begin_anew() -> None:
    """What torch.compile knows of functions it has met, and refused to compile, is not handed from module to module."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


@pytest.fixture(autouse=True)
def compilers_compile() -> Iterator[None]:
    """No test leaves torch so that it runs uncompiled, without a word, what later ones have compiled."""
    yield
    if "torch._dynamo" in sys.modules:
        from torch._dynamo import config, eval_frame
        from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

        left = eval_frame._stance.stance, config.disable, _get_current_dispatch_mode_stack()
        assert left == ("default", False, [])


@pytest.fixture(scope="session")
def small() -> Dataset:
    """300 training and 200 test images: of CIFAR-10 where it is present."""
    if locate_cifar10() is None:
        return synthetic(300, 200)
    return load_cifar10().limited(300, 200)


@pytest.fixture
def quick() -> Recipe:
    """A recipe that two cores finish in a second or two on `small`: three steps an epoch, the last one short."""
    return Recipe(
        epochs=2, batch_size=128, model=Resnet(width=4), schedule=Schedule(min_lr=0.001, max_lr=0.01, peak_epoch=1)
    )


@pytest.fixture
def restored_rng() -> object:
    """torch's random state as before, after a test that seeds it."""
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


def pytest_report_header() -> list[str]:
    """Say what the data-dependent tests run on."""
    where = "real CIFAR-10" if locate_cifar10() else "no CIFAR-10 here: its tests skip, others use made-up images"
    return [f"fastcifar: {where}; {os.cpu_count()} cores; CUDA: {torch.cuda.is_available()}"]
