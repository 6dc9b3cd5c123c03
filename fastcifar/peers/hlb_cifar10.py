"""hlb-CIFAR10, tysam-code's hyperlightspeedbench (https://github.com/tysam-code/hlb-CIFAR10, Apache-2.0 licence).

Read at commit 9939652 (version 0.7.0). `--peer hlb-CIFAR10=PATH` names a checkout. main.py cannot be told a number of
runs: it is started once, and all 25 count.

An epoch's accuracy is ema_val_acc, that of the averaged network which the program claims, from the epoch in which
there is one; val_acc before. Its losses and training accuracy are left out: they are of one batch or of the other
network. An epoch is 48 batches of 1,024, 49,152 images. The last of the 12.1 epochs is a tenth of one, whose images/s
would come out ten times too high: it is counted with the epoch before it, so that the images/s of the run come out
0.9 % too low.
"""

import sys

from fastcifar.peers import cuda_script
from fastcifar.peers.cuda_script import Printed, Row
from fastcifar.peers.peer import Job, Peer
from fastcifar.peers.program import Output
from fastcifar.records.record import Record, Run

TRAIN_IMAGES = 49_152


class HlbCifar10(Peer):
    """hlb-CIFAR10's main.py."""

    name = "hlb-CIFAR10"
    url = "https://github.com/tysam-code/hlb-CIFAR10"

    def missing(self, job: Job) -> str | None:
        """Why it cannot run here."""
        if reason := cuda_script.missing(job):
            return reason
        if job.path is None:
            return f"no --peer {self.name}=PATH with a checkout of {self.url}"
        return None if (job.path / "main.py").is_file() else f"no main.py in {job.path}"

    def repeats(self, job: Job) -> bool:
        """It makes 25 runs, whatever one asks."""
        return False

    def run(self, job: Job) -> Record:
        """All its runs."""
        assert job.path is not None
        command = [sys.executable, "-u", str(job.path / "main.py")]
        started, output = cuda_script.run_beside_cifar10(command, job)
        program = f"{self.name} {cuda_script.version(job.path)}"
        runs = parse(output, started)
        return cuda_script.as_record(job, program=program, name=self.name, runs=runs, train_images=TRAIN_IMAGES)


def parse(output: Output, started: float) -> list[Run]:
    """The runs in what hlb-CIFAR10 printed since `started`. Raises `RunError` where that is not as it was when read."""
    runs, earliest = [], started
    for group in cuda_script.by_run(output, lambda row: row.cells["epoch"] == "0"):
        with cuda_script.reading():
            runs.append(cuda_script.as_run(_epochs(group), earliest=earliest, train_images=TRAIN_IMAGES))
        earliest = group[-1].at
    return runs


def _epochs(group: list[Row]) -> list[Printed]:
    epochs = [
        Printed(
            row.at,
            float(row.cells["total_time_seconds"]),
            float(row.cells["ema_val_acc"] or row.cells["val_acc"]),
        )
        for row in group
    ]
    if len(epochs) > 2:
        last, before = (epochs[-k].seconds - epochs[-k - 1].seconds for k in (1, 2))
        if last < before / 2:
            del epochs[-2]
    return epochs
