"""Peak memory of every analysis along rows, in a process of its own for each size.

A small run of an embedded task with many rows is trained once (`hans`; for probes, which need
attributes that cross labels, `civilcomments`); `harness analyze` then takes more and more of them.
What a row adds beyond the smallest size is what is kept of it: its answers and inputs, and the
numbers that intervals are drawn from.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import environment, environment_line

SIZES = (500, 8_000)
"""Rows of the two groups together."""
PAIRS = 4
"""Rows for a pair of circuits, which are slower."""
MOST = 10.0
"""kB that a row may add."""
ANALYSES = {"cka": "hans", "probes": "civilcomments", "attention": "hans", "circuits": "hans"}
"""Each with the task whose rows it reads."""
ROWS = {"hans": ("n_hans", "n_id=100"), "civilcomments": ("n_balanced", "n_validation=100")}
"""The option that says how many, and another."""
HARNESS = """
import re, sys
from harness_plugin.cli.main import main
code = main(sys.argv[1:])
with open("/proc/self/status") as status:
    print("PEAK", re.search(r"VmHWM:\\s+(\\d+)", status.read())[1])
sys.exit(code)
"""


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="few rows, for tests")
    args = options.parse_args()
    sizes = (40, 80) if args.quick else SIZES
    print(environment_line(environment()), end="\n\n")
    print("| analysis | rows | MB at the smallest | MB at the largest | kB a row or pair | goal |")
    print("|---|---|--:|--:|--:|---|")
    with tempfile.TemporaryDirectory() as place:
        for task in ROWS:
            peak(run_words(Path(place), task, max(sizes)))
        for name, task in ANALYSES.items():
            run = Path(place, task)
            asked = [rows // PAIRS if name == "circuits" else rows for rows in sizes]
            peaks = [peak(words(run, name, rows, max(sizes) // 2)) for rows in asked]
            each = 1e3 * (peaks[-1] - peaks[0]) / (asked[-1] - asked[0])
            met = "met" if each <= MOST else "MISSED"
            goal = "" if args.quick or name == "circuits" else f"≤ {MOST:g} kB: {met}"
            span = f"{asked[0]:,}-{asked[-1]:,}{' pairs' * (name == 'circuits')}"
            print(f"| {name} | {span} | {peaks[0]:.0f} | {peaks[-1]:.0f} | {each:.1f} | {goal} |")


def run_words(place: Path, task: str, rows: int) -> list[str]:
    """A run with so many rows of each kind, that trains for seconds."""
    many, few = ROWS[task]
    sets = [f"{task}.{each}" for each in ("n_train=300", few, f"{many}={max(2 * rows, 600)}")]
    sets += ["teacher.epochs=2.1", "student.epochs=2.1", "references=false"]
    words = ["--tasks", task, "--seeds", "0", "--device", "cpu", "--threads", "1"]
    words += ["--precision", "no", "--attention", "sdpa", "--resamples", "100"]
    words += [word for each in sets for word in ("--set", each)]
    return [*words, "--use_cache", str(place / "store"), "--output_path", str(place / task)]


def words(run: Path, name: str, rows: int, most: int) -> list[str]:
    """`harness analyze` of one kind, of so many rows, or of pairs of the `most` rows of a group."""
    more = {
        "cka": ["--permutations", "5"],
        "probes": ["--probe_rows", str(rows), "--split", "balanced"],
        "circuits": ["--pairs", str(rows), "--ig_steps", "2", "--random_circuits", "1"],
    }
    examples = most if name == "circuits" else rows // 2
    out = str(run.with_name(f"{name}-{rows}"))
    asked = ["analyze", str(run), f"--{name}", "--examples", str(examples), "--resamples", "100"]
    return [*asked, *more.get(name, []), "--output_path", out]


def peak(command: list[str]) -> float:
    """Peak MB of a harness command."""
    done = subprocess.run(
        [sys.executable, "-c", HARNESS, *command],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise SystemExit(f"harness {' '.join(command)}: {done.stdout[-500:]}{done.stderr[-1500:]}")
    return int(done.stdout.rpartition("PEAK ")[2]) / 1e3


if __name__ == "__main__":
    main()
