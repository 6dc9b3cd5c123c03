"""fastcifar: CIFAR-10 to a target accuracy, fast, and an honest measure of how fast."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastcifar.data.cifar import load_cifar10, load_cifar100
    from fastcifar.data.dataset import Dataset
    from fastcifar.data.folder import load_folder
    from fastcifar.data.loader import loader
    from fastcifar.errors import InputError, RunError
    from fastcifar.execution import Execution
    from fastcifar.recipe import Recipe
    from fastcifar.recipe.files import load_recipe
    from fastcifar.report.progress import TrainingConsole
    from fastcifar.report.run_page import write_report
    from fastcifar.runs.api import evaluate, find_lr, resume, train
    from fastcifar.runs.observer import RunObserver, Trained
    from fastcifar.runs.saved import load
    from fastcifar.training.evaluate import normalise

__version__ = "0.1.0"
__all__ = ["Dataset", "Execution", "InputError", "Recipe", "RunError", "RunObserver", "Trained", "TrainingConsole"]
__all__ += ["evaluate", "find_lr", "load", "load_cifar10", "load_cifar100", "load_folder", "load_recipe", "loader"]
__all__ += ["normalise", "resume", "train", "write_report"]

_PLACES = {
    "fastcifar.data.cifar": ("load_cifar10", "load_cifar100"),
    "fastcifar.data.dataset": ("Dataset",),
    "fastcifar.data.folder": ("load_folder",),
    "fastcifar.data.loader": ("loader",),
    "fastcifar.errors": ("InputError", "RunError"),
    "fastcifar.execution": ("Execution",),
    "fastcifar.recipe": ("Recipe",),
    "fastcifar.recipe.files": ("load_recipe",),
    "fastcifar.report.progress": ("TrainingConsole",),
    "fastcifar.report.run_page": ("write_report",),
    "fastcifar.runs.api": ("evaluate", "find_lr", "resume", "train"),
    "fastcifar.runs.observer": ("RunObserver", "Trained"),
    "fastcifar.runs.saved": ("load",),
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
