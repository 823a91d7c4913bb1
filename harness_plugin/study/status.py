"""How far a study is, what sharing saves, and what is left to pay for. Reads records only."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness_plugin.machine.progress import duration
from harness_plugin.study.graph import Graph
from harness_plugin.study.scheduler import Progress

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Cost:
    """Time of the open trainings, as far as trainings like them have been measured."""

    seconds: float
    measured: int
    """Open trainings for which there is a measurement."""
    unknown: int
    memory: int
    """Largest memory of a process that trained, in bytes; 0 where nothing is measured."""


def cost_of(graph: Graph, progress: Progress) -> Cost:
    """The mean of finished trainings of the same model, rows and method, else of the same model."""
    exact, near = defaultdict[Any, list[float]](list), defaultdict[Any, list[float]](list)
    memory = 0
    for (number, _), record in progress.done.items():
        memory = max(memory, int(record.get("peak_memory", 0)))
        if not record.get("reused"):
            node = graph.nodes[number]
            exact[node.alike].append(record["seconds"])
            near[node.task, node.model, bool(node.learns_from)].append(record["seconds"])
    seconds, measured, unknown = 0.0, 0, 0
    for number, seed in graph.instances():
        if (number, seed) in progress.done:
            continue
        node = graph.nodes[number]
        known = exact.get(node.alike) or near.get((node.task, node.model, bool(node.learns_from)))
        if known:
            seconds += statistics.fmean(known)
            measured += 1
        else:
            unknown += 1
    return Cost(seconds, measured, unknown, memory)


def summary(graph: Graph, progress: Progress, slots: int, others: int) -> list[str]:
    """Size and cost of a plan, in a few lines; `others`: further models in the store.

    Whether one of those is an open training shows only when the data are read: its key holds them.
    """
    study, cost = graph.study, cost_of(graph, progress)
    factors = [f"{len(study.plan.tasks)} task(s)"]
    factors += [f"{len(factor.levels)} {factor.name}" for factor in study.factors]
    factors += [f"{len(study.plan.seeds)} seed(s)"]
    open_ones = graph.trainings - len(progress.done)
    saved = 1 - graph.trainings / graph.unshared if graph.unshared else 0.0
    lines = [
        f"study {study.name}: {study.plan.summary}".rstrip(": "),
        f"  {study.cells:,} runs ({' x '.join(factors)}), {len(study.configurations):,} "
        f"configurations",
        f"  {graph.trainings:,} distinct trainings; {graph.unshared:,} without sharing: "
        f"{saved:.0%} saved",
        f"  {len(progress.done):,} done, {open_ones:,} open",
    ]
    if open_ones and others:
        lines += [
            f"  the store holds {others:,} more model(s), which no training of this plan recorded:",
            "  an open one that is among them is taken, not trained (seen when data are read)",
        ]
    if open_ones and cost.measured:
        wall = f", {duration(cost.seconds / slots)} in {slots} at a time" if slots > 1 else ""
        lines.append(
            f"  {cost.measured:,} of the open ones will take about {duration(cost.seconds)}{wall} "
            f"(trainings like them were measured); largest process {cost.memory / 2**30:.1f} GiB"
        )
    if cost.unknown:
        lines.append(f"  {cost.unknown:,} open ones are like none that was measured: time unknown")
    return lines


def table_of(graph: Graph, progress: Progress, owners: Mapping[tuple[int, int], str]) -> Table:
    """Tasks and roles with how many of their trainings are done, running, failed and open.

    `owners` are the trainings that other processes are at.
    """
    from rich.table import Table

    table = Table(title=f"study {graph.study.name}", title_justify="left")
    for column in ("task", "role", "done", "running", "failed", "open"):
        table.add_column(column, justify="left" if column in ("task", "role") else "right")
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for number, seed in graph.instances():
        node, which = graph.nodes[number], (number, seed)
        state = "open"
        if which in progress.done:
            state = "done"
        elif which in progress.failed:
            state = "failed"
        elif which in progress.running or which in owners:
            state = "running"
        counts[node.task, node.role][state] += 1
    for (task, role), count in counts.items():
        table.add_row(
            task, role, *(str(count[s] or "") for s in ("done", "running", "failed", "open"))
        )
    now = time.time()
    running = [
        f"{graph.nodes[n].task} {graph.nodes[n].role} seed {s}, {duration(now - since)}"
        for (n, s), since in progress.running.items()
    ]
    running += [
        f"{graph.nodes[n].task} {graph.nodes[n].role} seed {s} by {owner}"
        for (n, s), owner in owners.items()
    ]
    cost = cost_of(graph, progress)
    left = f"{duration(cost.seconds)} of training left" if cost.measured else ""
    table.caption = "\n".join(filter(None, [*running[:8], left]))
    table.caption_justify = "left"
    return table
