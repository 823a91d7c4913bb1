"""How much of a machine other processes leave."""

from __future__ import annotations

import os
import time

import psutil


class Neighbours:
    """Watches, from its making on, what other processes leave of the cores this one may use."""

    def __init__(self) -> None:
        self._start = readings()

    def left(self) -> float:
        """Cores that were idle or ours, on average since then; time a hypervisor takes is not."""
        seconds, idle, own = (now - then for now, then in zip(readings(), self._start, strict=True))
        return (idle + own) / max(seconds, 1e-9)


def readings() -> tuple[float, float, float]:
    """Seconds: of the clock, that our cores were idle (their sum), of CPU that we have used."""
    cores = psutil.cpu_times(percpu=True)
    if hasattr(os, "sched_getaffinity"):
        cores = [cores[core] for core in os.sched_getaffinity(0) if core < len(cores)]
    idle = sum(core.idle + getattr(core, "iowait", 0.0) for core in cores)
    return time.monotonic(), idle, time.process_time()
