"""`fastcifar train` and `fastcifar find-lr`."""

import os
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar

from fastcifar.commands.command import AUTO, Trains, TrustCode, command
from fastcifar.errors import InputError
from fastcifar.execution import launch, processes
from fastcifar.files import require_folder_of, require_no_link
from fastcifar.recipe.changes import differences
from fastcifar.recipe.files import load_recipe
from fastcifar.recipe.tables import optional
from fastcifar.report.console import Console
from fastcifar.runs.paused import read_json


@command("train")
class Train(Trains):
    """Train a recipe's network on CIFAR-10, test it after every epoch, and keep the run in a folder.

    torchrun --nproc-per-node N -m fastcifar train ... trains it in N processes, each with a GPU or a share of the CPU
    cores.
    """

    in_processes: ClassVar[bool] = True

    find_lr: bool = False
    """First find LRMIN and LRMAX with a range test (see `fastcifar find-lr`), then train with them."""
    out: Annotated[Path | None, optional("DIR")] = None
    """Run directory, new or empty; default: runs/<utc time>-<recipe>-seed<seed>."""
    resume: Annotated[Path | None, optional("RUN")] = None
    """Continue the interrupted run in this folder from its last checkpoint, with its own recipe and execution."""
    trust_code: TrustCode = False
    report: bool = True
    """Write the report (see `fastcifar report`) into the run directory at the end."""
    tensorboard: bool = False
    """Write TensorBoard event files into the run directory during training; needs the extra tensorboard."""

    @classmethod
    def defaults(cls, given: Namespace) -> dict[str, Any]:
        """Those of the run to be resumed, where there is one."""
        if not given.resume:
            return super().defaults(given)
        from fastcifar.execution import possible
        from fastcifar.runs.paused import read_paused

        paused = read_paused(given.resume, trust_code="--trust-code" in given.rest)
        if paused is None:
            from fastcifar.runs.saved import read_run

            return super().defaults(given) | {"recipe": read_run(given.resume).recipe}
        recipe = load_recipe(given.recipe) if given.recipe != AUTO else paused.recipe
        return {"name": paused.name, "recipe": recipe, "execution": possible(paused.execution)}

    def run(self, console: Console) -> None:
        """Train, keep, report."""
        from fastcifar.bench.environment import process_start
        from fastcifar.report.progress import TrainingConsole
        from fastcifar.report.tables import print_result
        from fastcifar.runs.api import resume, train
        from fastcifar.runs.directory import default_path
        from fastcifar.runs.observer import RunObserver, Start
        from fastcifar.runs.paused import read_paused
        from fastcifar.runs.predictions import tested
        from fastcifar.runs.saved import open_run, read_run

        class RangeTest(RunObserver):
            """Keeps what the range test found before training begins."""

            def start(self, about: Start) -> None:
                if about.found:
                    from fastcifar.report.charts import keep_lr

                    keep_lr(about.found, path)

        rank, count = processes()
        console.quiet = console.quiet or rank > 0  # the first process prints and writes
        run = self.resume or self._restarted()
        if self.resume:
            for flag, value in (("--out", self.out), ("--find-lr", self.find_lr)):
                if value:
                    raise InputError(f"{flag}: not with --resume, which continues the run in {self.resume}")
        if run and read_paused(run, trust_code=self.trust_code) is None:
            finished = read_run(run)  # which removes what a process that was killed at its very end left
            if self.resume and (other := differences(self.recipe, finished.recipe)):
                raise InputError(f"{run}: the run is finished, and of another recipe: {other[0]}")
            console.say(f"{run}: the run is finished; fastcifar report, eval and predict read it")
            return
        name = "" if run else self.named(console)
        about: Any = {"execution": self.execution, "data": self.data, "since": process_start()}
        if rank:
            if run:
                resume(run, recipe=self.recipe, trust_code=self.trust_code, **about)
            else:
                train(self.recipe, find_lr=self.find_lr, **about)
            return
        path = run or self.out or default_path(name, self.recipe)
        if count > 1:
            console.say(f"{count} processes, each with its share of every batch")
        try:
            require_no_link(path / "tensorboard")
            board = None
            if self.tensorboard:
                from fastcifar.report.tensorboard import TensorBoard

                board = TensorBoard(path / "tensorboard")
            about["observers"] = [RangeTest(), TrainingConsole(console), *([board] if board else [])]
            if run:
                trained = resume(path, recipe=self.recipe, trust_code=self.trust_code, **about)
            else:
                trained = train(self.recipe, name=name, out=path, find_lr=self.find_lr, **about)
        except BaseException:
            if not (run or self.out):
                with suppress(OSError):
                    path.rmdir()  # of a run that has not begun
                    path.parent.rmdir()
            raise
        print_result(console, trained, self.recipe.target)
        console.say(f"kept in {path}")
        own = trained.own.model
        answers = tested(open_run(path, model=own), trained.dataset) if self.report or board else None
        if board and answers:
            board.pictures(answers, trained.dataset)
        if self.report:
            from fastcifar.report.run_page import write_report

            console.say(f"report: {write_report(path, dataset=trained.dataset, found=answers, model=own)}")

    def _restarted(self) -> Path | None:
        """The run to go on with, where torchrun started the processes again after one of them had failed.

        It counts restarts machine by machine, and not those for which another one was the reason.
        """
        if not self.out or not (self.out / "run.json").exists():
            return None
        job = launch()
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
        return self.out if again or (job and read_json(self.out).get("launch") == job) else None


@command("find-lr")
class FindLr(Trains):
    """Find a recipe's learning rates LRMIN and LRMAX with a range test; keep its plot and values."""

    start_lr: Annotated[float | None, optional("X")] = None
    """First learning rate; default 1e-5, or 0.001 as a factor if the optimizer has its own rates."""
    end_lr: Annotated[float | None, optional("X")] = None
    """Last learning rate; default 1, or 100 as a factor."""
    steps: int = 100
    """Number of steps; the rates are spaced geometrically."""
    out: Annotated[Path | None, optional("DIR")] = None
    """Folder for the plot and the values; default: runs/<utc time>-<recipe>-find-lr-seed<seed>."""

    def run(self, console: Console) -> None:
        """Test, print, keep."""
        from fastcifar.report.charts import keep_lr
        from fastcifar.report.tables import print_lr
        from fastcifar.runs.directory import default_path
        from fastcifar.training.lr_finder import find_lr
        from fastcifar.training.trainer import Trainer

        if self.out and self.out.exists():
            require_folder_of(self.out)
        about = self.prepared(console)
        console.say(f"range test of {about.describe()}")
        with console.status("setting up") as status:
            trainer = Trainer(about.recipe, about.dataset, about.execution, about.own)
            console.say(*trainer.notes)
            found = find_lr(
                trainer,
                start_lr=self.start_lr,
                end_lr=self.end_lr,
                steps=self.steps,
                progress=lambda step, steps: status.update(f"step {step}/{steps}"),
            )
        folder = self.out or default_path(f"{about.name}-find-lr", self.recipe)
        folder.mkdir(parents=True, exist_ok=True)
        print_lr(console, found)
        console.say(f"kept in {' and '.join(map(str, keep_lr(found, folder)))}")
