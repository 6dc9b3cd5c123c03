"""The folder a run leaves: run.json, the recipe as a TOML file, code of one's own, events.jsonl, model.safetensors."""

import contextlib
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import safetensors.torch
from torch import nn

from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError
from fastcifar.execution import Execution
from fastcifar.files import write_whole
from fastcifar.own import OwnCode
from fastcifar.recipe import Recipe
from fastcifar.recipe.files import to_toml
from fastcifar.training.log import EpochLog, Observer, Result

FORMAT = 2  # of run.json
_TAKEN = "--out {}: exists and is not empty; name another folder"


class RunDirectory(Observer):
    """Writes a run down as it goes; every file is written beside and renamed, so none is ever half there.

    run.json: recipe, execution, dataset, environment, status ("starting", "running", "finished", "interrupted",
    "failed") and, once finished, the result. events.jsonl: one `EpochLog` a line. model.safetensors: the final weights.
    Files of one's own that the recipe names lie beside them, as they were.

    Making one claims the folder, against other processes too; as a context manager it marks a run that ends early.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._events = ""
        self._run: dict[str, Any] = {}
        try:
            self._made = not path.exists()
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise InputError(_TAKEN.format(path))
            with (path / "run.json").open("x") as file:
                file.write(f'{{"format": {FORMAT}, "status": "starting"}}\n')
        except FileExistsError as error:
            raise InputError(_TAKEN.format(path)) from error
        except OSError as error:
            raise InputError(f"--out {path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        interrupted = isinstance(error, KeyboardInterrupt)
        with contextlib.suppress(OSError):  # the error under way, a full disk perhaps, is the one to report
            if self._run:
                self._write_run("interrupted" if interrupted else "failed")
            else:  # nothing was trained: leave nothing
                (self.path / "run.json").unlink()
                if self._made:
                    self.path.rmdir()
        if interrupted and self._run:
            error.args = (f"interrupted; finished epochs: {self._events.count(chr(10))}, kept in {self.path}",)

    def start(
        self,
        *,
        recipe_name: str,
        recipe: Recipe,
        own: OwnCode,
        execution: Execution,
        dataset: Dataset,
        environment: dict[str, Any],
        lr_range: dict[str, Any] | None = None,
    ) -> None:
        """Write down what is going to be trained, how, and where; `lr_range` is what a range test found."""
        self._run = {
            "format": FORMAT,
            "recipe_name": recipe_name,
            "recipe": asdict(recipe),
            "execution": asdict(execution),
            "dataset": {
                "name": dataset.name,
                "train_images": len(dataset.train_images),
                "test_images": len(dataset.test_images),
                "classes": dataset.classes,
                "mean": dataset.mean,
                "std": dataset.std,
                "sha256": dataset.sha256,
            },
            "environment": environment,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **({"lr_range": lr_range} if lr_range else {}),
        }
        self._write_run("running")
        write_whole(self.path / f"{recipe_name}.toml", to_toml(recipe).encode())
        for name, text in own.sources.items():
            write_whole(self.path / name, text.encode())

    def epoch(self, log: EpochLog) -> None:
        """Add the epoch to events.jsonl."""
        self._events += json.dumps(asdict(log), allow_nan=False) + "\n"
        write_whole(self.path / "events.jsonl", self._events.encode())

    def finish(self, result: Result, model: nn.Module, wall_seconds: float) -> None:
        """Write the weights, then the result."""
        metadata = {"recipe": json.dumps(self._run["recipe"]), "dataset": self._run["dataset"]["name"]}
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
        write_whole(self.path / "model.safetensors", safetensors.torch.save(tensors, metadata))
        self._run["result"] = {**asdict(result), "wall_seconds": wall_seconds}
        self._write_run("finished")

    def _write_run(self, status: str) -> None:
        self._run["status"] = status
        write_whole(self.path / "run.json", (json.dumps(self._run, indent=2, allow_nan=False) + "\n").encode())


def default_path(recipe_name: str, recipe: Recipe) -> Path:
    """runs/<utc time>-<recipe>-seed<seed>, with a number after it where that is taken; synthetic images are named."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    kind = "" if recipe.dataset == "cifar10" else f"-{Path(recipe.dataset).name}"
    path = first = Path("runs") / f"{now}-{recipe_name}{kind}-seed{recipe.seed}"
    number = 1
    while path.exists():
        number += 1
        path = first.with_name(f"{first.name}-{number}")
    return path
