"""Where an update waits, what it copies, and which kernels it spends its time in."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from gpu_cases import Bench, Case, Row, fit


def profile(bench: Bench) -> Iterator[Row]:
    """Where the host waits for the device and what is copied, an update of BERT-base."""
    case = bench.cases[0]
    for batch in case.batches[:2]:
        yield from profile_of(bench, case, batch, 2 if bench.tiny else 10)


def profile_of(bench: Bench, case: Case, batch: int, updates: int) -> Iterator[Row]:
    """The profile of some updates of one batch size."""
    rows, model = case.rows(batch * updates), case.model(bench.device)
    columns = {"model": case.name, "batch": batch}

    def run() -> float:
        record = fit(bench, model, rows, batch, "bf16")
        return 1e3 * float(record["training_seconds"]) / updates

    run()
    yield {**columns, "kind": "update", "name": "wall clock", "ms": run()}
    if bench.device == "cuda":
        for place, count in host_waits(run).most_common(8):
            yield {**columns, "kind": "the host waits", "name": place, "an update": count / updates}
    activities = [torch.profiler.ProfilerActivity.CPU]
    if bench.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as recorder:
        wall = run()
    events = [e for e in recorder.key_averages() if not getattr(e, "is_user_annotation", False)]
    on_device = [e for e in events if "CUDA" in str(e.device_type)]
    busy = sum(e.self_device_time_total for e in on_device) / 1e3 / updates
    yield {**columns, "kind": "update", "name": "wall clock, profiled", "ms": wall}
    yield {**columns, "kind": "update", "name": "device busy", "ms": busy}
    for event in events:
        if event.key.startswith(COPIES):
            microseconds = max(event.self_device_time_total, event.self_cpu_time_total)
            yield row_of(columns, "copies and waits", event.key, event.count, microseconds, updates)
    for event in sorted(on_device, key=lambda e: -e.self_device_time_total)[:10]:
        microseconds = event.self_device_time_total
        yield row_of(columns, "kernel", event.key[:90], event.count, microseconds, updates)


COPIES = ("cudaMemcpy", "cudaStreamSync", "cudaDeviceSync", "Memcpy", "aten::item", "aten::_local")
"""How the events of copies and of waits begin in torch's profiler."""


def row_of(
    columns: Row, kind: str, name: str, count: int, microseconds: float, updates: int
) -> Row:
    """One line of a profile."""
    per_update = {"an update": count / updates, "ms": microseconds / 1e3 / updates}
    return {**columns, "kind": kind, "name": name, **per_update}


def host_waits(work: Callable[[], object]) -> Counter[str]:
    """How often the host waited for the device, by the line that made it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return Counter(
        "/".join(Path(w.filename).parts[-3:]) + f":{w.lineno}"
        for w in caught
        if "called a synchronizing" in str(w.message)
    )
