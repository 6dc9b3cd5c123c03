"""The folder a run leaves: run.json, its recipe as TOML, custom code, events.jsonl, steps.csv, the weights."""

import contextlib
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import safetensors.torch
from torch import nn

from fastcifar import stopping
from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError, Stopped
from fastcifar.execution import Execution, launch
from fastcifar.files import Claim, remove_leftovers, write_whole
from fastcifar.own import OwnCode
from fastcifar.recipe import Recipe
from fastcifar.recipe.files import to_toml
from fastcifar.runs.paused import CHECKPOINTS, Asked, Paused
from fastcifar.runs.steps import STEPS, steps_of_epochs
from fastcifar.training import checkpoint
from fastcifar.training.checkpoint import Spent
from fastcifar.training.log import EpochLog, Observer, Result

FORMAT = 2  # of run.json
_TAKEN = "--out {}: exists and is not empty; name another folder"


class RunDirectory(Observer):
    """Writes a run down as it goes; every file but steps.csv is written beside and renamed, so none is ever half there.

    run.json: recipe, execution, dataset, environment, what was asked for, torchrun's job, earlier sessions, status
    ("starting", "running", "finished", "interrupted", "failed") and, once finished, the result. events.jsonl: one
    `EpochLog` a line. steps.csv: the learning rate and the loss of each step, an epoch at a time, before that epoch is
    in events.jsonl.
    model.safetensors: the final weights. Custom files that the recipe names lie beside them, as they were.

    Making one claims the folder, against other processes too, for as long as it is open as a context manager, which
    marks a run that ends early; `paused` is the run that goes on in it.
    """

    def __init__(self, path: Path, paused: Paused | None = None) -> None:
        self.path, self._fresh, self._begun = path, paused is None, False
        self._events, self._first = "", [path / "run.json"]
        self._run: dict[str, Any] = paused.run if paused else {}
        try:
            self._made = [place for place in (path, *path.parents) if not place.exists()]
            path.mkdir(parents=True, exist_ok=True)
            self._claim = Claim(path)
            remove_leftovers(path)
            if self._fresh and any(path.iterdir()):
                self._claim.close()
                raise InputError(_TAKEN.format(path))
            if not os.access(path, os.W_OK | os.X_OK):
                self._claim.close()
                raise InputError(f"--out {path}: no file can be written in it")
        except FileExistsError as error:
            raise InputError(_TAKEN.format(path)) from error
        except OSError as error:
            raise InputError(f"--out {path}: {error.strerror}") from error
        self._last_words = stopping.last_words(self._interrupted)

    def __enter__(self) -> Self:
        self._last_words.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._last_words.__exit__(kind, error, trace)
        if error is not None and self._run.get("status") != "finished":
            interrupted = isinstance(error, KeyboardInterrupt)
            with contextlib.suppress(OSError):  # the error under way, a full disk perhaps, is the one to report
                if self._begun:
                    self._write_run("interrupted" if interrupted else "failed")
                elif self._fresh:  # nothing was trained: leave nothing
                    for file in self._first:
                        file.unlink(missing_ok=True)
                    for place in self._made:
                        place.rmdir()
            if interrupted and self._begun:
                goes_on = f"; --resume {self.path} continues it" if isinstance(error, Stopped) else ""
                error.args = (f"interrupted; {self._kept()}{goes_on}",)
            elif isinstance(error, OSError) and error.strerror and self._begun:  # a full disk, say
                error.filename = error.filename or str(self.path)
                error.strerror += f"; {self._kept()}; --resume {self.path} continues it"
        self._claim.close()

    def _kept(self) -> str:
        epochs = self._events.count("\n")
        return f"finished epochs: {epochs}, kept in {self.path}"

    def claim(
        self, *, recipe_name: str, recipe: Recipe, execution: Execution, asked: Asked, started: str | None = None
    ) -> None:
        """Write down what is asked for, before images and network are made: from here on it can be resumed."""
        self._run = {
            "format": FORMAT,
            "recipe_name": recipe_name,
            "recipe": asdict(recipe),
            "execution": asdict(execution),
            "asked": asdict(asked),
            "started": started or _now(),
            **({"launch": job} if (job := launch()) else {}),
        }
        self._write_run("starting")

    def start(
        self,
        *,
        recipe_name: str,
        recipe: Recipe,
        own: OwnCode,
        execution: Execution,
        dataset: Dataset,
        environment: dict[str, Any],
        started: str | None = None,
        log: Sequence[EpochLog] = (),
        lr_range: dict[str, Any] | None = None,
    ) -> None:
        """Write down what is going to be trained, how, and where; `started` is when the session began, in UTC, by
        default now, `lr_range` what a range test found, and `log` the epochs of earlier sessions."""
        earlier = self._run.get("earlier_sessions", [])
        if "environment" in self._run:
            before = {key: self._run[key] for key in ("started", "execution", "environment")}
            earlier = [*earlier, before | {"epochs": len(log)}]
        self._run |= {
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
            "started": started or _now(),
            **({"earlier_sessions": earlier} if earlier else {}),
            **({"lr_range": lr_range} if lr_range else {}),
        }
        self._write_run("running")
        for name, text in {f"{recipe_name}.toml": to_toml(recipe), **own.sources}.items():
            write_whole(self.path / name, text.encode())
            self._first.append(self.path / name)
        self._begun = True
        self._events = "".join(map(_line, log))
        if log:
            write_whole(self.path / "events.jsonl", self._events.encode())
        else:
            (self.path / "events.jsonl").unlink(missing_ok=True)  # of epochs that are trained again
        write_whole(self.path / STEPS, steps_of_epochs(self.path, len(log)))

    def epoch_steps(self, epoch: int, learning_rates: Sequence[float], losses: Sequence[float]) -> None:
        """Add the epoch to steps.csv, which `start` made."""
        rows = enumerate(zip(learning_rates, losses, strict=True), 1)
        with (self.path / STEPS).open("a") as file:
            file.writelines(f"{epoch},{step},{rate:.9g},{loss:.9g}\n" for step, (rate, loss) in rows)

    def epoch(self, log: EpochLog) -> None:
        """Add the epoch to events.jsonl."""
        events = self._events + _line(log)
        write_whole(self.path / "events.jsonl", events.encode())
        self._events = events

    def finish(self, result: Result, model: nn.Module, spent: Spent) -> None:
        """Write the weights, then the result, with what the run took in all its sessions."""
        metadata = {"recipe": json.dumps(self._run["recipe"]), "dataset": self._run["dataset"]["name"]}
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
        write_whole(self.path / "model.safetensors", safetensors.torch.save(tensors, metadata))
        taken = {name: getattr(spent, name) for name in ("wall_seconds", "interruptions", "lost_seconds")}
        self._run["result"] = asdict(result) | taken
        self._run.pop("asked", None)  # nobody needs it any more, and it has paths of this machine
        self._write_run("finished")
        checkpoint.remove(self.path / CHECKPOINTS)

    def _interrupted(self) -> None:
        """The last words of a process that is ended at once."""
        if self._run.get("status") in ("starting", "running"):
            self._write_run("interrupted")

    def _write_run(self, status: str) -> None:
        run = self._run | {"status": status}
        write_whole(self.path / "run.json", (json.dumps(run, indent=2, allow_nan=False) + "\n").encode())
        self._run = run


def default_path(recipe_name: str, recipe: Recipe, suffix: str = "") -> Path:
    """runs/<utc time>-<recipe>-seed<seed>, with a number after it where that is taken; synthetic images are named.

    The folder is made, so that of processes that begin in one second each has its own; with `suffix` it is a file's
    name, and only looked for. Raises `InputError` where it cannot be made.
    """
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    kind = "" if recipe.dataset == "cifar10" else f"-{Path(recipe.dataset).name}"
    for number in itertools.count(1):
        path = Path("runs", f"{now}-{recipe_name}{kind}-seed{recipe.seed}{f'-{number}' if number > 1 else ''}{suffix}")
        try:
            (path.parent if suffix else path).mkdir(parents=True, exist_ok=bool(suffix))
        except FileExistsError:
            if not suffix and path.parent.is_dir():
                continue
            raise InputError(f"{path.parent}: is no folder") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be made: {error.strerror}") from error
        if not suffix or not path.exists():
            break
    return path


def _line(log: EpochLog) -> str:
    return json.dumps(asdict(log), allow_nan=False) + "\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
