"""Cost of durability, that a run loses nothing and serves nothing else: fsync and digests.

    python bench/durability.py                      # the demo's two tasks, one seed, three rounds
    python bench/durability.py --tasks celeba_bias --rounds 1

    python docs/fill_tables.py durability           # and the table of docs/reliability.md is its

In every round a run as it is and one whose fsync and digests do nothing take turns, each with an
empty store (everything is written) and once again (everything is compared). The time in which any
thread waits for an fsync, or computes a file's digest, is taken: its share of the run is what has a
goal, 3%. The ratio of the two runs says the same, as far as the machine is quiet.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
NAMES = ("first", "again, all from the store")
WITHOUT = ", without"


@dataclass
class Clock:
    """Calls of a function, and the seconds in which one of them or several were under way."""

    seconds: float = 0.0
    calls: int = 0
    under_way: int = 0
    since: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time taken."""

        def call(*args: Any, **more: Any) -> Any:
            with self.lock:
                if not self.under_way:
                    self.since = time.perf_counter()
                self.under_way += 1
                self.calls += 1
            try:
                return function(*args, **more)
            finally:
                with self.lock:
                    self.under_way -= 1
                    if not self.under_way:
                        self.seconds += time.perf_counter() - self.since

        return call


@dataclass
class Timed:
    """One run: its seconds, and those that were spent inside fsync and digests."""

    seconds: float
    syncs: Clock
    digests: Clock

    @property
    def share(self) -> float:
        """Of the run, inside fsync and digests."""
        return (self.syncs.seconds + self.digests.seconds) / self.seconds


def timed_run(argv: list[str], durable: bool) -> Timed:
    """Run `harness`; where it is not `durable`, fsync and digests do nothing."""
    from harness_plugin.cli.main import main as harness
    from harness_plugin.store import seals

    syncs, digests, before = Clock(), Clock(), (os.fsync, seals.digest_of)
    if durable:
        os.fsync, seals.digest_of = syncs.timed(before[0]), digests.timed(before[1])
    else:
        os.fsync, seals.digest_of = (lambda file: None), (lambda path: "")
    try:
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            status = harness(argv)
        seconds = time.perf_counter() - started
    finally:
        os.fsync, seals.digest_of = before
    if status != 0:
        raise SystemExit(status)
    return Timed(seconds, syncs, digests)


def load() -> str:
    """How busy the machine was in the last minute, which blurs all times."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def main() -> None:
    """Run in turns, print medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", default="hans,celeba_bias")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="the toy task, one epoch, one round")
    args = parser.parse_args()

    # the same threads and kernels in every run: what is measured anew may choose others
    fixed = ["--threads", "2", "--precision", "no", "--attention", "sdpa"]
    argv = ["--tasks", args.tasks, "--seeds", "0", "--log_samples", *fixed]
    if args.quick:
        toy = str(ROOT / "tests" / "toy" / "toy.yaml")
        argv = ["--tasks", toy, "--seeds", "0", "--set", "teacher.epochs=0.2"]
        argv += ["--set", "student.epochs=0.2", "--resamples", "100", *fixed, "--threads", "1"]
    runs: dict[str, list[Timed]] = {}
    for turn in range(1 if args.quick else args.rounds):
        for durable in (True, False)[:: -1 if turn % 2 else 1]:
            with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", ".")) as folder:
                for name in NAMES:
                    words = ["--use_cache", f"{folder}/store", "--output_path"]
                    one = timed_run([*argv, *words, f"{folder}/{name[:5]}"], durable)
                    runs.setdefault(f"{name}{'' if durable else WITHOUT}", []).append(one)
                    print(f"{name}, {'durable' if durable else 'not'}: {one.seconds:.1f} s, "
                        f"{one.share:.2%}", file=sys.stderr)  # fmt: skip
    words = " ".join(sys.argv[1:])
    print(f"`python bench/durability.py{f' {words}' if words else ''}`, {load()}:\n")
    print("| run | fsync: calls | seconds | digests: files | seconds | run, seconds "
        "| both, share (range) | seconds over those without either |")  # fmt: skip
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name in NAMES:
        mine, bare = runs[name], runs[f"{name}{WITHOUT}"]
        shares = [each.share for each in mine]
        ratio = median(a.seconds / b.seconds for a, b in zip(mine, bare, strict=True))
        cells = [
            name,
            mine[0].syncs.calls,
            f"{median(each.syncs.seconds for each in mine):.2f}",
            mine[0].digests.calls,
            f"{median(each.digests.seconds for each in mine):.2f}",
            f"{median(each.seconds for each in mine):.1f}",
            f"{median(shares):.2%} ({min(shares):.2%} to {max(shares):.2%})",
            f"{ratio:.2f}",
        ]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
