"""What starts a Python program in several processes."""

from __future__ import annotations

import os
import sys

REQUESTED = "HARNESS_NUM_PROCESSES"
QUIET = "ACCELERATE_LOG_LEVEL"
"""Accelerate's launcher warns of every option that it was not given, all of which are right."""


def command_of(
    program: list[str], processes: int, *, on_cpu: bool
) -> tuple[list[str], dict[str, str]]:
    """What starts a Python program in N processes, and in which environment."""
    environment = {QUIET: "ERROR", **os.environ, REQUESTED: str(processes)}
    if processes == 1:
        return [sys.executable, *program], environment
    if on_cpu:
        environment["ACCELERATE_USE_CPU"] = "true"
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
        return [sys.executable, *torchrun, str(processes), *program], environment
    accelerate = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes"]
    return [sys.executable, *accelerate, str(processes), *program], environment
