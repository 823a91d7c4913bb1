"""Predictions of all roles and seeds of one task → scores, transfer measures and evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness_plugin.data.task import HubSet
from harness_plugin.errors import HarnessError
from harness_plugin.records import (
    DEFAULT_RULE,
    Estimate,
    Floats,
    Ints,
    ModelScores,
    Predictions,
    TaskScores,
    TrainedModel,
    Transfer,
    VerdictRule,
)
from harness_plugin.scoring.bootstrap import Bootstrap
from harness_plugin.scoring.evidence import evidence_of
from harness_plugin.scoring.flips import flips_of
from harness_plugin.scoring.measure import (
    Quantities,
    Quantity,
    measure_all,
    values_of,
)
from harness_plugin.scoring.metrics import WORST_GROUP_ACC, Metric
from harness_plugin.scoring.pairing import (
    arrange,
    check_collapse,
    distinct,
    erm_twin_of,
    few_rows_notes,
    first_of,
    in_order,
    join,
    one_class_notes,
    twin_of,
)
from harness_plugin.scoring.statistics import intervals

PRIMARY = ("gap_entailment", "gap_aligned_conflicting", "gap_avg_worst", "gap_id_ood")
"""A set's primary gap is the first of these that is defined on it."""


def score_task(
    predictions: Sequence[Predictions],
    *,
    task: str,
    source: str,
    fingerprint: str,
    train_groups: Sequence[str],
    train_group_counts: Sequence[int] | Ints,
    purposes: Mapping[str, str],
    metrics: Mapping[str, Metric],
    models: tuple[TrainedModel, ...] = (),
    notes: Sequence[str] = (),
    collapse_rule: str = "argmax",
    resamples: int = 1000,
    seed: int = 0,
    declared_gap: str | Mapping[str, str] | None = None,
    hub_sets: Mapping[str, HubSet] | None = None,
    rule: VerdictRule = DEFAULT_RULE,
) -> TaskScores:
    """Every metric of every role on every set, and every student against teacher and control.

    Every role must have predictions of every seed on every set; rows are joined by id. A role
    whose name starts with "student" is a student. `purposes` says which sets are "in_domain"
    and which "ood"; `train_group_counts` (G,) are the training rows of each of `train_groups`;
    `models` say which weights students and controls start from. `declared_gap` is the primary gap
    of the benchmark, on the sets where it applies, or one a set. `hub_sets` are the sets that
    are a split of a hub data set, row for row. `rule`: what verdicts are given by, and how many
    rows a group needs to steer a minimum over groups.

    Raises HarnessError for missing or doubled predictions and for sets whose rows differ.
    """
    check_arguments(metrics, resamples)
    check_collapse(predictions, collapse_rule)
    train = dict(zip(train_groups, map(int, train_group_counts), strict=True))
    table = arrange([replace(p, train_groups=train) for p in predictions], purposes)
    seeds = tuple(sorted({p.seed for p in predictions}))
    bootstrap = Bootstrap(task, resamples, seed, rule.min_group)
    joined = {split: join(paired) for split, paired in table.items()}
    quantities = measure_all(joined, purposes, metrics, bootstrap)
    primary = {
        split: gap
        for split in table
        if (gap := primary_gap(quantities[split], declared_on(split, declared_gap)))
    }
    roles = tuple(next(iter(table.values())))
    students = [role for role in roles if role.startswith("student")]
    starts = {model.role: model.start for model in models}
    different = {role: distinct([paired[role] for paired in joined.values()]) for role in roles}
    return TaskScores(
        task=task,
        source=source,
        fingerprint=fingerprint,
        collapse_rule=collapse_rule,
        notes=(
            *notes,
            *few_rows_notes(table, rule.min_group),
            *one_class_notes(table),
            *cluster_notes(quantities),
            *width_notes(quantities),
        ),
        seeds=seeds,
        models=models,
        scores=tuple(
            scores_of(
                role, split, quantities[split], first_of(table[split]), len(seeds), different[role]
            )
            for split in table
            for role in table[split]
        ),
        transfer=tuple(
            transfer
            for split in table
            for student in students
            for transfer in transfers_of(student, split, quantities[split], starts)
        ),
        predictions=in_order(table),
        primary=primary,
        purposes={split: purposes[split] for split in table},
        metrics={name: metric.info for name, metric in metrics.items()},
        hub_sets=dict(hub_sets or {}),
        evidence=tuple(
            evidence
            for student in students
            for split, gap in primary.items()
            if (
                evidence := evidence_of(
                    student, split, gap, quantities[split], joined[split], different[student]
                )
            )
        ),
        flips=tuple(
            flips
            for split, paired in joined.items()
            for student in students
            for flips in flips_of(
                split, paired, student, ("teacher", twin_of(student, starts, roles))
            )
        ),
        rule=rule,
    )


def cluster_notes(quantities: Mapping[str, Quantities]) -> Iterator[str]:
    """A sentence for every set whose rows come in clusters: what they cost."""
    for split, of_subset in quantities.items():
        acc = of_subset[""].get("acc")
        if acc is None or not acc.design_effect or acc.support.clusters is None:
            continue
        effects = [effect for effect in acc.design_effect.values() if math.isfinite(effect)]
        if effects:
            least, most = min(effects), max(effects)
            clusters, effective = acc.support.clusters, round(acc.support.effective or 0)
            worth = f" (worth {effective} equal ones)" if 0 < effective < clusters else ""
            yield (
                f"rows of {split} come in {clusters} clusters{worth}, which are resampled "
                f"whole: the variance of an accuracy is {least:.1f} to {most:.1f} times that of "
                f"as many independent rows (design effect)"
            )


TIGHT_ROWS = 100
"""With fewer rows in its smallest group most simulated intervals of a minimum, and of the size of a
gap to it, are wider than 95% needs (docs/verdicts.md, error rates)."""


def width_notes(quantities: Mapping[str, Quantities]) -> Iterator[str]:
    """A sentence for every set whose intervals of minima are known to be wider than needed."""
    for split, of_subset in quantities.items():
        worst = of_subset[""].get(WORST_GROUP_ACC.name)
        if worst is None or worst.reason or worst.support.lacking:
            continue
        if worst.support.smallest < TIGHT_ROWS:
            yield (
                f"intervals of the worst group of {split} are wider than 95% needs: its smallest "
                f"group has {worst.support.smallest} rows, below {TIGHT_ROWS}"
            )


def check_arguments(metrics: Mapping[str, Metric], resamples: int) -> None:
    """Refuse what is not a metric of its name, and too few resamples."""
    for name, metric in metrics.items():
        if not isinstance(metric, Metric) or metric.name != name:
            raise HarnessError(f"metric {name!r} is registered as something else: {metric!r}.")
    if resamples < 2:
        raise HarnessError(f"{resamples} resamples: an interval needs at least 2.")


def scores_of(
    role: str, split: str, measured: Quantities, p: Predictions, seeds: int, distinct_seeds: int
) -> ModelScores:
    """One role on one set."""
    estimates = {
        subset: {name: estimate_of(q, role, seeds) for name, q in quantities.items()}
        for subset, quantities in measured.items()
    }
    return ModelScores(
        role=role,
        split=split,
        metrics=estimates[""],
        groups={name: estimates[f"group={name}"]["acc"] for name in p.groups},
        breakdowns={
            name: {value: estimates[f"{name}={value}"] for value in values_of(p, name)}
            for name in p.breakdowns
        },
        distinct_seeds=distinct_seeds,
    )


def estimate_of(q: Quantity, role: str, seeds: int) -> Estimate:
    """One role's estimate of one quantity."""
    if q.reason:
        return intervals.undefined(seeds, q.support.n, q.reason)
    estimate = intervals.estimate(q.alone[role], q.support, q.metric.bounds)
    return replace(
        estimate,
        plain=q.plain[role] if q.plain else (),
        design_effect=q.design_effect[role] if q.design_effect else None,
    )


def transfers_of(
    student: str, split: str, measured: Quantities, starts: Mapping[str, str]
) -> Iterator[Transfer]:
    """Every measure of one student on one set; nothing for a metric that does not apply."""
    for subset, quantities in measured.items():
        for name, q in quantities.items():
            for measure, estimate in measures_of(student, q, starts):
                yield Transfer(student, split, subset, name, measure, estimate)


def measures_of(
    student: str, q: Quantity, starts: Mapping[str, str]
) -> Iterator[tuple[str, Estimate]]:
    """The student against the teacher, its control and, for a performance, the ERM references.

    Control and ERM student must start as the student does (`starts`, as in `twin_of` and
    `erm_twin_of`): a better start is no effect of distillation. Where none does the measure has a
    reason instead of a value.

    The difference to the teacher is `gap_widening` for a gap, else `distillability`. Gaps are
    signed and so is their difference: below 0 is a smaller gap, or one that has turned over.
    `gap_size_change` is that of the gap's size, which verdicts are given on.
    """
    values = q.values
    if not values:
        return
    gap = q.metric.kind == "gap"
    twin = twin_of(student, starts, values)
    for other, measure in (
        ("teacher", "gap_widening" if gap else "distillability"),
        (twin, "contribution"),
    ):
        if other in values:
            difference = values[student] - values[other]
            yield measure, intervals.estimate(difference, q.support, difference=True)
    if not twin and any(role.startswith("control") for role in values):
        yield "contribution", not_compared(student, "control", starts, q)
    if gap and "teacher" in values:
        yield "gap_size_change", gap_size_change(values[student], values["teacher"], q)
    performance = q.metric.kind == "performance" and q.metric.higher_is_better
    references = bool(starts) or any(role.startswith("erm_student") for role in values)
    if performance and references and {"teacher", "erm_teacher"} <= values.keys():
        if reference := erm_twin_of(student, starts, values):
            yield "retention", retention(values, student, reference, q)
        else:
            yield "retention", not_compared(student, "ERM student", starts, q)


def not_compared(student: str, what: str, starts: Mapping[str, str], q: Quantity) -> Estimate:
    """A comparison that is not made, since the two start from other weights."""
    begins = starts.get(student) or "weights of its own"
    reason = f"no {what} starts as {student} does, from {begins}"
    return intervals.undefined(q.values[student].shape[0], q.support.n, reason)


def gap_size_change(student: Floats, teacher: Floats, q: Quantity) -> Estimate:
    """|gap(student)| - |gap(teacher)|, of the means over seeds, with its 95% interval."""
    signed = intervals.estimate(student - teacher, q.support, difference=True)
    change = intervals.size_change(intervals.sizes(student, teacher, q.support.df))
    without = bool(signed.reason)
    seeds = abs(student[:, 0]) - abs(teacher[:, 0])
    return replace(
        signed,
        value=float(change.value),
        low=math.nan if without else float(change.low),
        high=math.nan if without else float(change.high),
        sd=float(seeds.std(ddof=1)) if len(seeds) > 1 else math.nan,
        seeds=tuple(seeds.tolist()),
        errors=(),
        intervals=(),
        components=None,
    )


def retention(values: Mapping[str, Floats], student: str, reference: str, q: Quantity) -> Estimate:
    """The student's gain over its ERM reference as a share of the teacher's gain.

    A ratio of means over seeds, so that it has no value for a single seed. Undefined unless the
    95% interval of the teacher's gain lies above 0: near 0 the ratio says nothing.
    """
    gain = values[student] - values[reference]
    possible = values["teacher"] - values["erm_teacher"]
    teacher = intervals.estimate(possible, q.support, difference=True)
    n = q.support.n
    if not min(teacher.low, teacher.value) > 0:
        between = f"{teacher.value:.3f}, 95% interval {teacher.low:.3f} to {teacher.high:.3f}"
        reason = teacher.reason or f"the teacher's gain over ERM is not clearly above 0 ({between})"
        return Estimate(math.nan, n=n, reason=reason)
    estimate = intervals.ratio(gain, possible, q.support.df)
    if math.isnan(estimate.value):
        return Estimate(math.nan, n=n, reason="the teacher's gain over ERM is too uncertain")
    value, low, high = (float(x) for x in estimate)
    return Estimate(value, low, high, n=n, interval_of=teacher.interval_of)


def declared_on(split: str, declared: str | Mapping[str, str] | None) -> str | None:
    """The gap that the task asks for on one set."""
    return declared if declared is None or isinstance(declared, str) else declared.get(split)


def primary_gap(quantities: Quantities, declared: str | None = None) -> str:
    """The primary gap of a set, "" where none is defined."""
    whole = quantities[""]
    order = (declared, *PRIMARY) if declared else PRIMARY
    return next((name for name in order if name in whole and whole[name].values), "")
