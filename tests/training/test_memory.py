import resource
import sys

import pytest
import torch

from fastcifar.training.memory import release_pages, reuse_pages


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_tensors_are_used_again_without_page_faults() -> None:
    if not reuse_pages():
        pytest.skip("another malloc than glibc's")

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(2**24)  # 64 MiB: 16,384 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()  # the first has to be given its pages
    assert faults() < 16_384
    release_pages()
    assert faults() >= 16_384
