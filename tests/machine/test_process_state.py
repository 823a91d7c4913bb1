"""What a run does to its process, and takes back."""

import platform
import resource

import pytest
import torch

from harness_plugin.machine.process_state import memory_kept

MEBIBYTE = 1 << 20


def new_pages():
    """Pages that the system gives for ten arrays of 48 MiB, one after the other."""
    torch.ones(12 * MEBIBYTE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(12 * MEBIBYTE)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_inside_and_given_back_afterwards():
    fresh = 10 * 48 * MEBIBYTE // resource.getpagesize()
    with memory_kept():
        assert new_pages() < 0.1 * fresh
    assert new_pages() > 0.9 * fresh
    with pytest.raises(ZeroDivisionError), memory_kept():
        raise ZeroDivisionError
    assert new_pages() > 0.9 * fresh
