"""A nested state as one safetensors file, and back."""

import pickle

import pytest
import safetensors.torch
import torch
from same import assert_same

from fastcifar.training.packed import pack, unpack


def test_what_is_packed_comes_back_as_it_was() -> None:
    """Types, values bit for bit, and how each tensor lies in memory, which kernels may depend on."""
    images = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    narrow = torch.randn(5, 1, 1, 4)[:, :, :, :1].to(memory_format=torch.channels_last)
    state = {
        "nested": {0: {"step": torch.tensor(3.0), "betas": (0.9, 0.999)}, 1: {}},
        "list": [None, True, 2, 0.1, "text", [torch.arange(3)], float("inf")],
        "images": images,
        "narrow": narrow,
        "turned": torch.randn(3, 4).t(),
        "empty": torch.empty(0, 3),
        "half": torch.randn(4).to(torch.bfloat16),
        "bytes": torch.arange(256, dtype=torch.uint8),
    }
    metadata, back = unpack(pack(state).to_bytes({"format": "1"}))
    assert metadata["format"] == "1"
    assert_same(back, state)
    assert isinstance(back["nested"][0]["betas"], tuple)
    assert list(back["nested"]) == [0, 1]
    for name in ("images", "narrow", "turned"):
        assert back[name].stride() == state[name].stride()  # type: ignore[attr-defined]
    assert isinstance(back["list"][1], bool)


def test_it_is_a_copy() -> None:
    value = torch.zeros(3)
    packed = pack({"value": value})
    value += 1
    assert unpack(packed.to_bytes({}))[1]["value"].sum() == 0


def test_what_cannot_be_kept_is_named() -> None:
    with pytest.raises(ValueError, match=r"state\.optimizers\.0\.hook is a function, which cannot be kept"):
        pack({"optimizers": [{"hook": lambda: None}]})


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        pickle.dumps(Bomb()),
        pack({}).to_bytes({})[:-1],
        safetensors.torch.save({"x": torch.zeros(1)}),
        safetensors.torch.save({}, {"state": "3"}),
        safetensors.torch.save({}, {"state": "[" * 100_000}),
        safetensors.torch.save({}, {"state": '{"dict": [["a", {"tensor": "a", "order": []}]]}'}),
        safetensors.torch.save({"a": torch.zeros(2)}, {"state": '{"dict": [["a", {"tensor": "a", "order": [0, 9]}]]}'}),
        safetensors.torch.save({}, {"state": '{"dict": 3}'}),
        safetensors.torch.save({}, {"state": '{"dict": [[{"dict": []}, 1]]}'}),
    ],
)
def test_what_is_no_packed_state_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a packed state"):
        unpack(content)
