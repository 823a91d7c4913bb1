"""The terminal: our sub-commands, what a run does, and the table in which the answer is seen."""

from __future__ import annotations

import math
import os
import time
from itertools import groupby
from typing import TYPE_CHECKING

from harness_plugin import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from harness_plugin.config.settings import RunConfig
    from harness_plugin.data.dataset import TaskData
    from harness_plugin.data.task import Task
    from harness_plugin.plugins.hookspecs import Register
    from harness_plugin.records import (
        Estimate,
        ModelScores,
        RunReport,
        SetPlan,
        TaskScores,
        TrainedModel,
    )

COMMANDS = {
    "compare": "BASELINE CANDIDATE: has the candidate become worse?",
    "score": "--task NAME --predictions FILE: score predictions",
    "init": "FILE|FOLDER: the YAML file of a table of yours",
    "submit": "RUN --out BUNDLE: pack a run, to be checked",
    "cache": "ls|du|verify|prune: what lies in the store",
    "verify": "BUNDLE …: compute its numbers again",
    "leaderboard": "DIR --out SITE: check bundles, rank them on a static page",
    "analyze": "RUN: what happens inside the models of a run",
    "plan": "--tasks NAME: seeds and rows that a verdict needs",
    "report": "RUN: one page to look at",
    "metrics-path": "where the modules for evaluate.load lie",
    "study": "PLAN: many runs, equal models trained once",
    "lm-eval": "run …: lm-evaluation-harness with our tasks, models and strict results",
    "lm-eval-path": "where the tasks for lm_eval --include_path lie",
    "remedy": "--tasks NAME --budget N: repair a student",
}
COLOURS = {"kept": "green", "lost": "red", "nothing_to_keep": "blue", "undecided": "yellow"}


def say(*lines: str) -> None:
    """Print on the main process only."""
    if os.environ.get("RANK", "0") == "0":
        print(*lines, sep="\n", flush=True)


@hookimpl
def register_commands(register: Register) -> None:
    """Offer the sub-commands."""
    for name, summary in COMMANDS.items():
        target = f"harness_plugin_hooks.commands.{name.replace('-', '_')}:main"
        register(name, target, summary=summary)


@hookimpl
def run_started(config: RunConfig) -> None:
    """Name the tasks, the data and the seeds."""
    say(
        f"harness: {', '.join(config.tasks)}{f' on {config.data} data' if config.data else ''}, "
        f"seed{'s' if len(config.seeds) > 1 else ''} {', '.join(map(str, config.seeds))}"
    )


@hookimpl
def data_loaded(task: Task, data: TaskData, plans: Sequence[SetPlan]) -> None:
    """Show sizes, groups and notes of every split, and what the last set can show."""
    say(
        "",
        f"{task.task}: {task.summary}",
        f"  data {data.source}, fingerprint {data.fingerprint[:12]}",
    )
    for split in data.splits.values():
        dropped = f", {split.dropped} rows without a label dropped" if split.dropped else ""
        groups = ", ".join(
            f"{name} {count:,}"
            for name, count in zip(split.groups, split.group_counts, strict=True)
        )
        rows = f"{len(split):,} rows{dropped}"
        say(f"  {split.name} ({split.purpose}): {rows}: {groups or 'no groups'}")
    for note in data.notes:
        say(f"  note: {note}")
    for warning in data.warnings:
        say(f"  warning: {warning}")
    if plans:
        say(f"  plan: {plans[-1].split}: {plans[-1].short} (harness plan --tasks {task.task})")


@hookimpl
def model_trained(model: TrainedModel) -> None:
    """One line a model."""
    how = "from the store" if model.reused else f"{model.seconds:.1f} s"
    say(
        f"  {time.strftime('%H:%M:%S')} seed {model.seed} {model.role:<14} "
        f"{model.model}, {model.method}: {model.updates:,} updates, {how}"
        f"{labels_seen(model)}",
        *(f"    note: {note}" for note in model.settings.get("checkpoint", {}).get("notes", ())),
    )


def labels_seen(model: TrainedModel) -> str:
    """Which group labels the model saw, and by what it was selected."""
    supervision = model.supervision
    if supervision is None:
        return ""
    seen = [part for part in ("train", "validation") if supervision[f"{part}_groups"]]
    words = [f"group labels of {' and '.join(seen)}" if seen else "no group labels"]
    if inferred := supervision["group_inference"]:
        words.append(f"groups by {inferred}")
    if selection := model.selection:
        words.append(f"selected by {selection['criterion']}, update {selection['update']:,}")
    return f" ({', '.join(words)})"


@hookimpl
def scores_computed(scores: TaskScores) -> None:
    """The verdicts, a sentence each; then the tables of one task, and what to beware of."""
    if os.environ.get("RANK", "0") != "0":
        return
    from rich.console import Console

    from harness_plugin.scoring.flips import sentence
    from harness_plugin.scoring.verdict import verdicts

    console = Console(width=None if os.isatty(1) else 120)
    console.print()
    roles = list(dict.fromkeys(model.role for model in scores.models))
    for split in dict.fromkeys(found.split for found in scores.scores):
        console.print(role_table(scores, split, roles))
        if table := bias_type_table(scores, split, roles):
            console.print(table)
    for note in scores.notes:
        console.print(f"NOTE {note}", highlight=False, markup=False)
    for v in verdicts(scores):
        state = v.state.replace("_", " ").upper()
        console.print(f"[bold {COLOURS[v.state]}]{state}[/] {v.sentence}", highlight=False)
    for (_, _, other), found in groupby(scores.flips, lambda f: (f.split, f.student, f.other)):
        if other == "teacher":
            console.print(f"FLIPS {sentence(list(found))}", highlight=False, markup=False)


def role_table(scores: TaskScores, split: str, roles: list[str]) -> Table:
    """One row a role: accuracy, worst group, the gaps, and what is lost against the teacher."""
    from rich.table import Table

    gap = scores.primary.get(split, "")
    n = len(scores.seeds)
    table = Table(
        title=f"{scores.task} ({scores.source}) · {split} · %, mean ± sd of {n} seed(s)",
        title_justify="left",
    )
    table.add_column("role")
    wanted = ("acc", "worst_group_acc", gap, "gap_id_ood")
    known = scores.of(roles[0], split).metrics
    columns = [name for name in dict.fromkeys(wanted) if name in known]
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("change of |gap| [95%]", justify="right")
    table.add_column("retention", justify="right")
    for role in roles:
        found = scores.of(role, split)
        cells = [percent(found.metrics[column]) for column in columns]
        change = scores.transfer_of(role, split, gap, "gap_size_change")
        retention = scores.transfer_of(role, split, "worst_group_acc", "retention")
        table.add_row(
            role,
            *cells,
            "" if change is None else interval(change),
            "" if retention is None else percent(retention, with_sd=False),
        )
    return table


def bias_type_table(scores: TaskScores, split: str, roles: list[str]) -> Table | None:
    """One row a bias type: the gap of every role, or what else is defined there; None without."""
    from rich.table import Table

    first = scores.of(roles[0], split)
    if not first.breakdowns:
        return None
    breakdown = next(iter(first.breakdowns))
    values = first.breakdowns[breakdown]
    candidates = (scores.primary.get(split, ""), "worst_group_acc", "acc")
    metric = next(
        name
        for name in candidates
        if all(name in found and not math.isnan(found[name].value) for found in values.values())
    )
    table = Table(title=f"{split} · {metric} by {breakdown}, %", title_justify="left")
    table.add_column(breakdown)
    for role in roles:
        table.add_column(role, justify="right")
    for value in values:
        found: list[ModelScores] = [scores.of(role, split) for role in roles]
        table.add_row(value, *(percent(s.breakdowns[breakdown][value][metric]) for s in found))
    return table


def percent(estimate: Estimate, with_sd: bool = True) -> str:
    """`84.2 ± 1.3`, or a dash where the number is undefined."""
    if math.isnan(estimate.value):
        return "n/a"
    text = f"{100 * estimate.value:.1f}"
    return text if math.isnan(estimate.sd) or not with_sd else f"{text} ± {100 * estimate.sd:.1f}"


def interval(estimate: Estimate) -> str:
    """`+3.1 [1.0, 5.2]`; the value alone where there is no interval."""
    if math.isnan(estimate.value):
        return "n/a"
    if math.isnan(estimate.low):
        return f"{100 * estimate.value:+.1f}"
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{100 * estimate.value:+.1f} [{low:.1f}, {high:.1f}]"


@hookimpl
def run_finished(report: RunReport) -> None:
    """Where the files are, and what it took."""
    say("", f"{len(report.files)} files in {report.config['output_path']}, {report.seconds:.0f} s:")
    shown = [file for file in report.files if file.name.startswith(("transfer", "config"))]
    shown += [file for file in report.files if file.match("analysis_*.json")]
    say(*(f"  {file}" for file in shown))
    for choice in report.environment["choices"].values():
        say(
            f"  ran as {choice['processes']} process(es) on {choice['device']}, "
            f"{choice['threads']} thread(s), precision {choice['precision']}, "
            f"{choice['attention']} attention: {choice['why']}"
        )
