"""Other programs beside a measurement, to see what they take from it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Children of a process that has ended are no longer ours, so that their seconds count as other programs'
# (`fastcifar.training.clock`); they end with the pipe that they look at, however this process ends.
_LOOPS = """
import os, select, sys
for _ in range(int(sys.argv[1])):
    if not os.fork():
        while not select.select([0], [], [], 0)[0]:
            sum(range(10_000))
        os._exit(0)
"""


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Have `count` processes compute inside, each as much as a core gives it."""
    if not count:
        yield
        return
    with subprocess.Popen([sys.executable, "-S", "-c", _LOOPS, str(count)], stdin=subprocess.PIPE) as loops:
        loops.wait()
        yield  # what leaves this closes the pipe
