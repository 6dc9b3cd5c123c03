"""The folder a run leaves: run.json, recipe.toml, events.jsonl, model.safetensors."""

import contextlib
import json
import os
import tempfile
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
from fastcifar.recipe import Recipe, to_toml
from fastcifar.training.trainer import EpochLog, Result


class RunDirectory:
    """Writes a run down as it goes; every file is written beside and renamed, so none is ever half there.

    run.json: recipe, execution, dataset, environment, status ("running", "finished", "interrupted", "failed") and,
    once finished, the result. events.jsonl: one `EpochLog` a line. model.safetensors: the final weights.

    Making one claims the folder; as a context manager it marks a run that ends early.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._events = ""
        self._run: dict[str, Any] = {}
        try:
            self._made = not path.exists()
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise InputError(f"--out {path}: exists and is not empty; name another folder")
            tempfile.TemporaryFile(dir=path).close()
        except OSError as error:
            raise InputError(f"--out {path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        if not self._run:  # it failed before anything was trained
            if self._made:
                self.path.rmdir()
            return
        interrupted = isinstance(error, KeyboardInterrupt)
        with contextlib.suppress(OSError):  # the error under way, a full disk perhaps, is the one to report
            self._write_run("interrupted" if interrupted else "failed")
        if interrupted:
            epochs = self._events.count("\n")
            raise KeyboardInterrupt(f"interrupted; {epochs} finished epochs are kept in {self.path}") from error

    def start(
        self,
        *,
        recipe_name: str,
        recipe: Recipe,
        execution: Execution,
        dataset: Dataset,
        environment: dict[str, Any],
    ) -> None:
        """Write down what is going to be trained, how, and where."""
        self._run = {
            "format": 1,
            "recipe_name": recipe_name,
            "recipe": asdict(recipe),
            "execution": asdict(execution),
            "dataset": {
                "name": dataset.name,
                "train_images": len(dataset.train_images),
                "test_images": len(dataset.test_images),
            },
            "environment": environment,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._write_run("running")
        write_whole(self.path / "recipe.toml", to_toml(recipe).encode())

    def step(self, epoch: int, step: int) -> None:
        """Nothing is written at a step."""

    def epoch(self, log: EpochLog) -> None:
        """Add the epoch to events.jsonl."""
        self._events += json.dumps(asdict(log)) + "\n"
        write_whole(self.path / "events.jsonl", self._events.encode())

    def finish(self, result: Result, model: nn.Module, wall_seconds: float) -> None:
        """Write the weights, then the result."""
        metadata = {"recipe": json.dumps(self._run["recipe"]), "dataset": self._run["dataset"]["name"]}
        tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        write_whole(self.path / "model.safetensors", safetensors.torch.save(tensors, metadata))
        self._run["result"] = {**asdict(result), "wall_seconds": wall_seconds}
        self._write_run("finished")

    def _write_run(self, status: str) -> None:
        self._run["status"] = status
        write_whole(self.path / "run.json", (json.dumps(self._run, indent=2) + "\n").encode())


def default_path(recipe_name: str, recipe: Recipe) -> Path:
    """runs/<utc time>-<recipe>-seed<seed>; a run on synthetic images has that in its name."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    kind = "" if recipe.dataset == "cifar10" else f"-{recipe.dataset}"
    return Path("runs") / f"{now}-{recipe_name}{kind}-seed{recipe.seed}"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it, so that at any instant it is the old one or the new one, whole."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
