"""Fair timing: variants take turns, every round is compared within itself, medians are reported.

Nothing here is specific to one benchmark; `workload.py` holds the synthetic data and models.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "accelerate", "numpy")


@dataclass(frozen=True)
class Goal:
    """The row is to take at most `most` of what the row `of` takes."""

    of: str
    most: float


@dataclass
class Table:
    """One comparison: seconds of every variant in every round, each divided by `base`'s."""

    title: str
    unit: str
    base: str
    seconds: dict[str, list[float]]
    goals: Mapping[str, Sequence[Goal]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def ratios(self, name: str, of: str) -> list[float]:
        """Seconds of `name` over those of `of`, round by round: load of a round cancels."""
        return [a / b for a, b in zip(self.seconds[name], self.seconds[of], strict=True)]

    def markdown(self) -> str:
        """The table; a goal is compared with the median of the rounds' ratios."""
        head = f"| variant | median {self.unit} | ratio to {self.base} | range of rounds | goals |"
        lines = [f"### {self.title}", "", head, "|---|--:|--:|:-:|---|"]
        for name, times in self.seconds.items():
            ratios = self.ratios(name, self.base)
            lines.append(
                f"| {name} | {1e3 * statistics.median(times):.1f} ms "
                f"| {statistics.median(ratios):.3f} | {min(ratios):.3f}-{max(ratios):.3f} "
                f"| {'; '.join(self.verdict(name, goal) for goal in self.goals.get(name, ()))} |"
            )
        rounds = len(next(iter(self.seconds.values())))
        dropped = ", after one that is not counted" if rounds > 1 else ""
        lines += ["", f"Interleaved rounds: {rounds}{dropped}."]
        return "\n".join([*lines, *self.notes, ""])

    def verdict(self, name: str, goal: Goal) -> str:
        """A goal and the measured value, in words."""
        ratio = statistics.median(self.ratios(name, goal.of))
        word = "met" if ratio <= goal.most else "MISSED"
        return f"≤ {goal.most:g} x {goal.of}: {ratio:.3f}, {word}"


def interleave(variants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every variant in `rounds` rounds A, B, C, A, B, C …, after one that is dropped.

    A single round has none before it: it shows that a benchmark runs, and its times mean nothing.
    A variant returns the seconds it measured itself, so that its set-up stays out.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + (rounds > 1)):
        for name, variant in variants.items():
            seconds[name].append(variant())
    return {name: times[-rounds:] for name, times in seconds.items()}


def timed(work: Callable[[], object]) -> float:
    """Wall-clock seconds of `work`."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def parser(description: str, rounds: int, *, device: bool = True) -> argparse.ArgumentParser:
    """The options all benchmarks share."""
    out = argparse.ArgumentParser(description=description)
    out.add_argument("--rounds", type=int, help=f"interleaved rounds (default {rounds}, quick 1)")
    out.add_argument("--quick", action="store_true", help="tiny sizes: does it run? No timing")
    out.add_argument("--seed", type=int, default=0, help="of data and weights (default 0)")
    out.add_argument("--output", type=Path, metavar="FILE.json", help="also write every time taken")
    if device:
        out.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
        out.add_argument(
            "--threads", type=int, help="CPU threads (default: the cores there are, quick 1)"
        )
        out.add_argument(
            "--cpu-seconds",
            action="store_true",
            help="count one thread's CPU seconds, not the clock's: steadier on a busy machine",
        )
    out.set_defaults(default_rounds=rounds)
    return out


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line; one round in quick mode."""
    args = parser.parse_args()
    if args.rounds is None:
        args.rounds = 1 if args.quick else args.default_rounds
    if args.rounds < 1:
        parser.error("--rounds: at least 1")
    if getattr(args, "cpu_seconds", False):
        if args.device != "cpu" or args.threads not in (None, 1):
            parser.error("--cpu-seconds: only on the CPU and with one thread")
        args.threads = 1
        time.perf_counter = time.process_time  # the clock of every variant, the product's included
    return args


def environment(device: str = "cpu") -> dict[str, Any]:
    """The machine and versions behind a table."""
    import torch

    from harness_plugin.machine.environment import cpu_name
    from harness_plugin.pipeline.prepare.hardware import available_cores

    return {
        "cpu": cpu_name(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def environment_line(facts: Mapping[str, Any]) -> str:
    """`environment` for people."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    machine = f"{facts['gpu']}, " if facts["gpu"] else ""
    return (
        f"{machine}{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads, "
        f"load average {facts['load_average']} at the start, Python {facts['python']}, {versions}."
    )


def report(
    args: argparse.Namespace, facts: Mapping[str, Any], tables: Sequence[Table], seconds: float
) -> None:
    """Print the environment and the tables; write them where `--output` says."""
    print(environment_line(facts))
    if args.quick:
        print("Quick mode: sizes and times mean nothing.")
    if getattr(args, "cpu_seconds", False):
        print("Times are CPU seconds of one thread.")
    print()
    for table in tables:
        if args.quick:
            table.goals = {}
        print(table.markdown())
    print(f"{seconds:.0f} s in all.")
    if args.output:
        record = {
            "environment": facts,
            "arguments": {k: v for k, v in vars(args).items() if k != "output"},
            "tables": [asdict(table) for table in tables],
            "seconds": seconds,
        }
        args.output.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
