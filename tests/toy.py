"""A command that trains a second or two, and what it says where it ends badly."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

TOY = ["train", "--dataset", "synthetic", "--limit-train", "300", "--limit-test", "100", "--width", "4"]
TOY += ["--epochs", "2", "--batch-size", "128", "--device", "cpu", "--no-report"]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that was said on standard error."""
    error = capsys.readouterr().err
    assert error.startswith("fastcifar: ")
    assert error.count("\n") == 1
    return error.strip()


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """A larger file fails to be written, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
