import subprocess
import sys
import time
from collections import namedtuple

import psutil
import pytest
import torch

from fastcifar.training.clock import Clock, _living_children

BUSY = "import time; end = time.process_time() + 1\nwhile time.process_time() < end: pass"


@pytest.mark.skipif(sys.platform != "linux", reason="which cores a process may use is known on Linux")
def test_neither_idle_time_nor_its_own_is_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores of which this process may use one; all numbers are seconds."""
    core = namedtuple("core", "user system idle iowait steal guest")  # as psutil has it
    own = namedtuple("own", "user system children_user children_system elapsed")
    now = [core(5, 1, 50, 3, 0, 2), core(100, 100, 100, 100, 100, 100)], own(1, 1, 1, 0, 0)
    monkeypatch.setattr("psutil.cpu_times", lambda percpu: now[0])
    monkeypatch.setattr("os.times", lambda: now[1])
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0}, raising=False)
    clock = Clock(torch.device("cpu"))
    now = [core(15, 4, 60, 9, 1, 8), core(200, 200, 200, 200, 200, 200)], own(4, 2, 2, 1, 0)
    assert clock.others() == (10 + 3 + 1) - (3 + 1 + 1 + 1)
    now = [core(15, 4, 60, 9, 1, 8), now[0][1]], own(20, 2, 2, 1, 0)
    assert clock.others() == 0  # never less, though the kernel rounds
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {7}, raising=False)
    assert Clock(torch.device("cpu")).others() == 0  # whatever a container calls its cores


def test_others_are_other_programs() -> None:
    """One that the shell which started it has left behind."""
    clock = Clock(torch.device("cpu"))
    shell = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" > /dev/null & echo $!', sys.executable, BUSY], stdout=subprocess.PIPE, check=True
    )
    process = psutil.Process(int(shell.stdout))
    try:
        # Looked at once: the system counts in ticks and this process finer, so that a second look may give a tick less.
        while (others := clock.others()) < 0.5 and process.is_running():
            time.sleep(0.05)
        assert others >= 0.5
    finally:
        process.kill()


def test_ones_own_children_are_not() -> None:
    before = _living_children()
    with subprocess.Popen([sys.executable, "-c", BUSY]) as process:
        while psutil.Process(process.pid).cpu_times().user < 0.3 and process.poll() is None:
            time.sleep(0.02)
        assert _living_children() - before >= 0.25
        process.kill()
