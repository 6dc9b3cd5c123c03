"""The network as one file for other programs: ONNX or torch.export, checked before it is there."""

import copy
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastcifar.errors import InputError, RunError
from fastcifar.files import write_whole
from fastcifar.training.evaluate import OnBytes

Format = Literal["onnx", "torch-export"]
CHECKED = 1000  # images
_SHAPES = ({0: torch.export.Dim("batch", min=1)},)
TOLERANCE = 1e-3  # of a logit, by itself and as a share of the largest: float32 sums in another order


@dataclass(frozen=True)
class Checked:
    """On how many images the file was held to the network, and the largest difference of a logit."""

    images: int
    difference: float


def export(network: OnBytes, format: Format, path: Path, images: NDArray[np.uint8], classes: Sequence[str]) -> Checked:
    """Write `network` to `path`: in, `images` uint8 (batch, 32, 32, 3), any batch from 1 on; out, `logits` float32
    (batch, classes). The names of `classes`, in the order of the logits, are in the file as JSON: ONNX's metadata
    "classes", torch.export's extra file "classes.json".

    What is to be written is first run, by ONNX Runtime or torch, on the first 1,000 of `images` (n, 32, 32, 3). Raises
    `RunError`, and leaves `path` as it was, if it disagrees with the network; `InputError` if a package is missing.
    """
    plain = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    plain = plain.to(memory_format=torch.contiguous_format)  # torch.export.save warns of others
    make, reader = {"onnx": (_onnx, _onnx_reader), "torch-export": (_torch_export, _torch_reader)}[format]
    content = make(plain, json.dumps(list(classes)))
    checked = _check(reader(content), plain, images[:CHECKED])
    write_whole(path, content)
    return checked


def require_packages(format: Format) -> None:
    """Raises `InputError`, one line that says what to install, where `format` needs what is not here."""
    if format == "onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            try:
                import_module(name)
            except ImportError as error:
                raise InputError(f"--format onnx: {name} is not here; pip install '.[export]'") from error


def _program(network: nn.Module) -> torch.export.ExportedProgram:
    example = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    return torch.export.export(network, (example,), dynamic_shapes=_SHAPES)


def _torch_export(network: nn.Module, classes: str) -> bytes:
    content = io.BytesIO()
    torch.export.save(_program(network), content, extra_files={"classes.json": classes})
    return content.getvalue()


def _torch_reader(content: bytes) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    module = torch.export.load(io.BytesIO(content)).module()
    return lambda images: module(torch.from_numpy(images)).detach().numpy()


def _onnx(network: nn.Module, classes: str) -> bytes:
    require_packages("onnx")
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"], "dynamic_shapes": _SHAPES}
    program: Any = torch.onnx.export(_program(network), dynamo=True, verbose=False, **names)
    program.model.metadata_props["classes"] = classes
    content: bytes = program.model_proto.SerializeToString()
    return content


def _onnx_reader(content: bytes) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    onnx, onnxruntime = import_module("onnx"), import_module("onnxruntime")
    onnx.checker.check_model(content, full_check=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})[0]


@torch.inference_mode()
def _check(
    exported: Callable[[NDArray[np.uint8]], NDArray[np.float32]], network: OnBytes, images: NDArray[np.uint8]
) -> Checked:
    difference = 0.0
    for part in (images[:1], images[1:]):  # two sizes of batch, since any must do
        if len(part):
            wanted = network(torch.from_numpy(part)).numpy()
            limit = TOLERANCE * max(1.0, float(np.abs(wanted).max()))
            found = exported(part)
            furthest = float(np.abs(found - wanted).max())
            if found.shape != wanted.shape or not furthest <= limit:  # not <=: NaN fails too
                raise RunError(f"the exported network's logits are off by {furthest:.3g}: nothing was written")
            difference = max(difference, furthest)
    return Checked(len(images), difference)
