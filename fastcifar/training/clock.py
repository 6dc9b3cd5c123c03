"""Seconds, with the device's queue empty at both ends."""

import time

import torch


class Clock:
    """Times what a device does: `seconds()` since `Clock(device)`, after all work queued so far has finished."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._synchronize()
        self._start = time.perf_counter()

    def seconds(self) -> float:
        """Wall-clock seconds since this clock was made."""
        self._synchronize()
        return self.asked()

    def asked(self) -> float:
        """The same up to now, whatever the device has yet to do: nobody waits for it."""
        return time.perf_counter() - self._start

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
