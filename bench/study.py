"""Cost of studies beside their trainings: scheduling, and planning 100,000 cells.

Scheduling: trainings of a known length (they sleep) are executed as a study's are, in this process,
in worker processes and by Ray; what is beyond the sleeping, start of the executor included, is the
overhead. It is told as a share of trainings of 5 s, since it does not depend on their length.
Planning: a process of its own reads a plan of 100,000 cells, expands it and counts its trainings.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from common import environment, parse, parser, report

from harness_plugin.plugins.registry import load_plugins
from harness_plugin.study.executors import Executor, InProcess, Workers
from harness_plugin.study.graph import Graph, graph_of
from harness_plugin.study.plan import Resources, read_study
from harness_plugin.study.scheduler import execute
from harness_plugin.study.training_records import TrainingRecords
from harness_plugin.study.worker import Job
from harness_plugin_hooks.study.ray_executor import RayExecutor

LENGTH = 5.0
"""Seconds of the trainings that the overhead is told against."""

MOST_OVERHEAD, MOST_SECONDS, MOST_GIB = 0.02, 10.0, 1.0
WORK = "study:sleeps"


def sleeps(job: Job) -> dict[str, Any]:
    """A training of a known length, with the locks and records of a real one."""
    ledger = TrainingRecords(Path(job.root))
    lease = ledger.lease(job.name)
    assert lease is not None, job.name
    time.sleep(float(os.environ["BENCH_SLEEP"]))
    record = {"stage": None, "seconds": LENGTH, "reused": False}
    ledger.finished(job.name, record)
    lease.release()
    return record


def plan_of(folder: Path, seeds: int, students: int) -> Graph:
    """A small plan: 4 trainings and 1 more a student, in each seed."""
    plan = {
        "study": "bench",
        "tasks": ["hans"],
        "seeds": list(range(seeds)),
        "factors": {"student.epochs": list(range(3, 3 + students))},
        "settings": {"references": False, "control": False},
    }
    file = folder / "plan.yaml"
    file.write_text(yaml.safe_dump(plan), encoding="utf-8")
    return graph_of(read_study(file), load_plugins())


def overhead(
    graph: Graph, open_executor: Callable[[], Executor], slots: int
) -> tuple[float, float]:
    """(seconds a training beyond its sleep, share of `LENGTH`), the executor's start included."""
    with tempfile.TemporaryDirectory() as root:
        started = time.perf_counter()
        progress = execute(graph, open_executor(), Path(root))
        taken = time.perf_counter() - started
    assert len(progress.done) == graph.trainings
    ideal = graph.trainings * float(os.environ["BENCH_SLEEP"]) / slots
    beyond = (taken - ideal) * slots / graph.trainings
    return beyond, beyond / LENGTH


class OnCluster(RayExecutor):
    """Ray's own test cluster: each node has its scheduler, object store and workers."""

    def __init__(self, nodes: int, cpus: int) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus})
        for _ in range(nodes - 1):
            self.cluster.add_node(num_cpus=cpus)
        self.cluster.wait_for_nodes()
        opened = RayExecutor.open(self.cluster.address, nodes * cpus, Resources(), WORK)
        super().__init__(opened.slots, opened.ours, WORK)

    def close(self) -> None:
        """Leave the cluster and end it."""
        super().close()
        self.cluster.shutdown()


def big_plan(cells: int) -> dict[str, Any]:
    """A lab's study of about so many cells: ten seeds, all sizes, methods and remedies."""
    weights = [round(0.05 * n, 2) for n in range(max(1, cells // 25_000))]
    return {
        "study": "lab",
        "tasks": ["hans", "celeba_bias"],
        "seeds": list(range(10)),
        "factors": {
            "method": ["group_dro", "poe", "reweight", "learned_mixin", "dfl"],
            "teacher.epochs": [3, 4, 5, 6, 7],
            "student.epochs": [3, 4, 5, 6, 7],
            "distiller": {
                name: {"students": {"student": {"distiller": name}}}
                for name in ("kd", "dkd", "dist", "hints", "rkd")
            },
            "remedy": {
                "none": {},
                "upsample": {"students": {"student": {"augmentations": {"upsample": {}}}}},
            },
            "weight": {f"{w:g}": {"students": {"student": {"ce_weight": w}}} for w in weights},
        },
    }


def planned(file: Path) -> dict[str, Any]:
    """Expand a plan in this process."""
    started = time.perf_counter()
    graph = graph_of(read_study(file), load_plugins())
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "cells": graph.study.cells,
        "trainings": graph.trainings,
        "unshared": graph.unshared,
        "seconds": seconds,
        "GiB": peak,
    }


def main() -> None:
    """Print what was measured; `--only FILE` plans in a process of its own."""
    options = parser(__doc__.splitlines()[0], rounds=1, device=False)
    options.add_argument("--trainings", type=int, help="default 200, quick 8")
    options.add_argument("--sleep", type=float, help="seconds of one (default 0.5, quick 0.01)")
    options.add_argument("--only", type=Path, metavar="FILE", help="plan a file and stop")
    options.add_argument("--ray", action="store_true", help="Ray as well, and several nodes of it")
    options.add_argument("--submitit", action="store_true", help="and submitit's local executor")
    args = parse(options)
    if args.only:
        print(json.dumps(planned(args.only)))
        return
    started = time.perf_counter()
    facts = environment()
    os.environ["BENCH_SLEEP"] = str(args.sleep or (0.01 if args.quick else 0.5))
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    trainings = args.trainings or (8 if args.quick else 200)
    executors: dict[str, tuple[Callable[[], Executor], int]] = {
        "local, in process": (lambda: InProcess(WORK), 1),
        "local, 2 workers": (lambda: Workers(2, WORK), 2),
    }
    if args.ray:
        executors["Ray, 2 tasks"] = (lambda: RayExecutor.open(None, 2, Resources(), WORK), 2)
        executors["Ray, 4 nodes of 2 tasks"] = (lambda: OnCluster(4, 2), 8)
    if args.submitit:
        from harness_plugin_hooks.study.slurm_executor import SlurmExecutor

        logs = Path(tempfile.mkdtemp())
        executors["submitit, 2 local jobs"] = (
            lambda: SlurmExecutor.open(logs, 2, {}, cluster="local", work=WORK),
            2,
        )
    lines = [
        f"| {trainings} trainings | beyond each | of {LENGTH:g} s | goal |",
        "|---|--:|--:|---|",
    ]
    with tempfile.TemporaryDirectory() as place:
        graph = plan_of(Path(place), trainings // 4, 3)
        for name, (open_executor, slots) in executors.items():
            beyond, share = overhead(graph, open_executor, slots)
            word = "met" if share <= MOST_OVERHEAD else "MISSED"
            lines.append(
                f"| {name} | {1e3 * beyond:.0f} ms | {share:.2%} | ≤ {MOST_OVERHEAD:.0%}: {word} |"
            )
        file = Path(place, "lab.yaml")
        file.write_text(
            yaml.safe_dump(big_plan(25_000 if args.quick else 100_000)), encoding="utf-8"
        )
        words = [sys.executable, __file__, "--only", str(file)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    lines += ["", "| planning | measured | goal |", "|---|--:|---|"]
    for value, most, unit in (
        (result["seconds"], MOST_SECONDS, "s"),
        (result["GiB"], MOST_GIB, "GiB"),
    ):
        word = "met" if value <= most else "MISSED"
        lines.append(
            f"| {result['cells']:,} cells | {value:.2f} {unit} | ≤ {most:g} {unit}: {word} |"
        )
    lines.append(
        f"\n{result['trainings']:,} distinct trainings; {result['unshared']:,} without sharing."
    )
    report(args, facts, [], time.perf_counter() - started)
    print("\n".join(lines))
    if args.output:
        record = json.loads(args.output.read_text(encoding="utf-8"))
        record["lines"], record["planning"] = lines, result
        args.output.write_text(json.dumps(record, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
