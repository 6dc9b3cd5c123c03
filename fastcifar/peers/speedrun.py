"""Hiverge's cifar10-speedrun for 94 % (https://github.com/hiverge/cifar10-speedrun, MIT licence).

Read at commit 5cd49b1. `--peer cifar10-speedrun=PATH` names a checkout. Its script cannot be told a number of runs: it
is started once, and all of its 200 count, the warm-up on made-up labels excepted.

It prints a row a run, whose seconds are those of the training and of the test with several views together: they are the
train_seconds of a single epoch, which stands for the 243 steps of 1,536 images that a run trains.
"""

from fastcifar.bench.environment import git
from fastcifar.peers.cuda_script import CudaScript, Row
from fastcifar.peers.peer import Job
from fastcifar.records.record import Record

SCRIPT = "cifar10_speedrun.py"
TRAIN_IMAGES = 243 * 1536


class Speedrun(CudaScript):
    """Hiverge's cifar10_speedrun.py."""

    name = "cifar10-speedrun"
    url = "https://github.com/hiverge/cifar10-speedrun"

    def missing(self, job: Job) -> str | None:
        """Why it cannot run here."""
        if reason := super().missing(job):
            return reason
        if job.path is None:
            return f"no --peer {self.name}=PATH with a checkout of {self.url}"
        return None if (job.path / SCRIPT).is_file() else f"no {SCRIPT} in {job.path}"

    def run(self, job: Job) -> Record:
        """All its runs."""
        assert job.path is not None  # see missing
        version = git(job.path, "describe", "--always", "--dirty") or "unknown"
        return self.record(
            job,
            [str(job.path / SCRIPT)],
            program=f"{self.name} {version}",
            name=self.name,
            train_images=TRAIN_IMAGES,
            evaluation="flip+shift of the least certain quarter",
        )

    def epochs(self, rows: list[Row]) -> tuple[list[Row], Row | None]:
        """Its one row is both."""
        (only,) = rows
        return [only], None
