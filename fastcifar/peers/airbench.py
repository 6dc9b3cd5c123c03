"""airbench, Keller Jordan's programs for 94 % (https://github.com/KellerJordan/cifar10-airbench, MIT licence).

Read at commit f1c599c. `--peer airbench=PATH` names a checkout, or one of its scripts; in a checkout the first of
`SCRIPTS` is run, which was its fastest. A script cannot be told a number of runs (25; 200 in airbench94_muon.py): it
is started once and all its runs count, its warm-up on made-up labels excepted. Without a path, the package `airbench`
is run if it is installed (`pip install airbench`; read at 0.1.8), and that once for each run.

An epoch's accuracy is val_acc; the last one's is tta_val_acc, over six views of each image, which is what the program
claims, and the seconds of that evaluation, which its total includes, are the epoch's eval_seconds. All but
airbench94_muon.py set the network back to a running average of its weights (Lookahead). Its losses and training
accuracy are left out: they are of one batch. With a batch of 1,024 an epoch is 49,152 images, and the last of the 9.9
is 44 of 48 steps, so that the images/s of the run come out 0.8 % too high.
"""

import importlib.util
from importlib import metadata
from pathlib import Path

from fastcifar.bench.environment import git
from fastcifar.peers.cuda_script import CudaScript, Row
from fastcifar.peers.peer import Job
from fastcifar.records.record import Record

# Each script and the images of an epoch: a short last batch is left out.
SCRIPTS = {"airbench94_muon.py": 50_000, "airbench94_compiled.py": 49_152, "airbench94.py": 49_152}
VIEWS = "flip+shift (last epoch)"
LOOKAHEAD = "flip+shift of lookahead (last epoch)"
PACKAGE = "import airbench; airbench.warmup94(); airbench.train94(run=0)"


class Airbench(CudaScript):
    """airbench's 94 % script, or the package's `train94`."""

    name = "airbench"
    url = "https://github.com/KellerJordan/cifar10-airbench"

    def missing(self, job: Job) -> str | None:
        """Why it cannot run here."""
        if reason := super().missing(job):
            return reason
        if job.path is None:
            installed = importlib.util.find_spec("airbench") is not None
            return None if installed else f"no --peer {self.name}=PATH with a checkout of {self.url}"
        return None if find_script(job.path) else f"none of {', '.join(SCRIPTS)} in {job.path}"

    def repeats(self, job: Job) -> bool:
        """Only the package can be told to run once."""
        return job.path is None

    def run(self, job: Job) -> Record:
        """All runs that the script makes, or one of the package."""
        if script := find_script(job.path) if job.path else None:
            version = git(script.parent, "describe", "--always", "--dirty") or "unknown"
            command, name, images = [str(script)], script.stem, SCRIPTS[script.name]
        else:
            version = metadata.version("airbench")
            command, name, images = ["-c", PACKAGE], "airbench94 (package)", SCRIPTS["airbench94.py"]
        evaluation = VIEWS if name == "airbench94_muon" else LOOKAHEAD
        return self.record(
            job, command, program=f"airbench {version}", name=name, train_images=images, evaluation=evaluation
        )

    def epochs(self, rows: list[Row]) -> tuple[list[Row], Row | None]:
        """A run ends with a row for its evaluation."""
        *epochs, evaluation = rows
        if evaluation.cells["epoch"] != "eval":
            raise ValueError("a run without its last evaluation")
        return epochs, evaluation


def find_script(path: Path) -> Path | None:
    """The script that `path` is, or the first of `SCRIPTS` in the checkout that it is; None if there is none."""
    if path.is_file():
        return path if path.name in SCRIPTS else None
    places = (path / folder / script for script in SCRIPTS for folder in (".", "legacy"))
    return next((place.resolve() for place in places if place.is_file()), None)
