"""Seconds, with the device's queue empty at both ends, and what other programs had of the CPU meanwhile."""

import os
import sys
import time

import psutil
import torch


class Clock:
    """Times what a device does: `seconds()` since `Clock(device)`, after all work queued so far has finished."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._synchronize()
        self._others = _others()
        self._start = time.perf_counter()

    def seconds(self) -> float:
        """Wall-clock seconds since this clock was made."""
        self._synchronize()
        return self.asked()

    def asked(self) -> float:
        """The same up to now, whatever the device has yet to do: nobody waits for it."""
        return time.perf_counter() - self._start

    def others(self) -> float:
        """CPU seconds, up to now, that other programs (or, of a virtual machine, the host) had of this one's cores."""
        return max(0.0, _others() - self._others)

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _others() -> float:
    """CPU seconds of the cores that this process may use, since some moment, that were neither idle nor its own."""
    cores = psutil.cpu_times(percpu=True)
    here = os.sched_getaffinity(0) if sys.platform == "linux" else range(len(cores))
    if max(here) >= len(cores):  # a container whose /proc lists its own cores only, under other numbers
        here = range(len(cores))
    # On Linux a guest's time is in user's already.
    kinds = [one for one in cores[0]._fields if one not in ("idle", "iowait", "guest", "guest_nice")]
    busy = sum(getattr(cores[core], kind) for core in here for kind in kinds)
    own = os.times()
    return float(busy - own.user - own.system - own.children_user - own.children_system - _living_children())


def _living_children() -> float:
    """CPU seconds of processes that this one has started, whose time it is not told before they end: a loader's."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.Error:  # it has ended meanwhile
            continue
        total += spent.user + spent.system
    return total
