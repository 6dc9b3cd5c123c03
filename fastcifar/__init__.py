"""fastcifar: CIFAR-10 to a target accuracy, fast, and an honest measure of how fast."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastcifar.data.cifar10 import load_cifar10
    from fastcifar.data.loader import loader
    from fastcifar.runs import find_lr, load, train
    from fastcifar.training.evaluate import normalise

__version__ = "0.1.0"
__all__ = ["find_lr", "load", "load_cifar10", "loader", "normalise", "train"]


def __getattr__(name: str) -> Any:
    """Import what brings in torch only when it is asked for: `fastcifar --help` should not wait for it."""
    if name == "load_cifar10":
        from fastcifar.data.cifar10 import load_cifar10

        return load_cifar10
    if name == "loader":
        from fastcifar.data.loader import loader

        return loader
    if name == "normalise":
        from fastcifar.training.evaluate import normalise

        return normalise
    if name in ("find_lr", "load", "train"):
        from fastcifar import runs

        return getattr(runs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
