"""Try remedies on the validation rows: what brings the debiasing back, and at what price."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from harness_plugin.config.roles import Role, plan_of_roles
from harness_plugin.config.run_config import RunConfig
from harness_plugin.config.settings import StudentSettings, TaskSettings
from harness_plugin.data.dataset import TaskData, check
from harness_plugin.data.split import Split, half
from harness_plugin.data.task import Task
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.pipeline.operations import operations_of
from harness_plugin.pipeline.prepare.open_task import OpenTask
from harness_plugin.pipeline.prepare.plan import resolve
from harness_plugin.pipeline.roles.augment import NoRowsError, changed
from harness_plugin.pipeline.roles.checks import check_plan
from harness_plugin.pipeline.roles.context import RunContext
from harness_plugin.pipeline.run_task import context_of, predict_models, score_models
from harness_plugin.plugins.registry import Plugins
from harness_plugin.plugins.remedies import CERTIFYING, RANKING, Remedy
from harness_plugin.records import Estimate, TaskScores, TrainedModel
from harness_plugin.scoring.statistics.intervals import half_width


@dataclass(frozen=True)
class RemedyResult:
    """One student with a remedy; the student without one has remedy "none".

    `score` and `gap` are its own; `gained` is its score minus that of the student without a remedy,
    of the same rows and seeds; `kept` is the share of the teacher's advantage over that student
    that it brings back. `seconds` and `operations` (floating-point, pipeline/operations.py): of the
    training, means over seeds, with those of further teachers.
    """

    remedy: str
    summary: str
    settings: StudentSettings
    score: Estimate
    accuracy: Estimate
    gap: Estimate | None
    gained: Estimate
    kept: float
    seconds: float
    operations: float
    updates: int


@dataclass(frozen=True)
class RemedyReport:
    """All remedies tried for one task, the best first."""

    task: str
    metric: str
    gap: str
    baseline: str
    teacher: Estimate
    results: tuple[RemedyResult, ...]
    skipped: tuple[tuple[str, str], ...]
    """Remedies that this data cannot have, or that change nothing, and why."""
    beyond_budget: tuple[str, ...]
    """Remedies that were not trained."""
    smallest: tuple[str, int]
    """The smallest group of the rows that rank, and its size."""
    fingerprint: str
    """Of the task's data, before the validation rows were halved."""
    scores: TaskScores
    starts: Mapping[str, str] = field(default_factory=dict)
    """Role -> what its first weights come from (`TrainedModel.start`)."""
    shown: tuple[str, ...] = ()
    """Remedies that are shown to help, all of them at a joint error of 5% (Holm 1979)."""

    @property
    def plain(self) -> RemedyResult:
        """The student without a remedy."""
        return next(result for result in self.results if result.remedy == "none")


def try_remedies(
    config: RunConfig,
    plugins: Plugins,
    opened: OpenTask,
    root: Path,
    remedies: Sequence[Remedy],
    *,
    budget: int,
    baseline: str,
    metric: str,
    certify: bool = False,
) -> RemedyReport:
    """Train the student `baseline` as it is and with up to `budget` of `remedies`; rank them.

    Half of the validation rows (stratified by group) are for methods that use such rows, the other
    half ranks: no test row is looked at. A remedy that this data cannot have, or that changes
    nothing, is skipped with the reason and does not count. To `certify`, half of the rows that rank
    are kept apart: predictions on them are in the report's scores, and nothing else of them is.

    Raises HarnessError where there are no validation rows with groups, or no such student.
    """
    task, settings, data = opened.task, opened.settings, opened.data
    if baseline not in settings.students:
        raise unknown(f"student of task {task.task}", baseline, settings.students)
    if config.eval_only:
        raise HarnessError("harness remedy trains students; it cannot be used with --eval_only.")
    base = settings.students[baseline]
    data = halved(task, data, config.data_seed, certify=certify)
    alone = settings.model_copy(update={"control": False, "students": {baseline: base}})
    plain = context_of(OpenTask(task, alone, data), config, plugins, root)
    plugins.hook.data_loaded(task=task, data=data, plans=())
    without_rows: dict[str, str] = {}
    while True:
        candidates = chosen(plain, remedies, baseline, budget, without_rows)
        ctx = context_of(OpenTask(task, candidates.settings, data), config, plugins, root)
        try:
            trained, predictions = predict_models(ctx)
            break
        except NoRowsError as error:  # the others go on: what is trained is in the store
            if error.role not in candidates.remedies:
                raise
            reason = reason_of(error, task.task, error.role)
            without_rows[candidates.remedies[error.role].name] = reason
    # the student without a remedy takes the control's place: contributions are what is gained
    predictions = [replace(p, role="control") if p.role == baseline else p for p in predictions]
    # whatever it starts from: that may be the remedy
    scores = score_models(ctx, [replace(m, start="") for m in trained], predictions)
    operations = operations_of(ctx, trained)
    report = ranked(
        scores, trained, operations, candidates.remedies, candidates.settings, baseline, metric
    )
    rows = data.splits[RANKING]
    ranked_by = dict(zip(rows.groups, rows.group_counts.tolist(), strict=True))
    groups = data.validation.groups if data.validation else rows.groups
    counts = {name: ranked_by.get(name, 0) for name in groups}
    least = min(counts, key=counts.__getitem__)
    return replace(
        report,
        skipped=tuple(candidates.skipped),
        beyond_budget=tuple(candidates.beyond_budget),
        smallest=(least, counts[least]),
        fingerprint=opened.data.fingerprint,
        starts={model.role: model.start for model in trained},
    )


@dataclass
class Chosen:
    """The remedies to train, by their student's name, in the settings of a run."""

    settings: TaskSettings
    remedies: dict[str, Remedy] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    beyond_budget: list[str] = field(default_factory=list)


def chosen(
    ctx: RunContext,
    remedies: Sequence[Remedy],
    baseline: str,
    budget: int,
    without_rows: Mapping[str, str],
) -> Chosen:
    """The first `budget` of `remedies` that can be had; `without_rows`: those found to add none."""
    base = ctx.settings.students[baseline]
    out = Chosen(ctx.settings)
    for remedy in remedies:
        if len(out.remedies) == budget:
            out.beyond_budget.append(remedy.name)
            continue
        name = f"student_{remedy.name}"
        try:
            settings = with_remedy(out.settings, remedy, name, base)
            reason = (
                without_rows.get(remedy.name)
                or remedy.why_not_applicable(base, ctx.data)
                or why_not_applicable(ctx, settings, name, base)
            )
        except ValidationError as error:
            if any(problem["type"] != "value_error" for problem in error.errors()):
                raise  # a field that students do not have: a mistake of the remedy's plugin
            reason = "; ".join(str(problem["ctx"]["error"]) for problem in error.errors())
        if reason:
            out.skipped.append((remedy.name, reason))
        else:
            out.settings, out.remedies[name] = settings, remedy
    return out


def with_remedy(
    settings: TaskSettings, remedy: Remedy, name: str, base: StudentSettings
) -> TaskSettings:
    """The settings with a further student `name`: `base` with the remedy.

    Raises pydantic's error where the two do not go together.
    """
    change = remedy.change(base)
    students = {**settings.students, name: change.applied_to(base)}
    teachers = {**settings.teachers, **change.teachers}
    return settings.model_copy(update={"students": students, "teachers": teachers})


def halved(task: Task, data: TaskData, seed: int, *, certify: bool = False) -> TaskData:
    """The data with half of the validation rows as their evaluation set, or as two of them.

    Clusters stay whole: no row that certifies is of a template that ranked, or was refitted on.
    """
    validation = data.validation
    if validation is None or not validation.groups:
        raise HarnessError(
            f"task {task.task}: remedies are ranked on validation rows with groups, and "
            f"{data.source} data of this task have none. Hold rows out: "
            "--set validation_fraction=0.2; or name a file of your own: validation_pool."
        )
    first = half(validation, seed)
    rest = np.setdiff1d(np.arange(len(validation)), first)
    splits = {
        data.train.name: data.train,
        validation.name: validation.select(first),
        RANKING: replace(validation.select(rest), name=RANKING, purpose="ood"),
    }
    if certify:
        left = splits[RANKING]
        ranking = half(left, seed)
        apart = np.setdiff1d(np.arange(len(left)), ranking)
        splits[RANKING] = left.select(ranking)
        splits[CERTIFYING] = replace(left.select(apart), name=CERTIFYING)
    for name in {RANKING, CERTIFYING} & splits.keys():
        splits[name] = of_groups_present(splits[name])
    out = replace(data, splits=splits)
    check(task, out)
    return out


def of_groups_present(split: Split) -> Split:
    """The split without the groups that it has no row of: they can steer no worst group.

    Overlapping groups stay as they are.
    """
    present = np.flatnonzero(split.group_counts)
    if split.overlapping or len(present) == len(split.groups):
        return split
    place = np.full(len(split.groups) + 1, -1)  # the last for rows of no group, -1
    place[present] = np.arange(len(present))
    fewer = changed(split, np.arange(len(split)), {"group": place[split.group]})
    return replace(fewer, groups=tuple(split.groups[g] for g in present))


def why_not_applicable(
    ctx: RunContext, settings: TaskSettings, name: str, base: StudentSettings
) -> str:
    """Why a student cannot be trained here, or need not be; "" when it can."""
    try:
        if settings.students[name] == base:
            return "is what the student does already"
        plan = resolve(ctx.task, settings, ctx.plugins, only=name)
        check_plan(replace(ctx, settings=settings, plan=plan))
        if not plan.roles[name].trained and settings.students[name].compress == base.compress:
            return "changes the training of a student that has none: give it epochs"
    except HarnessError as error:
        return reason_of(error, ctx.task.task, name)
    return ""


def reason_of(error: HarnessError, task: str, student: str) -> str:
    """Reason of an error about a remedy's student."""
    reason = str(error).removeprefix(f"task {task}: ").removeprefix(f"{student}: ")
    return reason.replace(student, "it")


def ranked(
    scores: TaskScores,
    trained: Sequence[TrainedModel],
    operations: Mapping[str, float],
    remedies: Mapping[str, Remedy],
    settings: TaskSettings,
    baseline: str,
    metric: str,
) -> RemedyReport:
    """The students by score, best first."""
    gap = scores.primary.get(RANKING, "")
    teacher, before = scores.of("teacher", RANKING), scores.of("control", RANKING)
    if metric not in before.metrics:
        raise unknown("metric to rank by", metric, before.metrics)
    sign = 1 if scores.higher_is_better.get(metric, True) else -1
    lost = teacher.metrics[metric].value - before.metrics[metric].value
    roles = plan_of_roles(settings)

    def cost(name: str) -> dict[str, Any]:
        paid = {name, *extra(roles[name])}
        own = [t for t in trained if t.role in paid]
        seeds = len(scores.seeds)
        return {
            "seconds": sum(t.seconds for t in own) / seeds,
            "operations": sum(operations[role] for role in paid),
            "updates": round(sum(t.updates for t in own) / seeds),
        }

    def result(name: str, remedy: str, summary: str) -> RemedyResult:
        of_student = scores.of("control" if name == baseline else name, RANKING)
        score = of_student.metrics[metric]
        gained = Estimate(0.0, 0.0, 0.0) if name == baseline else gain(scores, name, metric)
        share = gained.value / lost if lost * sign > 0 else math.nan
        return RemedyResult(
            remedy=remedy,
            summary=summary,
            settings=settings.students[name],
            score=score,
            accuracy=of_student.metrics["acc"],
            gap=of_student.metrics.get(gap),
            gained=gained,
            kept=share,
            **cost(name),
        )

    every = [result(baseline, "none", "the student as it is")]
    every += [result(name, remedy.name, remedy.summary) for name, remedy in remedies.items()]
    every.sort(key=lambda one: (math.isnan(one.score.value), -sign * one.score.value))
    gains = {one.remedy: one.gained for one in every if one.remedy != "none"}
    enough = len(scores.seeds) >= scores.rule.min_seeds
    return RemedyReport(
        task=scores.task,
        metric=metric,
        gap=gap,
        baseline=baseline,
        teacher=teacher.metrics[metric],
        results=tuple(every),
        skipped=(),
        beyond_budget=(),
        smallest=("", 0),
        fingerprint=scores.fingerprint,
        scores=scores,
        shown=shown_to_help(gains, sign) if enough else (),
    )


FAMILY_ERROR = 0.05
"""Chance that any remedy is said to help when none does."""


def shown_to_help(gains: Mapping[str, Estimate], sign: int) -> tuple[str, ...]:
    """The remedies whose gain is shown, by Holm's step-down procedure over all that were tried.

    The first step is Bonferroni over all K: the best of K is said to help only if its bound at an
    error of 5% / K lies above 0, so that having chosen the best of many is accounted for.
    """
    left = {name: c for name, gain in gains.items() if (c := gain.components) is not None}
    tests, shown = len(gains), list[str]()
    while left:
        tail = FAMILY_ERROR / (tests - len(shown))
        new = [n for n, c in left.items() if sign * float(c.value) > float(half_width(c, tail))]
        if not new:
            break
        shown += new
        left = {name: c for name, c in left.items() if name not in new}
    return tuple(shown)


def extra(role: Role) -> set[str]:
    """The roles a student needs besides the task's teacher, which is trained in any case."""
    return set(role.learns_from) - {"teacher"}


def gain(scores: TaskScores, student: str, metric: str) -> Estimate:
    """Score of a student minus that of the student without a remedy."""
    contribution = scores.transfer_of(student, RANKING, metric, "contribution")
    if contribution is None:  # no group of these rows is large enough to be the worst
        reason = scores.of(student, RANKING).metrics[metric].reason
        return Estimate(math.nan, reason=reason or f"{metric} is not defined on these rows")
    return contribution
