"""Run a study's trainings in the order of what learns from what, and keep going when one fails."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from harness_plugin.study.executors import Executor, Outcome
from harness_plugin.study.graph import Graph
from harness_plugin.study.plan import Resources
from harness_plugin.study.training_records import TrainingRecords
from harness_plugin.study.worker import Job

PAUSE = 2.0
"""Seconds between looks at trainings that another process runs."""

LOOKED_AT = 100
"""Ready trainings among which one of another seed is looked for."""


@dataclass(frozen=True)
class Failure:
    """A training that failed as often as it may, or one that learns from such a one."""

    node: int
    seed: int
    tries: int
    error: str
    trace: str = ""


@dataclass
class Progress:
    """State of every (node, seed)."""

    done: dict[tuple[int, int], Mapping[str, Any]] = field(default_factory=dict)
    failed: dict[tuple[int, int], Failure] = field(default_factory=dict)
    running: dict[tuple[int, int], float] = field(default_factory=dict)
    """And since when."""
    elsewhere: dict[tuple[int, int], str] = field(default_factory=dict)
    """And who is at it."""
    resumed: int = 0
    """How many were done before."""


def so_far(graph: Graph, ledger: TrainingRecords) -> Progress:
    """The state that the ledger records."""
    progress = Progress()
    for node, seed in graph.instances():
        record = ledger.record(graph.name_of(node, seed))
        if record is not None:
            progress.done[node, seed] = record
    progress.resumed = len(progress.done)
    return progress


def failed_before(graph: Graph, ledger: TrainingRecords, progress: Progress) -> None:
    """Note in `progress` what was given up the last time, and what was waiting for it."""
    for node, seed in graph.instances():
        if (node, seed) in progress.done:
            continue
        if before := ledger.failure(graph.name_of(node, seed)):
            failure = Failure(node, seed, before["tries"], before["error"], before["trace"])
            progress.failed[node, seed] = failure
        for teacher in graph.nodes[node].learns_from:  # a teacher's number is the smaller one
            if (teacher, seed) in progress.failed and (node, seed) not in progress.failed:
                progress.failed[node, seed] = because(graph, teacher, node, seed)


def because(graph: Graph, teacher: int, node: int, seed: int) -> Failure:
    """The failure of what learns from a training that failed."""
    return Failure(node, seed, 0, f"{graph.nodes[teacher].role}, which it learns from, failed")


def execute(
    graph: Graph,
    executor: Executor,
    root: Path,
    on_change: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Train everything that is not done; `on_change` is called at every change.

    A training that fails is repeated, as often as the plan says, after the others that are
    ready; what learns from it is given up. One that another process is at is waited for.
    """
    ledger = TrainingRecords(root)
    progress = so_far(graph, ledger)
    run = Scheduler(graph, executor, ledger, progress, on_change)
    on_change(progress)
    try:
        while run.step():
            on_change(progress)
    finally:
        executor.close()
    on_change(progress)
    return progress


class Scheduler:
    """The ready, the running, and who waits for whom."""

    def __init__(
        self,
        graph: Graph,
        executor: Executor,
        ledger: TrainingRecords,
        progress: Progress,
        on_change: Callable[[Progress], None],
    ) -> None:
        self.on_change = on_change
        self.graph, self.executor, self.ledger, self.progress = graph, executor, ledger, progress
        self.ready: deque[tuple[int, int]] = deque()
        self.waiting: dict[tuple[int, int], int] = {}
        self.followers: dict[int, list[int]] = {}
        self.tries: dict[tuple[int, int], int] = {}
        self.tickets: dict[int, tuple[int, int]] = {}
        self.issued = 0
        self.look_again = 0.0
        for number, node in enumerate(graph.nodes):
            for teacher in node.learns_from:
                self.followers.setdefault(teacher, []).append(number)
        for node_number, seed in graph.instances():
            if (node_number, seed) in progress.done:
                continue
            teachers = set(graph.nodes[node_number].learns_from)
            open_ones = sum((teacher, seed) not in progress.done for teacher in teachers)
            if open_ones:
                self.waiting[node_number, seed] = open_ones
            else:
                self.ready.append((node_number, seed))

    def step(self) -> bool:
        """Begin what can begin, then take what comes back. False when nothing is left to do."""
        self.look_elsewhere()
        while self.ready and len(self.tickets) < self.executor.slots:
            self.begin(*self.next_ready())
        if self.tickets:
            for outcome in self.executor.wait():
                self.take(outcome)
        elif self.progress.elsewhere:
            time.sleep(PAUSE)
        return bool(self.ready or self.tickets or self.progress.elsewhere)

    def next_ready(self) -> tuple[int, int]:
        """The first that is ready, of a seed that nothing is at where there is one.

        Roles of one seed share stages (encoded rows, ERM epochs): the second would wait for them.
        """
        busy = {seed for _, seed in self.tickets.values()}
        first = islice(self.ready, LOOKED_AT)
        which = next((one for one in first if one[1] not in busy), self.ready[0])
        self.ready.remove(which)
        return which

    def begin(self, node: int, seed: int) -> None:
        """Submit one training."""
        plan = self.graph.study.plan
        resources = plan.resources_of.get(self.graph.nodes[node].role, plan.resources)
        self.issued += 1
        self.tickets[self.issued] = (node, seed)
        self.progress.running[node, seed] = time.time()
        self.on_change(self.progress)  # before: in this process nothing is said until it is done
        self.executor.submit(self.issued, self.job(node, seed, resources), resources)

    def job(self, node: int, seed: int, resources: Resources) -> Job:
        """A training as plain data."""
        study, one = self.graph.study, self.graph.nodes[node]
        return Job(
            name=self.graph.name_of(node, seed),
            role=one.role,
            seed=seed,
            run=study.run_of(study.configurations[one.configuration], [seed]),
            root=str(self.ledger.root),
            processes=resources.processes,
        )

    def take(self, outcome: Outcome) -> None:
        """Note what became of a job."""
        which = self.tickets.pop(outcome.ticket)
        del self.progress.running[which]
        if outcome.record is not None:
            self.finish(which, outcome.record)
        elif outcome.busy:
            self.progress.elsewhere[which] = outcome.busy
            self.look_again = time.monotonic() + PAUSE
        else:
            self.tries[which] = self.tries.get(which, 0) + 1
            if self.tries[which] <= self.graph.study.plan.retries:
                self.ready.append(which)
            else:
                tries = self.tries[which]
                self.ledger.failed(self.graph.name_of(*which), tries, outcome.error, outcome.trace)
                self.give_up(which, Failure(*which, tries, outcome.error, outcome.trace))

    def finish(self, which: tuple[int, int], record: Mapping[str, Any]) -> None:
        """A training is done: who waited for it may begin."""
        self.progress.done[which] = record
        for follower in self.followers.get(which[0], ()):
            mine = (follower, which[1])
            if mine in self.waiting:
                self.waiting[mine] -= 1
                if not self.waiting[mine]:
                    del self.waiting[mine]
                    self.ready.appendleft(mine)  # whole runs are finished early

    def give_up(self, which: tuple[int, int], failure: Failure) -> None:
        """A training has failed for good, and with it all that learn from it."""
        self.progress.failed[which] = failure
        for follower in self.followers.get(which[0], ()):
            mine = (follower, which[1])
            if self.waiting.pop(mine, None) is not None:
                self.give_up(mine, because(self.graph, which[0], *mine))

    def look_elsewhere(self) -> None:
        """Whether those that another process runs are done, or are free again."""
        if time.monotonic() < self.look_again:
            return
        self.look_again = time.monotonic() + PAUSE
        for which in list(self.progress.elsewhere):
            name = self.graph.name_of(*which)
            if (record := self.ledger.record(name)) is not None:
                del self.progress.elsewhere[which]
                self.finish(which, record)
            elif not self.ledger.owner(name) or len(self.tickets) < self.executor.slots:
                # nobody's any more, or worth another try: its lock tells whether the owner lives
                del self.progress.elsewhere[which]
                self.ready.append(which)
