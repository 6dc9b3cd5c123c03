"""Warm-up: which steps to take before the first one, and whether they changed what no `TrainState` can restore."""

import functools
import hashlib
import random
import types
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastcifar.own import OwnCode, called
from fastcifar.recipe import Recipe

_OF_MODULES = frozenset(vars(nn.Module()))
_CODE = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, type, random.SystemRandom)


class Unseen:
    """State of custom code that no state_dict holds, as far as it can be seen: attributes of modules and optimizers
    other than parameters, buffers, sub-modules, state and groups; and the generators of NumPy and `random`."""

    def __init__(self, network: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._network, self._optimizers = network, optimizers
        self._generators = random.getstate(), np.random.get_state()
        self._before = self._digests()

    def changed(self) -> str:
        """The names of what has changed, at most three; empty if nothing has. Call it once: it resets generators."""
        now, before = self._digests(), self._before
        del self._network, self._optimizers  # which are to go, perhaps
        random.setstate(self._generators[0])
        np.random.set_state(self._generators[1])
        names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    def _digests(self) -> dict[str, str]:
        trained = [*self._network.modules(), *self._network.parameters(), *self._network.buffers(), *self._optimizers]
        known = {id(one) for one in trained}
        found = {
            "a generator of random's": _digest(random.getstate(), known),
            "one of NumPy's": _digest(np.random.get_state(), known),
        }
        for place, module in self._network.named_modules():
            for name in vars(module).keys() - _OF_MODULES:
                found[f"{place}.{name}".lstrip(".")] = _digest(vars(module)[name], known)
        for optimizer in self._optimizers:
            for name in vars(optimizer).keys() - _of_optimizers():
                found[f"{type(optimizer).__name__}.{name}"] = _digest(vars(optimizer)[name], known)
        return found


@functools.cache
def _of_optimizers() -> frozenset[str]:
    """The attributes of every optimizer. To make one imports torch's compiler, which takes two seconds."""
    return frozenset(vars(torch.optim.SGD([torch.zeros(1)], lr=1.0)))


def shapes_of(recipe: Recipe, steps: Sequence[int], images: int) -> list[tuple[int, int]]:
    """The first epoch and step, from 0, that has each shape of batch and images that there will be; `steps` are those
    of each epoch, of `images` in all."""
    shapes: dict[tuple[object, ...], tuple[int, int]] = {}
    for epoch, number in enumerate(steps):
        seen, size = recipe.images_of(epoch, images), recipe.batch_size_of(epoch)
        side, chosen = recipe.image_size_of(epoch), recipe.left_out_of(epoch) > 0
        for step in (0, number - 1):
            shapes.setdefault((size, min(size, seen - step * size), side, chosen), (epoch, step))
    return list(shapes.values())


def tried(recipe: Recipe, own: OwnCode, step: Callable[[], Any]) -> None:
    """Take a step, in which custom code fails if it fails at all: raises `InputError` then."""
    parts = ((own.model, recipe.model), (own.optimizer, recipe.optimizer))
    names = [str(table.name) for made, table in parts if made]
    if names:
        called(f"a step with {' and '.join(names)}", step)
    else:
        step()


def _digest(value: Any, known: set[int]) -> str:
    """Of a value and all in it, but for what is `known`, and code."""
    digest, seen = hashlib.sha256(), dict[int, object]()  # kept, lest an identity is another one's too

    def add(one: Any) -> None:
        digest.update(f"{type(one).__name__};".encode())
        if one is None or isinstance(one, bool | int | float | complex | str | bytes | bytearray):
            digest.update(repr(one).encode())
            return
        if id(one) in known or isinstance(one, _CODE) or id(one) in seen:
            return
        seen[id(one)] = one
        parts: list[Any] = []
        match one:
            case nn.Module():
                parts = [*one.state_dict().items(), vars(one).keys(), one.training]
            case Tensor():
                kept = one.detach().cpu().resolve_conj().resolve_neg().contiguous().flatten()
                digest.update(kept.view(torch.uint8).numpy().tobytes())
            case torch.Generator():
                parts = [one.get_state()]
            case np.ndarray():
                digest.update(one.tobytes())
            case np.random.Generator():
                parts = [one.bit_generator.state]
            case np.random.RandomState():
                parts = [one.get_state()]
            case random.Random():
                parts = [one.getstate()]
            case Mapping():
                parts = [part for pair in one.items() for part in pair]
            case list() | tuple() | deque():
                parts = list(one)
            case set() | frozenset():
                parts = sorted(map(repr, one))
            case functools.partial():
                parts = [one.args, one.keywords]
            case _:
                parts = [part for pair in vars(one).items() for part in pair] if hasattr(one, "__dict__") else []
        digest.update(f"{len(parts)};".encode())
        for part in parts:
            add(part)

    try:
        add(value)
    except Exception:  # of what is not there to be looked at: on no device, sparse, locked, ...
        return type(value).__name__
    return digest.hexdigest()
