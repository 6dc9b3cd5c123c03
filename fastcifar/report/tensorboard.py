"""A run as event files of TensorBoard: scalars by epoch and by step, pictures of the test, hyperparameters with the
result."""

import io
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError
from fastcifar.report.run_figures import answers
from fastcifar.report.text import dotted
from fastcifar.runs.observer import RunObserver, Start, Trained
from fastcifar.runs.predictions import Tested
from fastcifar.training.log import EpochLog


class TensorBoard(RunObserver):
    """Writes a run's event files into `folder`, made with the first of them; the step is the epoch. The rate and the
    loss of every step are a run of their own, `steps` in that folder, since TensorBoard has one count of steps a run.

    As a context manager it closes the file under way; what comes after that goes into another one beside it. Raises
    `InputError` where the package tensorboard is not here.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
            from torch.utils.tensorboard.summary import hparams
        except ImportError as error:
            missing = "event files need tensorboard, which is not here; pip install '.[tensorboard]'"
            raise InputError(missing) from error
        self._open, self._hparams = partial(SummaryWriter, str(folder)), hparams
        self._open_steps = partial(SummaryWriter, str(Path(folder) / "steps"))
        self._made: Any = None
        self._steps: Any = None
        self._epoch = self._done = 0

    @property
    def _writer(self) -> Any:
        """A SummaryWriter, which opens another file by itself after it was closed."""
        self._made = self._made or self._open()
        return self._made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for one in (self._made, self._steps):
            if one is not None:
                one.close()

    def start(self, about: Start) -> None:
        """Write the hyperparameters: what is trained, by dotted names, and how it is executed."""
        # Not by add_hparams, which makes a run of its own of them. The first of the three, a table of contents, is not
        # written: TensorBoard takes any one run's for all; without it, it puts first in what the runs differ.
        # What is not limited is left out; a truth value is a word, and so is a list.
        values = {
            name: str(value).lower() if isinstance(value, bool | tuple | list) else value
            for name, value in dotted(asdict(about.trainer.recipe) | asdict(about.trainer.execution))
            if value is not None
        }
        earlier = about.trainer.state.log
        if earlier:  # of a run that goes on: what an interruption left of it is replaced
            self._made = self._open(purge_step=1)
            self._done = sum(about.trainer.steps[: len(earlier)])
            self._steps = self._open_steps(purge_step=self._done + 1)
        _, started, _ = self._hparams(values, {})
        self._writer.file_writer.add_summary(started)
        self._writer.flush()
        for log in earlier:
            self.epoch(log)

    def epoch_steps(self, epoch: int, learning_rates: Sequence[float], losses: Sequence[float]) -> None:
        """Write the epoch's steps, counted from the run's first."""
        self._steps = self._steps or self._open_steps()
        for number, (rate, loss) in enumerate(zip(learning_rates, losses, strict=True), self._done + 1):
            self._steps.add_scalar("learning_rate", rate, number)
            self._steps.add_scalar("loss/train", loss, number)
        self._done += len(losses)
        self._steps.flush()

    def epoch(self, log: EpochLog) -> None:
        """Write the epoch, and flush, for a TensorBoard that follows the run."""
        self._epoch = log.epoch
        for name, value in (
            ("accuracy/test", log.test_accuracy),
            ("accuracy/train", log.train_accuracy),
            ("images_per_second", log.images_per_second),
            ("learning_rate", log.learning_rate),
            ("loss/test", log.test_loss),
            ("loss/train", log.train_loss),
            ("seconds/test", log.eval_seconds),
            ("seconds/train", log.train_seconds),
        ):
            if value is not None:
                self._writer.add_scalar(name, value, log.epoch)
        self._writer.flush()

    def finish(self, trained: Trained) -> None:
        """Write the result beside the hyperparameters; the time to the target only where that was reached."""
        for name in ("final_accuracy", "best_accuracy", "time_to_target", "train_seconds"):
            if (value := getattr(trained, name)) is not None:
                self._writer.add_scalar(f"hparam/{name}", value, self._epoch)
        *_, ended = self._hparams({}, {})
        self._writer.file_writer.add_summary(ended)
        self._writer.flush()

    def pictures(self, found: Tested, dataset: Dataset) -> None:
        """Draw the surest mistakes and the confusion matrix of the test as, and where, the report does; close the
        file."""
        drawn = answers(found, dataset)
        with self:
            for name in ("confusion", "mistakes"):
                if name not in drawn:
                    continue
                pixels = np.asarray(Image.open(io.BytesIO(drawn[name].png())).convert("RGB"))
                self._writer.add_image(f"test/{name}", pixels, self._epoch, dataformats="HWC")
