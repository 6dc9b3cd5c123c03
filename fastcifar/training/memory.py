"""The memory of a process that trains on a CPU."""

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # glibc's malloc.h


@cache
def reuse_pages() -> bool:
    """Have malloc keep the pages of freed tensors for the next ones; whether it can (glibc), for this process's life.

    As it comes, glibc maps every large tensor anew and unmaps it afterwards, and the kernel zeroes each page again:
    54,000 page faults a step of `seed`'s network on 128 images, a sixth of its time (2 cores: 264 against 317
    images/s). What the process had at its peak it then keeps. See mallopt(3); torch's performance tuning guide advises
    another malloc, preloaded, to the same end.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1), mallopt(_TOP_PAD, 2**26)])
