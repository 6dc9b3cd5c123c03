"""Which of a network's parameters are which: an optimizer may treat weights, head, normalisations and biases apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fastcifar.errors import InputError

Named: TypeAlias = list[tuple[str, nn.Parameter]]

_NORMALISATIONS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Kinds:
    """The parameters of a network that are trained, by kind: each in one of the lists, which are in network order."""

    weights: Named
    """Of convolutions, and whatever else has two dimensions or more."""
    head: Named
    """The weights of the last linear layer."""
    norms: Named
    """Scales and shifts of normalisations."""
    biases: Named
    """Everything else: fewer than two dimensions."""


def kinds(network: nn.Module) -> Kinds:
    """Tell the parameters of `network` that want a gradient apart; one that several modules share is there once.

    The last linear layer is the last in the order of `network.modules()`, that in which they were registered. Raises
    `InputError` where nothing is to be trained.
    """
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    heads = {id(one) for one in linear[-1].parameters() if one.ndim >= 2} if linear else set()
    norms = {
        id(parameter)
        for module in network.modules()
        if isinstance(module, _NORMALISATIONS)
        for parameter in module.parameters(recurse=False)
    }
    found = Kinds([], [], [], [])
    for name, parameter in trained(network):
        if id(parameter) in heads:
            kind = found.head
        elif id(parameter) in norms:
            kind = found.norms
        else:
            kind = found.weights if parameter.ndim >= 2 else found.biases
        kind.append((name, parameter))
    return found


def trained(network: nn.Module) -> Named:
    """The parameters of `network` that want a gradient, each once, in its order; `InputError` where there is none."""
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    if not named:
        raise InputError("model: the network has no parameter that wants a gradient, so nothing can be trained")
    return named


def param_groups(network: nn.Module, named: Sequence[tuple[str, nn.Parameter]], **options: Any) -> list[dict[str, Any]]:
    """torch's parameter groups of `named`, all with `options`: one, or none where there is no parameter.

    Those that `network.trained_epochs` names (parameter name -> epochs), where the network has it, are trained for
    their first so many epochs only, their rate falling linearly to 0: they are groups of their own, one for each
    number, which is their `"epochs"`. Raises `InputError` where it names no parameter of the network.
    """
    limits = dict(_limits(network))
    by_epochs: dict[float | None, list[nn.Parameter]] = {}
    for _, parameter in named:
        by_epochs.setdefault(limits.get(id(parameter)), []).append(parameter)
    return [
        {"params": parameters, **options, **({} if epochs is None else {"epochs": epochs})}
        for epochs, parameters in by_epochs.items()
    ]


def _limits(network: nn.Module) -> Iterator[tuple[int, float]]:
    """The id of each parameter that is trained for some epochs only, and for how many."""
    trained_epochs: Mapping[str, float] = getattr(network, "trained_epochs", {})
    parameters = dict(network.named_parameters(remove_duplicate=False))
    for name, epochs in trained_epochs.items():
        if name not in parameters:
            raise InputError(f"model: trained_epochs names {name!a}, which is no parameter of the network")
        yield id(parameters[name]), float(epochs)
