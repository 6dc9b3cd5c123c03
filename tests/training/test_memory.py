import subprocess
import sys

import pytest

# In a process of its own: after a malloc that failed, another test's, glibc serves the thread from an arena that holds
# no large tensors.
FAULTS = """
import resource, torch
from fastcifar.training.memory import release_pages, reuse_pages

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)  # 64 MiB: 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(reuse_pages(), faults(), faults(), [release_pages(), faults()][1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_tensors_are_used_again_without_page_faults() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    can, _, again, after_release = done.stdout.split()
    if can == "False":
        pytest.skip("another malloc than glibc's")
    assert int(again) < 16_384 <= int(after_release)
