"""A trained network's answers on the terminal: class by class over many images, or for each image; and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastcifar.data.images import printable
from fastcifar.training.scores import Scores

TOP = 5


def print_scores(console: Console, scores: Scores, classes: Sequence[str]) -> None:
    """A row for each class that has images, and all together: right answers, and the most frequent wrong one."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("class", "images", "right", "accuracy", "most often taken for"):
        table.add_column(heading, justify="left" if heading in ("class", "most often taken for") else "right")
    for label, answers in enumerate(scores.answers):
        if images := int(answers.sum()):
            right = int(answers[label])
            wrong = answers.copy()
            wrong[label] = 0
            worst = int(wrong.argmax())
            taken = f"{classes[worst]} ({wrong[worst]:,})" if wrong[worst] else ""
            table.add_row(classes[label], f"{images:,}", f"{right:,}", f"{right / images:.2%}", taken)
    right = int(scores.answers.trace())
    table.add_row("all", f"{scores.images:,}", f"{right:,}", f"{scores.accuracy:.2%}", "", style="bold")
    console.print(table)
    said = f"accuracy {scores.accuracy:.2%}, loss {scores.loss:.4f}; {scores.images_per_second:,.0f} images/s"
    console.print(said, highlight=False, markup=False, soft_wrap=True)


def print_predictions(
    console: Console, files: Sequence[Path], probabilities: NDArray[np.float32], classes: Sequence[str]
) -> None:
    """The five likeliest classes of each image; `probabilities` (n, 10) has a row for each of the n files."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", overflow="fold")
    table.add_column("class", no_wrap=True)
    table.add_column("probability", justify="right", no_wrap=True)
    for file, row in zip(files, probabilities, strict=True):
        for rank, label in enumerate((-row).argsort(kind="stable")[:TOP]):
            name = Text(printable(file) if rank == 0 else "")  # Text: a file's name is no markup
            table.add_row(name, classes[label], f"{row[label]:.2%}", end_section=rank == TOP - 1)
    if files:
        console.print(table)


def predictions_json(files: Sequence[Path], probabilities: NDArray[np.float32], classes: Sequence[str]) -> str:
    """A JSON array: of each image `file`, `class` (the likeliest) and `probabilities` (every class's, by name)."""
    images = [
        {
            "file": printable(file),
            "class": classes[row.argmax()],
            "probabilities": dict(zip(classes, row.tolist(), strict=True)),
        }
        for file, row in zip(files, probabilities, strict=True)
    ]
    return json.dumps(images, indent=2, allow_nan=False)
