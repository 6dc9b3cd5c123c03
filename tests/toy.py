"""A command that trains a second or two, and what it says where it ends badly."""

import pytest

TOY = ["train", "--dataset", "synthetic", "--limit-train", "300", "--limit-test", "100", "--width", "4"]
TOY += ["--epochs", "2", "--batch-size", "128", "--device", "cpu", "--no-report"]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that was said on standard error."""
    error = capsys.readouterr().err
    assert error.startswith("fastcifar: ")
    assert error.count("\n") == 1
    return error.strip()
