"""The memory of a process that trains on a CPU."""

import ctypes
import gc
import sys
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # glibc's malloc.h


@cache
def reuse_pages() -> bool:
    """Have malloc keep the pages of freed tensors for the next ones; whether it can (glibc), for this process's life.

    As it comes, glibc maps every large tensor anew and unmaps it afterwards, and the kernel zeroes each page again:
    54,000 page faults a step of `seed`'s network on 128 images, a sixth of its time (2 cores: 264 against 317
    images/s). What the process had at its peak it keeps, until `release_pages`. See mallopt(3); torch's performance
    tuning guide advises another malloc, preloaded, to the same end.
    """
    mallopt = _glibc("mallopt")
    return mallopt is not None and all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1), mallopt(_TOP_PAD, 2**26)])


def release_pages() -> None:
    """Give the pages that malloc keeps back, once: what is resident then is what is in use. See malloc_trim(3)."""
    gc.collect()
    if malloc_trim := _glibc("malloc_trim"):
        malloc_trim(0)


def _glibc(name: str) -> Any:
    """A function of the C library, None where it has none of this name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
