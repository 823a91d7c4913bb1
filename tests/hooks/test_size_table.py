"""The terminal's table of compressed students: size, zeros and latency, means over seeds."""

import io
from types import SimpleNamespace

from rich.console import Console

from harness_plugin_hooks.console import size_table


def model(role, size, zeros=0, steps=()):
    account = {"bytes": size, "parameters": 1000, "zeros": zeros, "steps": list(steps)}
    return SimpleNamespace(role=role, settings={"compression": account} if size else {})


def test_a_line_a_compressed_student():
    timed = [{"name": "magnitude"}, {"latency_ms": 0.5, "latency_ms_before": 1.0}]
    slower = [{"name": "magnitude"}, {"latency_ms": 0.7, "latency_ms_before": 2.0}]
    models = (
        model("teacher", 0),
        model("student_int8", 182_000),
        model("student_int8", 184_000),
        model("student_torch", 1_000_000, 500, timed),
        model("student_torch", 1_000_000, 600, slower),
    )
    scores = SimpleNamespace(seeds=(0, 1), models=models)
    console = Console(file=io.StringIO(), width=80)
    console.print(size_table(scores))
    head, _, *lines = [line.split() for line in console.file.getvalue().splitlines() if line]
    assert " ".join(head) == "size and latency (mean of 2 seeds) MB zeros ms a row before"
    assert lines == [
        ["student_int8", "0.183", "0%"],
        ["student_torch", "1", "55%", "0.60", "1.50"],
    ]
