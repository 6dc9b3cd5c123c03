"""A nested state as one safetensors file: its tensors, and in the file's metadata the rest of it as JSON."""

import json
from dataclasses import dataclass
from typing import Any

import safetensors.torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """A state at one moment: copies of its tensors on the CPU, by name, and the rest as JSON."""

    tensors: dict[str, Tensor]
    rest: str

    def to_bytes(self, metadata: dict[str, str]) -> bytes:
        """The file, with `metadata` in it."""
        return safetensors.torch.save(self.tensors, {**metadata, "state": self.rest})


def pack(state: dict[str, Any]) -> Packed:
    """A copy of nested dicts, lists and tuples of tensors and plain values; `ValueError` names what is neither."""
    tensors: dict[str, Tensor] = {}
    return Packed(tensors, json.dumps(_packed(state, "state", tensors)))


def unpack(content: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    """The metadata and the state of a file. Raises `ValueError` where it is not as `Packed.to_bytes` makes it."""
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        state = _unpacked(json.loads(metadata["state"]), tensors)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
        raise ValueError(f"not a packed state: {type(error).__name__}") from error
    if not isinstance(state, dict):
        raise ValueError("not a packed state: no dict")
    return metadata, state


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        # Laid out as in memory, which kernels may depend on: the dimension of the widest stride first.
        order = sorted(range(value.dim()), key=lambda dim: value.stride(dim), reverse=True)
        tensors[name] = value.detach().permute(order).to("cpu", copy=True).contiguous()
        return {"tensor": name, "order": order}
    if isinstance(value, dict):
        return {"dict": [[key, _packed(one, f"{name}.{key}", tensors)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_packed(one, f"{name}.{number}", tensors) for number, one in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{name} is a {type(value).__name__}, which cannot be kept")


def _unpacked(value: Any, tensors: dict[str, Tensor]) -> Any:
    match value:
        case {"tensor": name, "order": order}:
            return tensors[name].permute(sorted(range(len(order)), key=order.__getitem__))
        case {"dict": pairs}:
            return {key: _unpacked(one, tensors) for key, one in pairs}
        case {"tuple": values}:
            return tuple(_unpacked(one, tensors) for one in values)
        case {"list": values}:
            return [_unpacked(one, tensors) for one in values]
    return value
