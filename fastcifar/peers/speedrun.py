"""Hiverge's cifar10-speedrun for 94 % (https://github.com/hiverge/cifar10-speedrun, MIT licence).

Read at commit 5cd49b1. `--peer cifar10-speedrun=PATH` names a checkout. Its script cannot be told a number of runs: it
is started once, and all of its 200 count, the warm-up on made-up labels excepted.

It prints a row a run, whose seconds are those of the training and of the test with several views together: they are the
train_seconds of a single epoch, which stands for the 243 steps of 1,536 images that a run trains.
"""

from fastcifar.peers.cuda_script import CheckoutScript, Row


class Speedrun(CheckoutScript):
    """Hiverge's cifar10_speedrun.py."""

    name = "cifar10-speedrun"
    url = "https://github.com/hiverge/cifar10-speedrun"
    script = "cifar10_speedrun.py"
    train_images = 243 * 1536
    evaluation = "flip+shift of the least certain quarter"

    def epochs(self, rows: list[Row]) -> tuple[list[Row], Row | None]:
        """Its one row is both."""
        (only,) = rows
        return [only], None
