"""Which student of every embedded task is certified to retain 95% of its teacher's debiasing.

    python docs/fill_tables.py certified_tasks    # runs this, fills the table in docs/remedies.md

Each task's own recipe with group DRO: `harness remedy --certify` on plain distillation (`student`),
a weighted one and the teacher in 8 bits, ranked and certified on `--rows` validation rows, half of
which methods may see. What is not certified says what is missing. Tasks whose certificate is in the
folder already are not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

LEVEL, DEAREST = 0.95, 1.25
REMEDIES = "weighted_kd,int8"
PLAIN = "students.student={method: erm, ce_weight: 0, kd_weight: 1, temperature: 2}"


def embedded_tasks() -> list[str]:
    """Tasks of the catalogue that bring data of their own."""
    from harness_plugin.data.task import find_task
    from harness_plugin.plugins.registry import load_plugins

    registry = load_plugins()["task"]
    tasks = [find_task(offer.name, registry) for offer in registry]
    return sorted(task.task for task in tasks if "embedded" in task.sources)


def remedy(task: str, args: argparse.Namespace) -> str:
    """Run one task; the last line of its error output where it ends with one, "" otherwise."""
    folder = args.output_path / task
    if certificates(folder):
        return ""
    words = [sys.executable, "-m", "harness_plugin", "remedy", "--tasks", task, "--data"]
    words += ["embedded", "--baseline", "student", "--remedies", REMEDIES]
    words += ["--certify", str(LEVEL), "--seeds", args.seeds, "--resamples", str(args.resamples)]
    words += shlex.split("--device cpu --precision no --attention sdpa --threads 1")
    words += ["--set", PLAIN, "--set", f"{task}.n_validation={args.rows}"]
    words += ["--output_path", str(folder)]
    words += [word for each in args.set for word in ("--set", each.replace("TASK", task))]
    if args.use_cache:
        words += ["--use_cache", args.use_cache]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "RANK": "0"})
    print(f"{task}: status {done.returncode}", file=sys.stderr, flush=True)
    lines = done.stderr.strip().splitlines()
    last = (lines or [f"status {done.returncode}"])[-1]
    return last.removeprefix("harness: error: ") if done.returncode else ""


def certificates(folder: Path) -> list[Path]:
    """Of a task's folder, the newest last."""
    return sorted(folder.glob("**/certificate.json"), key=lambda file: file.stat().st_mtime)


def row_of(task: str, certificate: Mapping[str, Any]) -> str:
    """A line of the table."""
    steps, cost = certificate["steps"], {e["remedy"]: e["cost"] for e in certificate["order"]}
    best = max(steps, key=lambda step: number(step["kept_low"]))
    name = certificate["certified"]
    answer, missing = "none", f"{shown(best['remedy'])}: {best['reason']}"
    if name:
        dear = cost[name] > DEAREST
        answer = f"{shown(name)} at {cost[name]:.2f}"
        missing = f"dearer than {DEAREST:g} times plain distillation" if dear else ""
    smallest = min(certificate["groups"].values())
    gain = 100 * number(best["gain_low"])
    return f"| `{task}` | {smallest:,} | {gain:+.1f} | {answer} | {missing} |"


def number(value: float | None) -> float:
    """A bound, -inf where there is none."""
    return -math.inf if value is None else value


def shown(remedy: str) -> str:
    """The name of a remedy; of the student without one, what it is."""
    return "plain distillation" if remedy == "none" else f"`{remedy}`"


def table(args: argparse.Namespace, failures: Mapping[str, str]) -> list[str]:
    """Every task, those with a certified student first."""
    head = "| task | smallest group | gain shown | certified at a cost of | missing |"
    rows = []
    for task, failure in failures.items():
        if files := certificates(args.output_path / task):
            record = json.loads(files[-1].read_text(encoding="utf-8"))
            rows.append((not record["certified"], row_of(task, record)))
        else:
            rows.append((True, f"| `{task}` | | | none | {failure} |"))
    words = shlex.join(["python", "bench/certified_tasks.py", *sys.argv[1:]])
    lines = [f"`{words}`", "", head, "|---|--:|--:|---|---|"]
    return lines + [line for _, line in sorted(rows, key=lambda row: row[0])]


def main() -> int:
    """Run what has no certificate, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="default: all with own data")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--rows", type=int, default=8000, help="validation rows, default 8000")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2, help="tasks at a time, default 2")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--use_cache", metavar="DIR", help="the store (default: that of runs)")
    parser.add_argument("--output_path", type=Path, default=Path("results/certified"))
    args = parser.parse_args()
    tasks = args.tasks or embedded_tasks()
    with ThreadPoolExecutor(args.workers) as pool:
        failures = dict(zip(tasks, pool.map(lambda task: remedy(task, args), tasks), strict=True))
    print("\n".join(table(args, failures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
