"""The terminal: our sub-commands, what a run does, and the table in which the answer is seen."""

from __future__ import annotations

import math
import os
import time
from itertools import groupby
from typing import TYPE_CHECKING

from harness_plugin import hookimpl
from harness_plugin.machine.progress import place, say
from harness_plugin.machine.terminal import say_styled, show_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from harness_plugin.config.run_config import RunConfig
    from harness_plugin.data.dataset import TaskData
    from harness_plugin.data.task import Task
    from harness_plugin.plugins.hookspecs import Register
    from harness_plugin.records import (
        Estimate,
        RunReport,
        SetPlan,
        TaskScores,
        TrainedModel,
    )
    from harness_plugin.scoring.verdict import Verdict

COMMANDS = {
    "train": {
        "init": "FILE|FOLDER: the YAML file of a table of yours",
        "plan": "--tasks NAME: seeds and rows that a verdict needs",
        "study": "PLAN: many runs, equal models trained once",
        "remedy": "--tasks NAME --budget N: repair a student",
        "watch": "FOLDER: a live look at runs and studies",
        "cache": "ls|du|verify|prune: what lies in the store",
    },
    "examine": {
        "score": "--tasks NAME --predictions FILE: score predictions",
        "compare": "BASELINE CANDIDATE: has the candidate become worse?",
        "scan": "--tasks NAME: attributes that alone tell the label, or part a model",
        "analyze": "RUN: what happens inside the models of a run",
        "report": "RUN: one page to look at",
    },
    "publish": {
        "export": "RUN DIR: one model as a folder, with its card; --push_to_hub",
        "submit": "RUN --output_path BUNDLE: pack a run, to be checked",
        "verify": "BUNDLE …: compute its numbers again",
        "leaderboard": "DIR --output_path SITE: check bundles, rank them on a static page",
    },
    "harnesses": {
        "lm-eval": "run …: lm-evaluation-harness with our tasks, models and strict results",
        "lm-eval-path": "where the tasks for lm_eval --include_path lie",
        "metrics-path": "where the modules for evaluate.load lie",
    },
}
"""Folder of `commands/` -> command -> summary."""
WORDS = {
    "kept": "KEPT",
    "lost": "LOST",
    "nothing_to_keep": "the teacher has NOTHING TO KEEP",
    "undecided": "UNDECIDED",
}
COLOURS = {"kept": "green", "lost": "red", "nothing_to_keep": "blue", "undecided": "yellow"}


@hookimpl
def register_commands(register: Register) -> None:
    """Offer the sub-commands."""
    for folder, commands in COMMANDS.items():
        for name, summary in commands.items():
            module = f"harness_plugin_hooks.commands.{folder}.{name.replace('-', '_')}"
            register(name, f"{module}:main", summary=summary)


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
    from harness_plugin.pipeline.prepare.open_task import small_groups

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
    for warning in (*data.warnings, *small_groups(data)):
        say(f"  warning: {warning}")
    if plans:
        say(f"  plan: {plans[-1].split}: {plans[-1].short} (harness plan --tasks {task.task})")


@hookimpl
def model_trained(model: TrainedModel) -> None:
    """One line a model."""
    how = "from the store" if model.reused else f"{model.seconds:.1f} s"
    more = model.settings.get("augmented_rows", {})
    rows = "".join(f" + {count:,} rows of {name}" for name, count in more.items())
    say(
        f"  {time.strftime('%H:%M:%S')} seed {model.seed} {model.role:<14} "
        f"{model.model}, {model.method}{rows}: {model.updates:,} updates, {how}"
        f"{labels_seen(model)}{place()}",
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
    """The answer in words, a table a set with its worst groups, then the verdicts and flips."""
    if os.environ.get("RANK", "0") != "0":
        return
    from harness_plugin.scoring.flips import sentence
    from harness_plugin.scoring.verdict import verdicts

    decided = verdicts(scores)
    say("", answer(scores, decided), "")
    roles = list(dict.fromkeys(model.role for model in scores.models))
    for split in dict.fromkeys(group.split for group in scores.scores):
        say(title_of(scores, split))
        show_table(role_table(scores, split, roles))
        say(*(f"  {line}" for line in worst_groups(scores, split, roles)), "")
    if any("compression" in model.settings for model in scores.models):
        show_table(size_table(scores))
        say("")
    for note in scores.notes:
        say(f"NOTE {note}")
    for v in decided:
        say_styled(f"{v.state.replace('_', ' ').upper()} {v.sentence}", COLOURS[v.state])
    for (_, _, other), group in groupby(scores.flips, lambda f: (f.split, f.student, f.other)):
        if other == "teacher":
            say(f"FLIPS {sentence(list(group))}")


def answer(scores: TaskScores, decided: Sequence[Verdict]) -> str:
    """Does the debiasing survive? Each student's states, the sets they hold on in brackets."""
    if not decided:
        return f"{scores.task}: no student is compared with a teacher, so that there is no verdict"
    parts = []
    for student, group in groupby(decided, lambda v: v.student):
        states: dict[str, list[str]] = {}
        for v in group:
            states.setdefault(WORDS[v.state], []).append(v.split)
        remarks = ", ".join(f"{words} ({', '.join(on)})" for words, on in states.items())
        parts.append(f"{student}: {remarks}")
    return f"{scores.task}, does the debiasing survive? {'; '.join(parts)}"


def title_of(scores: TaskScores, split: str) -> str:
    """Title of a table, with the gap that its gap column is."""
    gap = scores.primary.get(split, "")
    seeds = len(scores.seeds)
    return (
        f"{scores.task} ({scores.source}), {split}: %, mean ± sd of {seeds} "
        f"seed{'' if seeds == 1 else 's'}{f'; gap = {gap}' if gap else ''}"
    )


def role_table(scores: TaskScores, split: str, roles: list[str]) -> Table:
    """One row a role: accuracy, worst group, the gap, and what is lost against the teacher."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    gap = scores.primary.get(split, "")
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    known = scores.of(roles[0], split).metrics
    names = {"acc": "acc", "worst_group_acc": "worst group", gap: "gap"}
    columns = [name for name in names if name in known]
    table.add_column("role")
    for column in columns:
        table.add_column(names[column], justify="right")
    table.add_column("change of |gap|", justify="right")
    table.add_column("retention", justify="right")
    for role in roles:
        score = scores.of(role, split)
        change = scores.transfer_of(role, split, gap, "gap_size_change")
        retention = scores.transfer_of(role, split, "worst_group_acc", "retention")
        table.add_row(
            role,
            *(percent(score.metrics[column]) for column in columns),
            "" if change is None else interval(change),
            "" if retention is None else percent(retention, with_sd=False),
        )
    return table


def size_table(scores: TaskScores) -> Table:
    """One row a compressed student: size, zeros and, where a library answers, latency of a row.

    Means over seeds. The last step that measured a latency counts.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    seeds = len(scores.seeds)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column(f"size and latency (mean of {seeds} seed{'' if seeds == 1 else 's'})")
    for column in ("MB", "zeros", "ms a row", "before"):
        table.add_column(column, justify="right")
    sizes: dict[str, list[tuple[float, ...]]] = {}
    for model in scores.models:
        if account := model.settings.get("compression"):
            timed = [step for step in account["steps"] if "latency_ms" in step]
            last = timed[-1] if timed else {}
            times = [last[key] for key in ("latency_ms", "latency_ms_before") if key in last]
            zeros = account["zeros"] / account["parameters"]
            sizes.setdefault(model.role, []).append((account["bytes"] / 1e6, zeros, *times))
    for role, rows in sizes.items():
        size, zeros, *times = (sum(each) / len(rows) for each in zip(*rows, strict=True))
        table.add_row(role, f"{size:.3g}", f"{zeros:.0%}", *(f"{each:.2f}" for each in times))
    return table


def worst_groups(scores: TaskScores, split: str, roles: Sequence[str]) -> Iterator[str]:
    """`worst group = blond_hair/Male (n 34): teacher 70.1, student 61.8`, one a group.

    Groups that are too small to steer a minimum are left out, as in the minimum itself.
    """
    worst: dict[tuple[str, int], list[str]] = {}
    for role in roles:
        groups = {
            name: estimate
            for name, estimate in scores.of(role, split).groups.items()
            if estimate.n >= scores.rule.min_group and not math.isnan(estimate.value)
        }
        if groups:
            name = min(groups, key=lambda each: groups[each].value)
            cell = f"{role} {100 * groups[name].value:.1f}"
            worst.setdefault((name, groups[name].n), []).append(cell)
    for (name, n), cells in worst.items():
        yield f"worst group = {name} (n {n:,}): {', '.join(cells)}"


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
    """Where the files are, what it took, and what to do next."""
    folder = report.config["output_path"]
    for choice in report.environment["choices"].values():
        say(
            f"ran as {choice['processes']} process(es) on {choice['device']}, "
            f"{choice['threads']} thread(s), precision {choice['precision']}, "
            f"{choice['attention']} attention: {choice['why']}"
        )
    say("", f"{report.seconds:.0f} s; results ({len(report.files)} files): {folder}")
    say(*(f"  {file}" for file in report.files if file.match("analysis_*.json")))
    import shlex

    say(f"next: harness report {shlex.quote(str(folder))}")
    lost = [scores.task for scores in report.tasks if any_lost(scores)]
    if lost and not report.config.get("eval_only"):
        say(f"      harness remedy --tasks {','.join(lost)}")


def any_lost(scores: TaskScores) -> bool:
    """Whether a student has lost its teacher's debiasing on any set."""
    from harness_plugin.scoring.verdict import verdicts

    return any(v.state == "lost" for v in verdicts(scores))
