"""Optimizers and the schedule of their learning rates: `make` gives those that a recipe names."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastcifar.errors import InputError
from fastcifar.optim.adam import adam
from fastcifar.optim.muon import Muon, muon
from fastcifar.optim.sgd import sgd
from fastcifar.own import OptimizerFactory, called
from fastcifar.recipe import Recipe
from fastcifar.recipe.tables import Adam, OwnOptimizer, Sgd
from fastcifar.recipe.tables import Muon as MuonConfig


def make(
    network: nn.Module, recipe: Recipe, own: OptimizerFactory | None = None, *, compile: str = "off"
) -> list[torch.optim.Optimizer]:
    """The recipe's optimizers over the parameters of `network`; `own` is the code of one that does not ship.

    `compile` is an execution's: unless it is "off", what gains by torch.compile uses it. A group's rate is its initial
    one times the schedule's: see `rates_at`. Raises `InputError` where `own` gives no optimizers, or leaves out a
    parameter.
    """
    match recipe.optimizer:
        case Adam() as config:
            optimizers = adam(network, config)
        case Sgd() as config:
            optimizers = sgd(network, config)
        case MuonConfig() as config:
            optimizers = muon(network, config, compile=compile != "off")
        case OwnOptimizer(name=name):
            if own is None:
                raise InputError(f"{name}: a custom optimizer, whose code is needed")
            optimizers = _checked(called(name, lambda: own(network)), network, name)
    for group in groups(optimizers):
        group["initial_lr"] = group["lr"]
    return optimizers


def groups(optimizers: Sequence[torch.optim.Optimizer]) -> Iterable[dict[str, Any]]:
    """The parameter groups of all of them."""
    return (group for optimizer in optimizers for group in optimizer.param_groups)


def rates_at(
    optimizers: Sequence[torch.optim.Optimizer], rate: float, *, epoch: float = 0.0, peak: float | None = None
) -> list[float]:
    """The learning rate of every group in turn: its initial one times `rate`, the schedule's.

    A group with a value "epochs" has a schedule of its own, which falls linearly to 0 over so many from `peak` times
    its initial rate; `epoch` is how many have passed, with a fraction.
    """
    rates = []
    for group in groups(optimizers):
        factor, last = rate, group.get("epochs")
        if last is not None:
            factor = (rate if peak is None else peak) * (max(0.0, 1 - epoch / last) if last else 0.0)
        rates.append(factor * group["initial_lr"])
    return rates


def set_rates(optimizers: Sequence[torch.optim.Optimizer], rates: Sequence[float]) -> None:
    """Give every group in turn its learning rate; not those that are `capturable`."""
    for group, rate in zip(groups(optimizers), rates, strict=True):
        group["lr"] = rate


def rates_of_epochs(
    optimizers: Sequence[torch.optim.Optimizer], rate_of: Callable[[int], float], steps: Sequence[int], peak: float
) -> list[list[list[float]]]:
    """`rates_at` of each step of each epoch, of which there are `steps`; `rate_of` a step of all is the schedule's."""
    begun = [sum(steps[:epoch]) for epoch in range(len(steps))]
    return [
        [rates_at(optimizers, rate_of(before + step), epoch=epoch + step / number, peak=peak) for step in range(number)]
        for epoch, (before, number) in enumerate(zip(begun, steps, strict=True))
    ]


def set_mode(optimizers: Sequence[torch.optim.Optimizer], *, training: bool) -> None:
    """Tell those that train other weights than they test (schedule-free ones have `train` and `eval`) which it is."""
    for optimizer in optimizers:
        if callable(switch := getattr(optimizer, "train" if training else "eval", None)):
            switch()


def capturable(optimizers: Sequence[torch.optim.Optimizer]) -> Tensor:
    """Have each keep beside its parameters all that its steps need, the rates too, where a CUDA graph reads them.

    Returns all groups' rates in turn (groups,) float32, on the device, to be written. Raises `InputError` at an
    optimizer of which it is not known that it can.
    """
    every = list(groups(optimizers))
    # Each at an address of its own alignment, for which a kernel may have been compiled.
    device = next(parameter.device for group in every for parameter in group["params"])
    rates = torch.zeros(len(every), 4, device=device)[:, 0]
    for optimizer in optimizers:
        if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, Muon):
            raise InputError(f"--compile cuda-graph: for Adam, AdamW, SGD and Muon, not {type(optimizer).__name__}")
        for group in optimizer.param_groups:
            for what in ("differentiable", "dampening"):  # of a dampened momentum the first step is another
                if group.get(what):
                    raise InputError(f"--compile cuda-graph: not for an optimizer with {what}")
            if isinstance(optimizer, torch.optim.SGD):  # whose other ways take the rate to the host
                group.update(fused=True, foreach=False)
            if "capturable" in group:
                group["capturable"] = True
        # torch would warn that the first steps, which are none of a graph's, are slower so.
        optimizer._warned_capturable_if_run_uncaptured = True
    for place, group in zip(rates.unbind(), every, strict=True):
        group["lr"] = place.fill_(group["lr"])
    return rates


def _checked(made: Any, network: nn.Module, name: str) -> list[torch.optim.Optimizer]:
    """What custom code made, as a list of optimizers that hold each trained parameter once."""
    optimizers = [made] if isinstance(made, torch.optim.Optimizer) else made
    try:
        optimizers = list(optimizers)
    except TypeError:
        optimizers = [made]
    for one in optimizers:
        if not isinstance(one, torch.optim.Optimizer):
            raise InputError(f"{name}: gives a {type(one).__name__}, not a torch.optim.Optimizer, or several")
    held = [id(parameter) for group in groups(optimizers) for parameter in group["params"]]
    trained = {id(parameter): named for named, parameter in network.named_parameters() if parameter.requires_grad}
    missing = [named for key, named in trained.items() if key not in held]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(
            f"{name}: misses the parameters {', '.join(missing[:3])}{more}; requires_grad = False freezes one"
        )
    there = {id(parameter): named for named, parameter in network.named_parameters()}  # one that is frozen does no harm
    if twice := [there[key] for key in held if key in there and held.count(key) > 1]:
        raise InputError(f"{name}: holds the parameter {twice[0]} twice")
    if any(key not in there for key in held):
        raise InputError(f"{name}: holds a parameter that is none of the network's")
    if any(isinstance(group["lr"], Tensor) for group in groups(optimizers)):
        raise InputError(f"{name}: a rate is a tensor; a number is needed")
    return optimizers
