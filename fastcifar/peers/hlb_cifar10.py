"""hlb-CIFAR10, tysam-code's hyperlightspeedbench (https://github.com/tysam-code/hlb-CIFAR10, Apache-2.0 licence).

Read at commit 9939652 (version 0.7.0). `--peer hlb-CIFAR10=PATH` names a checkout. main.py cannot be told a number of
runs: it is started once, and all 25 count.

An epoch's accuracy is ema_val_acc, that of the averaged network which the program claims, from the epoch in which there
is one; val_acc before. Either network answers each image and its mirror image, and the mean counts. Its losses and
training accuracy are left out: they are of one batch or of the other network. An epoch is 48 batches of 1,024, 49,152
images. The last of the 12.1 epochs is a tenth of one, whose images/s would come out ten times too high: it is counted
with the epoch before it, so that the images/s of the run come out 0.9 % too low.
"""

from fastcifar.peers.cuda_script import CheckoutScript, Row


class HlbCifar10(CheckoutScript):
    """hlb-CIFAR10's main.py."""

    name = "hlb-CIFAR10"
    url = "https://github.com/tysam-code/hlb-CIFAR10"
    script = "main.py"
    train_images = 49_152
    evaluation = "flip of EMA"

    def epochs(self, rows: list[Row]) -> tuple[list[Row], Row | None]:
        """The last epoch is one with that before it where it is only a part of one."""
        if len(rows) > 2:
            last, before = (rows[-k].seconds - rows[-k - 1].seconds for k in (1, 2))
            if last < before / 2:
                return [*rows[:-2], rows[-1]], None
        return rows, None
