"""20,000 trainings on 256 workers: what the scheduler and the leases cost, and workers that die.

Nothing is trained: a training sleeps for a length of its own. All else is real: the plan, the
scheduler, records and leases in one shared folder. "One study" is one scheduler with 256 workers;
"16 studies" are the same command started on 16 machines with 16 workers each, which share nothing
but the folder; of these one is killed (-9) with the trainings that it is at. The ideal is the same
scheduler on a clock of its own, where nothing but trainings takes time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import environment, environment_line
from scale import makespan

from harness_plugin.plugins.registry import load_plugins
from harness_plugin.study.executors import Outcome, failed
from harness_plugin.study.graph import Graph, graph_of
from harness_plugin.study.plan import Resources, read_study
from harness_plugin.study.scheduler import execute
from harness_plugin.study.training_records import TrainingRecords
from harness_plugin.study.worker import BusyError, Job

LENGTH = 600.0
"""Seconds of a training that the overhead is a share of: those of the paper's matrix take 12
minutes on the average (docs/scale.md)."""

MOST = 0.01


def length_of(name: str, mean: float) -> float:
    """Seconds of a training, by its name: between .5 and 1.5 of the mean."""
    share = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32
    return mean * (0.5 + share)


@dataclass
class Threads:
    """An executor whose workers are threads that hold leases and sleep."""

    slots: int
    mean: float
    leases: list[float] = field(default_factory=list)
    """Seconds of each lease, record and release."""

    def __post_init__(self) -> None:
        self.pool = ThreadPoolExecutor(self.slots)
        self.running: dict[Future[dict[str, Any]], int] = {}

    def train(self, job: Job) -> dict[str, Any]:
        """The bookkeeping of `study.worker.execute` around a sleep in the training's place."""
        started = time.perf_counter()
        records = TrainingRecords(Path(job.root))
        lease = records.lease(job.name)
        if lease is None:
            raise BusyError(records.owner(job.name) or "another process")
        try:
            if done := records.record(job.name):
                return done
            seconds = length_of(job.name, self.mean)
            held = time.perf_counter()
            time.sleep(seconds)
            slept = time.perf_counter()
            record = {"stage": None, "seconds": seconds, "reused": False}
            records.finished(job.name, record)
        finally:
            lease.release()
        self.leases.append(time.perf_counter() - started - (slept - held))
        return record

    def submit(self, ticket: int, job: Job, resources: Resources) -> None:
        """Give it to a thread."""
        self.running[self.pool.submit(self.train, job)] = ticket

    def wait(self) -> list[Outcome]:
        """Those that are done."""
        ready, _ = wait(self.running, return_when=FIRST_COMPLETED)
        return [self.outcome(self.running.pop(future), future) for future in ready]

    def outcome(self, ticket: int, future: Future[dict[str, Any]]) -> Outcome:
        """The outcome of a thread."""
        error = future.exception()
        return failed(ticket, error) if error else Outcome(ticket, future.result())

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown(cancel_futures=True)


def plan_of(file: Path, seeds: int, students: int) -> Graph:
    """In each seed a teacher and its students, two of each number of epochs."""
    plan = {
        "study": "many_workers",
        "tasks": ["hans"],
        "seeds": list(range(seeds)),
        "factors": {"student.epochs": list(range(3, 3 + students))},
        "settings": {"references": False, "control": False},
    }
    file.write_text(json.dumps(plan), encoding="utf-8")
    return graph_of(read_study(file), load_plugins())


def one_machine(file: Path, root: Path, slots: int, mean: float) -> None:
    """A study of its own, as another machine would start it; prints what its leases took."""
    executor = Threads(slots, mean)
    graph = graph_of(read_study(file), load_plugins())
    print("ready", flush=True)
    sys.stdin.readline()
    progress = execute(graph, executor, root)
    times = executor.leases or [0.0]
    facts = {"done": len(progress.done), "trained": len(executor.leases), "lease": times}
    print(json.dumps(facts), flush=True)


def several(
    file: Path, root: Path, machines: int, slots: int, mean: float, kill_after: float = 0
) -> tuple[float, list[dict[str, Any]], int]:
    """(seconds, what each machine that lived says, workers killed)."""
    words = [sys.executable, __file__, "--as_machine", str(file), str(root), str(slots), str(mean)]
    pipe = subprocess.PIPE
    running = [subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) for _ in range(machines)]
    for machine in running:
        assert machine.stdout is not None
        machine.stdout.readline()
    started = time.perf_counter()
    for machine in running:
        assert machine.stdin is not None
        machine.stdin.write("\n")
        machine.stdin.flush()
    killed = 0
    if kill_after:
        time.sleep(kill_after)
        victim = running.pop()
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
        killed = slots
    reports = [json.loads(machine.communicate()[0].splitlines()[-1]) for machine in running]
    return time.perf_counter() - started, reports, killed


def row(
    name: str, graph: Graph, taken: float, ideal: float, slots: int, leases: list[float]
) -> str:
    """A line of the table."""
    beyond = (taken - ideal) * slots / graph.trainings
    share = beyond / LENGTH
    operations = len(leases) / taken
    word = "met" if share <= MOST else "MISSED"
    return (
        f"| {name} | {taken:.0f} s | {taken / ideal - 1:+.1%} | {1e3 * beyond:.0f} ms "
        f"| {share:.3%} of 10 min: {word} | {1e3 * statistics.median(leases):.1f} ms "
        f"| {operations:.0f} |"
    )


def main() -> None:
    """Print what was measured."""
    out = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    out.add_argument("--seeds", type=int, default=50)
    out.add_argument("--students", type=int, default=199, help="and a teacher, in each seed")
    out.add_argument("--mean", type=float, default=6.0, metavar="SECONDS", help="of a training")
    out.add_argument("--machines", type=int, default=16)
    out.add_argument("--workers", type=int, default=16, help="of each machine")
    out.add_argument("--quick", action="store_true", help="20 trainings of .2 s on 4 workers")
    out.add_argument("--as_machine", nargs=4, help=argparse.SUPPRESS)
    args = out.parse_args()
    if args.as_machine:
        file, root, slots, mean = args.as_machine
        return one_machine(Path(file), Path(root), int(slots), float(mean))
    if args.quick:
        args.seeds, args.students, args.mean, args.machines, args.workers = 2, 7, 0.2, 2, 2
    facts, slots = environment(), args.machines * args.workers
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "plan.yaml")
        graph = plan_of(file, args.seeds, args.students)
        names = [graph.name_of(node, seed) for node, seed in graph.instances()]
        ideal, _ = makespan(graph, {name: length_of(name, args.mean) for name in names}, slots)
        rows: list[str] = []
        trained: list[int] = []
        for name, machines, kill in (
            (f"one study, {slots} workers", 1, 0.0),
            (f"{args.machines} studies of {args.workers} workers", args.machines, 0.0),
            (f"the same, {args.workers} workers killed", args.machines, 0.4 * ideal),
        ):
            root = Path(place, f"store{len(rows)}")
            root.mkdir()
            share = slots // machines
            taken, reports, killed = several(file, root, machines, share, args.mean, kill)
            leases = [seconds for one in reports for seconds in one["lease"]]
            assert all(one["done"] == graph.trainings for one in reports)
            rows.append(row(name, graph, taken, ideal, slots - killed, leases))
            trained.append(sum(one["trained"] for one in reports))
    print("`python bench/many_workers.py`:", environment_line(facts), end="\n\n")
    mean = f"{args.mean:g} s on the average"
    print(f"{graph.trainings:,} trainings of {mean}; ideal {ideal:.0f} s.\n")
    print(
        "| what | taken | beyond the ideal | beyond a training | share "
        "| a lease, record and release | leases a second |\n|---|--:|--:|--:|---|--:|--:|"
    )
    print("\n".join(rows))
    print(f"\nTrainings done by those that lived: {', '.join(f'{n:,}' for n in trained)}.")


if __name__ == "__main__":
    main()
