import subprocess
import sys
import time

import torch

from fastcifar.training.clock import Clock

BUSY = "import time; end = time.process_time() + 1\nwhile time.process_time() < end: pass"


def busy(seconds: float) -> float:
    """CPU seconds that others are said to have had while this process took so many."""
    clock, end = Clock(torch.device("cpu")), time.process_time() + seconds
    while time.process_time() < end:
        pass
    return clock.others()


def test_others_are_not_ourselves() -> None:
    assert min(busy(0.3) for _ in range(10)) < 0.2  # the least, since others may come


def test_others_are_other_programs() -> None:
    clock = Clock(torch.device("cpu"))
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        while clock.others() < 0.5 and process.poll() is None:  # its seconds are its parent's once it has ended
            time.sleep(0.05)
        assert clock.others() >= 0.5
    finally:
        process.kill()
        process.wait()
