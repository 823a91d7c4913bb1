"""Cost of the plans of studies/paper: GPU hours, memory of the store, traffic, money.

Trainings are counted by the product itself (equal ones are shared), and each is given a time: a
constant for an update, in proportion to the layers (the host launches their kernels), and
operations at a constant rate. Both are a line through updates of the product's own loop, measured
on one card (bench/gpu_h100.md): small batches, which do not fill it, cost what they cost.
Days on several cards come from the product's scheduler, run against a clock of its own.
"""

from __future__ import annotations

import argparse
import heapq
import importlib
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import flops

from harness_plugin.config.merge import task_settings
from harness_plugin.config.roles import Role, plan_of_roles
from harness_plugin.config.settings import RoleSettings
from harness_plugin.data.task import find_task
from harness_plugin.models.checkpoints import Backbone
from harness_plugin.plugins.registry import Plugins, load_plugins
from harness_plugin.study.executors import Outcome
from harness_plugin.study.graph import Graph, Node, graph_of
from harness_plugin.study.plan import Resources, read_study
from harness_plugin.study.scheduler import execute
from harness_plugin.study.worker import Job
from harness_plugin_hooks.backbones import PRESETS

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- table: python bench/scale.py -->", "<!-- end of table -->"


class Released(NamedTuple):
    """A task's released data: rows to train on and to evaluate on, their size, labels."""

    train: int
    evaluation: int
    size: int
    """Tokens of a row, or pixels of its image's side."""
    labels: int = 2


NLI = 392_702
RELEASED = {
    "hans": Released(NLI, 9_815 + 9_832 + 30_000, 40, 3),
    "mnli_negation": Released(NLI, 9_815 + 9_832 + 1_500, 40, 3),
    "mnli_hard": Released(NLI, 9_815 + 9_832, 40, 3),
    "nli_stress": Released(NLI, 9_815 + 9_832 + 6 * 19_647, 40, 3),
    "qqp_paws": Released(363_846, 40_430 + 677, 30),
    "civilcomments": Released(269_038, 45_180 + 133_782, 300),
    "celeba_bias": Released(162_770, 19_867 + 19_962, 224),
    "waterbirds": Released(4_795, 1_199 + 5_794, 224),
}
"""Rows as the tasks check them. Tokens: MultiNLI's development pairs hold 35 words and marks on
average, 40 with pieces and the three special ones; CivilComments' limit stands for its mean."""


class Speed(NamedTuple):
    """A line through measured updates: seconds of a layer, operations a second beyond them."""

    layer: float
    rate: float


SPEEDS = {
    "bert": Speed(23.3e-3 / 12, 370e12),
    "t5_encoder_classifier": Speed(35.9e-3 / 12, 370e12),
    "vit": Speed(24.5e-3 / 12, 438e12),
    "resnet": Speed(13.1e-3 / 50, 119e12),
}
"""From bench/gpu_h100.md, bf16: BERT-base at batches of 128 and 256, ViT-base of 64 and 128,
ResNet-50 of 64 and 256; the one of T5-base's encoder with BERT's rate. BERT-base at 32, which the
line does not know, was 39 ms in that table, 29 in its profile; the line says 29."""

STAGES = {
    "poe": 1.11,
    "confidence_regularisation": 2.54,
    "learned_mixin": 1.11,
    "fairflow": 2.21,
    "read": 1.25,
    "jtt": 2.04,
    "reweight": 1.0,
    "group_dro": 1.13,
    "dfr": 1.68,
}
"""All stages of a method, ERM's training being 1, none below it: bench/method_cost.py, HANS."""


@dataclass
class Costs:
    """Cost of a plan's trainings: a training's seconds by its node, and sums."""

    graph: Graph
    seconds: tuple[float, ...]
    stored: tuple[float, ...]
    """Bytes that a training leaves in the store: weights, answers to every row."""
    fetched: tuple[float, ...]
    """Bytes of others' stages that it reads: a teacher's answers."""

    def total(self, values: tuple[float, ...]) -> float:
        """Over nodes and seeds."""
        pairs = zip(values, self.graph.seeds, strict=True)
        return sum(value * len(seeds) for value, seeds in pairs)

    def unshared(self) -> float:
        """Seconds if every run trained its own models."""
        pairs = zip(self.graph.study.configurations, self.graph.roles, strict=True)
        return sum(len(one.seeds) * sum(self.seconds[n] for n in nodes) for one, nodes in pairs)


def costs_of(graph: Graph, plugins: Plugins) -> Costs:
    """Every training's."""
    settings = settings_of(graph, plugins)
    seconds, stored, fetched = [], [], []
    for node, mine in zip(graph.nodes, settings, strict=True):
        data = RELEASED[node.task]
        seconds.append(seconds_of(node, mine, data, [settings[n] for n in node.learns_from]))
        answers = 4 * data.labels * (data.train + data.evaluation)
        parameters = PRESETS[mine.model].parameters or 0
        stored.append(4.0 * parameters + answers)
        fetched.append(4.0 * data.labels * data.train * len(node.learns_from))
    return Costs(graph, tuple(seconds), tuple(stored), tuple(fetched))


def settings_of(graph: Graph, plugins: Plugins) -> list[RoleSettings]:
    """Every node's, from the first configuration that needs it."""
    study, roles = graph.study, dict[int, Mapping[str, Role]]()
    tasks = {name: find_task(name, plugins["task"], ()) for name in study.plan.tasks}
    for number in {node.configuration for node in graph.nodes}:
        one = study.configurations[number]
        task = tasks[name := study.task_of(one)]
        settings = task_settings(task, "hub", [name, task.task], study.settings_of(one))
        roles[number] = plan_of_roles(settings)
    return [roles[node.configuration][node.role].settings for node in graph.nodes]


def seconds_of(
    node: Node, mine: RoleSettings, data: Released, teachers: list[RoleSettings]
) -> float:
    """Training, the teachers' one pass over the training rows, evaluation."""
    updates = mine.epochs * data.train / mine.batch_size
    training = updates * update(mine, data) * STAGES.get(node.method, 1.0)
    passes = sum(rows_through(teacher, data, data.train) for teacher in teachers)
    return training + passes + rows_through(mine, data, data.evaluation)


def update(mine: RoleSettings, data: Released) -> float:
    """Seconds of one update."""
    speed, layers, row = shape_of(mine.model, data.size)
    return speed.layer * layers + flops.TRAINING * mine.batch_size * row / speed.rate


def rows_through(mine: RoleSettings, data: Released, rows: int) -> float:
    """Seconds of `rows` forward passes in large batches."""
    speed, _, row = shape_of(mine.model, data.size)
    return rows * row / speed.rate


@cache
def shape_of(model: str, size: int) -> tuple[Speed, int, float]:
    """(speed, layers, operations of a forward pass of one row) of a preset."""
    module, _, name = PRESETS[model].target.partition(":")
    preset: Backbone = getattr(
        importlib.import_module(f"harness_plugin_hooks.backbones.{module}"), name
    )
    from transformers import AutoConfig

    from harness_plugin.models import t5  # noqa: F401  registers its classes

    config = AutoConfig.for_model(preset.model_type, **{**preset.config, "num_labels": 3})
    layers = (
        int(model.rpartition("-")[2])
        if preset.model_type == "resnet"
        else getattr(config, "num_hidden_layers", None) or config.num_layers
    )
    return SPEEDS[preset.model_type], layers, flops.forward(config, size)


@dataclass
class VirtualClock:
    """An executor whose trainings take their estimated time on a clock that only they move."""

    slots: int
    lengths: Mapping[str, float]
    now: float = 0.0
    busy: float = 0.0
    _ends: list[tuple[float, int]] = field(default_factory=list)

    def submit(self, ticket: int, job: Job, resources: Resources) -> None:
        """It will end after its length."""
        self.busy += self.lengths[job.name]
        heapq.heappush(self._ends, (self.now + self.lengths[job.name], ticket))

    def wait(self) -> list[Outcome]:
        """The one that ends first."""
        self.now, ticket = heapq.heappop(self._ends)
        return [Outcome(ticket, {"seconds": 0.0, "stage": None})]

    def close(self) -> None:
        """Nothing is held."""


def makespan(graph: Graph, lengths: Mapping[str, float], slots: int) -> tuple[float, float]:
    """(seconds until all is done, share of the workers' time that is used) by the real scheduler.

    `lengths` are the seconds of each training, by its name.
    """
    clock = VirtualClock(slots, lengths)
    with tempfile.TemporaryDirectory() as root:
        execute(graph, clock, Path(root))
    return clock.now, clock.busy / (slots * clock.now)


def tables(plans: list[Path], cards: list[int], price: float) -> list[str]:
    """Markdown: the plans, the largest one's parts, days on several cards."""
    plugins = load_plugins()
    costs = [costs_of(graph_of(read_study(plan), plugins), plugins) for plan in plans]
    lines = [
        "| plan | configurations | trainings | without sharing | GPU hours | without sharing "
        f"| store GiB | read GiB | at ${price:g} an hour |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in costs:
        hours, gib = one.total(one.seconds) / 3600, 2**30
        lines.append(
            f"| {one.graph.study.name} | {len(one.graph.study.configurations):,} "
            f"| {one.graph.trainings:,} | {one.graph.unshared:,} | {hours:,.0f} "
            f"| {one.unshared() / 3600:,.0f} | {one.total(one.stored) / gib:,.0f} "
            f"| {one.total(one.fetched) / gib:,.0f} | ${price * hours:,.0f} |"
        )
    most = max(costs, key=lambda one: one.graph.trainings)
    lines += ["", f"GPU hours of `{most.graph.study.name}`:", ""]
    lines += parts(most)
    lines += ["", f"| `{most.graph.study.name}` on | days | cards' time in use |", "|---|--:|--:|"]
    lengths = {
        most.graph.name_of(node, seed): most.seconds[node] for node, seed in most.graph.instances()
    }
    for slots in cards:
        taken, share = makespan(most.graph, lengths, slots)
        lines.append(f"| {slots} cards | {taken / 86400:.1f} | {share:.1%} |")
    return lines


def parts(costs: Costs) -> list[str]:
    """GPU hours by task, and by the model that is trained."""
    by_task: defaultdict[str, float] = defaultdict(float)
    by_model: defaultdict[str, float] = defaultdict(float)
    for node, seconds, seeds in zip(
        costs.graph.nodes, costs.seconds, costs.graph.seeds, strict=True
    ):
        by_task[node.task] += seconds * len(seeds) / 3600
        by_model[node.model] += seconds * len(seeds) / 3600
    lines = ["| task | hours | | model | hours |", "|---|--:|---|---|--:|"]
    left, right = (
        sorted(hours.items(), key=lambda pair: -pair[1]) for hours in (by_task, by_model)
    )
    for row in range(max(len(left), len(right))):
        task = f"{left[row][0]} | {left[row][1]:,.0f}" if row < len(left) else " | "
        model = f"{right[row][0]} | {right[row][1]:,.0f}" if row < len(right) else " | "
        lines.append(f"| {task} | | {model} |")
    return lines


def main() -> int:
    """Print the tables; write them where that is asked."""
    out = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    out.add_argument("plans", nargs="*", type=Path, help="default: all of studies/paper")
    out.add_argument("--cards", nargs="+", type=int, default=[8, 64, 256], metavar="N")
    out.add_argument("--price", type=float, default=3.0, help="of a card's hour (default $3)")
    out.add_argument("--write", type=Path, metavar="PAGE", help="replace the table of a page")
    args = out.parse_args()
    plans = args.plans or sorted((ROOT / "studies" / "paper").glob("*.yaml"))
    text = "\n".join(tables(plans, args.cards, args.price))
    print(text)
    if args.write:
        page = args.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(START)
        _, result, after = rest.partition(END)
        if not result:
            out.error(f"{args.write}: no {START} … {END}")
        args.write.write_text(f"{before}{START}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
