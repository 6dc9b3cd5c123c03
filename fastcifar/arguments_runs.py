"""The flags of the subcommands that use a finished run: eval, predict, export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import arg

Run = Annotated[Path, tyro.conf.Positional, arg(metavar="RUN")]


@dataclass(frozen=True)
class Report:
    """Write what a finished run came to as one HTML page and its pictures."""

    run: Run
    """Run directory, as `fastcifar train` leaves it."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of index.html and the PNG files; default RUN/report."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder that holds cifar-10-batches-py; see `fastcifar train --help`."""


@dataclass(frozen=True)
class Compare:
    """Put the curves of several finished runs on one page, and what they differ in into tables."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, arg(metavar="RUN")]
    """Run directories, two or more."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Folder of index.html and the PNG files."""


@dataclass(frozen=True)
class Eval:
    """Test a finished run: accuracy, by class too, loss and images/s, on its test set or on a folder of images."""

    run: Run
    """Run directory, as `fastcifar train` leaves it."""
    tta: Literal["none", "flip", "flip+shift"] = "none"
    """Mean answer over the mirrored image too, and over images shifted by a pixel (6 views, as airbench has them)."""
    images: Annotated[Path | None, arg(metavar="DIR")] = None
    """Test on the images in this folder, in sub-folders named as the classes, instead of the run's test set."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """CUDA if there is a GPU, else the CPU; or the one named."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the network's arithmetic; auto: what the run was tested in (float32 for float16 on a CPU)."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder that holds cifar-10-batches-py; see `fastcifar train --help`."""


@dataclass(frozen=True)
class Predict:
    """Class probabilities of image files of any size and mode."""

    run: Run
    """Run directory, as `fastcifar train` leaves it."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, arg(metavar="IMAGE")]
    """Image files. Of each, the largest centred square is resized to 32x32; transparent parts become white."""
    json: bool = False
    """Print JSON, with the probabilities of all classes, instead of a table of the five likeliest."""


@dataclass(frozen=True)
class ExportModel:
    """Write a finished run's network as one file for other programs, checked against it on 1,000 test images."""

    run: Run
    """Run directory, as `fastcifar train` leaves it."""
    format: Literal["onnx", "torch-export"]
    """ONNX (needs pip install '.[export]') or torch.export (.pt2). Takes uint8 images (B, 32, 32, 3), RGB."""
    out: Annotated[Path, arg(metavar="FILE")]
    """The file; written only after the check has passed."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder that holds cifar-10-batches-py; see `fastcifar train --help`."""
