"""steps.csv of a run directory: the learning rate and the loss of every step."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastcifar.errors import InputError
from fastcifar.files import read_regular

STEPS = "steps.csv"
HEADER = b"epoch,step,learning_rate,loss\n"
LARGEST = 2**27  # bytes: some four million steps

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Steps:
    """Where each step of a run ended, in epochs from its beginning, its learning rate and its loss: (steps,) each."""

    ends: Floats
    learning_rates: Floats
    losses: Floats


def steps_of_epochs(run: Path, epochs: int) -> bytes:
    """steps.csv of the folder `run` for the first so many epochs alone, for a run that goes on after them.

    Of a run of before there was one it is the first line alone.
    """
    try:
        _, *rows = read_regular(run / STEPS, LARGEST).splitlines(keepends=True) or [HEADER]
    except OSError:
        rows = []
    numbers = {str(epoch).encode() for epoch in range(1, epochs + 1)}
    return HEADER + b"".join(row for row in rows if row.partition(b",")[0] in numbers)


def read_steps(run: Path, epochs: int) -> Steps | None:
    """The steps of the finished run in the folder `run`, of so many epochs; None where it kept none, as runs once did.

    Raises `InputError`, one line, where they are not as a run writes them.
    """
    file = run / STEPS
    try:
        written = read_regular(file, LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    if written == HEADER:  # of one that kept none went on when all was trained
        return None
    try:
        if not written.startswith(HEADER) or not written[len(HEADER) :].strip():
            raise ValueError("no steps")
        epoch, step, rates, losses = values = np.loadtxt(
            io.BytesIO(written), delimiter=",", comments=None, skiprows=1, ndmin=2, unpack=True
        )
    except ValueError as error:
        raise _refused(file) from error
    first = step == 1
    if (
        not np.isfinite(values).all()
        or not first[0]
        or (np.diff(epoch) != first[1:]).any()  # the epoch changes where a step is the first, and there alone, by one
        or (np.diff(step)[~first[1:]] != 1).any()
        or not 1 <= epoch[0] <= epoch[-1] == epochs
        or (rates < 0).any()
    ):
        raise _refused(file)
    whole = epoch.astype(np.int64)
    ends = epoch - 1 + step / np.bincount(whole)[whole]
    return Steps(ends, rates, losses)


def _refused(file: Path) -> InputError:
    return InputError(f"{file}: not the steps of this run as a run writes them")
