"""airbench, Keller Jordan's programs for 94 % (https://github.com/KellerJordan/cifar10-airbench, MIT licence).

Read at commit f1c599c. `--peer airbench=PATH` names a checkout, or one of its scripts; in a checkout the first of
`SCRIPTS` is run, which was its fastest. A script cannot be told a number of runs (25; 200 in airbench94_muon.py): it
is started once and all its runs count, its warm-up on made-up labels excepted. Without a path, the package `airbench`
is run if it is installed (`pip install airbench`; read at 0.1.8), and that once for each run.

An epoch's accuracy is val_acc; the last one's is tta_val_acc, over six views of each image, which is what the program
claims, and the seconds of that evaluation, which its total includes, are the epoch's eval_seconds. Its losses and
training accuracy are left out: they are of one batch. With a batch of 1,024 an epoch is 49,152 images, and the last
of the 9.9 is 44 of 48 steps, so that the images/s of the run come out 0.8 % too high.
"""

import importlib.util
import sys
from importlib import metadata
from pathlib import Path

from fastcifar.peers import cuda_script
from fastcifar.peers.cuda_script import Printed, Row
from fastcifar.peers.peer import Job, Peer
from fastcifar.peers.program import Output
from fastcifar.records.record import Record, Run

# Each script and the images of an epoch: a short last batch is left out.
SCRIPTS = {"airbench94_muon.py": 50_000, "airbench94_compiled.py": 49_152, "airbench94.py": 49_152}
FOLDERS = (".", "legacy")
PACKAGE = "import airbench; airbench.warmup94(); airbench.train94(run=0)"


class Airbench(Peer):
    """airbench's 94 % script, or the package's `train94`."""

    name = "airbench"
    url = "https://github.com/KellerJordan/cifar10-airbench"

    def missing(self, job: Job) -> str | None:
        """Why it cannot run here."""
        if reason := cuda_script.missing(job):
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
        script = find_script(job.path) if job.path else None
        if script:
            command, images = [str(script)], SCRIPTS[script.name]
            program, name = f"airbench {cuda_script.version(script.parent)}", script.stem
        else:
            command, images = ["-c", PACKAGE], SCRIPTS["airbench94.py"]
            program, name = f"airbench {metadata.version('airbench')}", "airbench94 (package)"
        started, output = cuda_script.run_beside_cifar10([sys.executable, "-u", *command], job)
        runs = parse(output, started, images)
        return cuda_script.as_record(job, program=program, name=name, runs=runs, train_images=images)


def find_script(path: Path) -> Path | None:
    """The script that `path` is, or the first of `SCRIPTS` in the checkout that it is; None if there is none."""
    if path.is_file():
        return path if path.name in SCRIPTS else None
    places = (path / folder / script for script in SCRIPTS for folder in FOLDERS)
    return next((place.resolve() for place in places if place.is_file()), None)


def parse(output: Output, started: float, train_images: int) -> list[Run]:
    """The runs in what airbench printed since `started`. Raises `RunError` where that is not as it was when read."""
    runs, earliest = [], started
    for group in cuda_script.by_run(output, lambda row: bool(row.cells.get("run"))):
        if group[0].cells["run"] != "warmup":
            with cuda_script.reading():
                runs.append(_run(group, earliest, train_images))
            earliest = group[-1].at
    return runs


def _run(group: list[Row], earliest: float, train_images: int) -> Run:
    if group[-1].cells["epoch"] != "eval":
        raise ValueError("a run without its last evaluation")
    *epochs, final = (
        Printed(row.at, _seconds(row), float(row.cells["tta_val_acc"] or row.cells["val_acc"])) for row in group
    )
    eval_seconds = final.seconds - epochs[-1].seconds
    epochs[-1] = Printed(final.at, epochs[-1].seconds, final.accuracy)
    return cuda_script.as_run(epochs, earliest=earliest, train_images=train_images, eval_seconds=eval_seconds)


def _seconds(row: Row) -> float:
    """The column is total_time_seconds, in airbench94_muon.py time_seconds."""
    return float(row.cells.get("time_seconds") or row.cells["total_time_seconds"])
