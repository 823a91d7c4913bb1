"""What a run does to its process."""

import json
import platform
import subprocess
import sys

import pytest

PAGES = """
import json, resource
import torch
from harness_plugin.machine.process_state import memory_kept

def new_pages():
    for _ in range(30):  # until the heap has grown to its size
        torch.ones(12 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(12 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = new_pages()
with memory_kept():
    inside = new_pages()
print(json.dumps([before, inside, 10 * (48 << 20) // resource.getpagesize()]))
"""
"""Pages that the system gives a fresh process for ten arrays of 48 MiB, one after the other."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_inside():
    done = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    before, inside, fresh = json.loads(done.stdout)
    assert before > 0.9 * fresh
    assert inside < 0.5 * fresh
