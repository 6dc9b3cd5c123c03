"""What the steps before the first have to be of, and what they may leave behind that no `TrainState` takes back."""

import hashlib
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastcifar.own import OwnCode, called
from fastcifar.recipe import Recipe

_OF_MODULES = frozenset(vars(nn.Module()))
_OF_OPTIMIZERS = frozenset(vars(torch.optim.SGD([torch.zeros(1)], lr=1.0)))


def hidden(network: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, str]:
    """A digest of each attribute that is no parameter, buffer or module of the network, nor the state or the groups of
    an optimizer, by its name; and of the generators of NumPy and of `random`."""
    found = {"a generator of random's": _digest(random.getstate()), "one of NumPy's": _digest(np.random.get_state())}
    for place, module in network.named_modules():
        for name in vars(module).keys() - _OF_MODULES:
            found[f"{place}.{name}".lstrip(".")] = _digest(vars(module)[name])
    for optimizer in optimizers:
        for name in vars(optimizer).keys() - _OF_OPTIMIZERS:
            found[f"{type(optimizer).__name__}.{name}"] = _digest(vars(optimizer)[name])
    return found


def differing(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The names of what is another, three at most; none: empty."""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


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
    """Take a step, in which code of one's own fails if it fails at all: raises `InputError` then."""
    parts = ((own.model, recipe.model), (own.optimizer, recipe.optimizer))
    names = [str(table.name) for made, table in parts if made]
    if names:
        called(f"a step with {' and '.join(names)}", step)
    else:
        step()


def _digest(value: Any) -> str:
    digest, seen = hashlib.sha256(), set[int]()
    rest = deque([value])
    while rest:
        one = rest.popleft()
        digest.update(type(one).__name__.encode())
        if one is None or isinstance(one, bool | int | float | complex | str | bytes):
            digest.update(repr(one).encode())
            continue
        if id(one) in seen:
            continue
        seen.add(id(one))
        match one:
            case nn.Module() | nn.Parameter() | type():
                pass  # what is trained is looked at elsewhere
            case Tensor():
                digest.update(one.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            case torch.Generator():
                rest.append(one.get_state())
            case np.ndarray():
                digest.update(one.tobytes())
            case Mapping():
                rest.extend(part for pair in one.items() for part in pair)
            case list() | tuple() | deque():
                rest.extend(one)
            case set() | frozenset():
                rest.extend(sorted(map(repr, one)))
            case random.Random():
                rest.append(one.getstate())
            case np.random.Generator():
                rest.append(one.bit_generator.state)
            case _ if hasattr(one, "__dict__") and not callable(one):
                rest.extend(part for pair in vars(one).items() for part in pair)
    return digest.hexdigest()
