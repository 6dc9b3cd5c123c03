"""fastcifar: CIFAR-10 to a target accuracy, fast, and an honest measure of how fast."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastcifar.data.cifar import load_cifar10
    from fastcifar.data.dataset import Dataset
    from fastcifar.data.loader import loader
    from fastcifar.execution import Execution
    from fastcifar.recipe import Recipe
    from fastcifar.runs.api import find_lr, load, resume, train
    from fastcifar.training.evaluate import normalise

__version__ = "0.1.0"
__all__ = ["Dataset", "Execution", "Recipe", "find_lr", "load", "load_cifar10", "loader", "normalise", "resume"]
__all__ += ["train"]

_PLACES = {
    "fastcifar.data.cifar": ("load_cifar10",),
    "fastcifar.data.dataset": ("Dataset",),
    "fastcifar.data.loader": ("loader",),
    "fastcifar.execution": ("Execution",),
    "fastcifar.recipe": ("Recipe",),
    "fastcifar.runs.api": ("find_lr", "load", "resume", "train"),
    "fastcifar.training.evaluate": ("normalise",),
}


def __getattr__(name: str) -> Any:
    """Import what brings in torch only when it is asked for: `fastcifar --help` should not wait for it."""
    for place, names in _PLACES.items():
        if name in names:
            return getattr(import_module(place), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The Python API, named."""
    return sorted([*__all__, "__version__"])
