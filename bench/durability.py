"""What it costs that a run loses nothing and serves nothing else: fsync and digests.

    python bench/durability.py                      # the demo's two tasks, one seed
    python bench/durability.py --tasks celeba_bias

The seconds inside every fsync and every digest of a file are added up while a run goes on, once
with an empty store (everything is written) and once again (everything is compared). The share is
that of the whole run, whose goal is 3%.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


@dataclass
class Clock:
    """Seconds and calls of a function that is timed."""

    seconds: float = 0.0
    calls: int = 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time added."""

        def call(*args: Any, **more: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **more)
            finally:
                self.seconds += time.perf_counter() - started
                self.calls += 1

        return call


def main() -> None:
    """Run, add up, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", default="hans,celeba_bias")
    parser.add_argument("--quick", action="store_true", help="the toy task, one epoch")
    args = parser.parse_args()
    from harness_plugin.cli.main import main as harness
    from harness_plugin.store import seals

    argv = ["--tasks", args.tasks, "--seeds", "0", "--log_samples"]
    if args.quick:
        toy = str(ROOT / "tests" / "toy" / "toy.yaml")
        argv = ["--tasks", toy, "--seeds", "0", "--set", "teacher.epochs=0.2"]
        argv += ["--set", "student.epochs=0.2", "--resamples", "100", "--threads", "1"]
        argv += ["--precision", "no", "--attention", "sdpa"]
    fsync, digest_of = os.fsync, seals.digest_of
    print("| run | seconds | fsync: calls | seconds | digests: files | seconds | both, share |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", ".")) as folder:
        where = ["--use_cache", f"{folder}/store"]
        for name in ("first", "again, all from the store"):
            syncs, digests = Clock(), Clock()
            os.fsync, seals.digest_of = syncs.timed(fsync), digests.timed(digest_of)
            started = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                status = harness([*argv, *where, "--output_path", f"{folder}/{name[:5]}"])
            seconds = time.perf_counter() - started
            if status != 0:
                raise SystemExit(status)
            share = (syncs.seconds + digests.seconds) / seconds
            print(
                f"| {name} | {seconds:.1f} | {syncs.calls} | {syncs.seconds:.2f} | "
                f"{digests.calls} | {digests.seconds:.2f} | {share:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
