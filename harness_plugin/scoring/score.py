"""Predictions of all roles and seeds of one task → scores and transfer measures.

One resample is one vector of row counts, shared by every role and seed of a set, and one draw of
seeds, shared by every role: each difference between roles is a paired one.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.task import HubSet
from harness_plugin.errors import HarnessError
from harness_plugin.records import (
    Counts,
    Estimate,
    Floats,
    Ints,
    ModelScores,
    Predictions,
    TaskScores,
    TrainedModel,
    Transfer,
)
from harness_plugin.scoring import stats
from harness_plugin.scoring.metrics import ACC, Metric, group_accuracies
from harness_plugin.scoring.pairing import (
    PairedPredictions,
    arrange,
    check_collapse,
    constant_notes,
    first_of,
    in_order,
    join,
    take,
)

PRIMARY = ("gap_entailment", "gap_aligned_conflicting", "gap_avg_worst", "gap_id_ood")
"""The gap a set's story is told with is the first of these that is defined on it."""

KINDS_PAY = 4
"""Rows are drawn one by one unless there are this many times fewer kinds of them."""


@dataclass(frozen=True)
class Quantity:
    """One metric of every role on one set or subset of `n` rows.

    `values[role]` (S, 1 + B): the plain number of each seed, then its resamples over rows. Empty
    where the metric does not apply; `reason` says why.
    """

    metric: Metric
    n: int
    values: Mapping[str, Floats]
    reason: str = ""


Quantities: TypeAlias = Mapping[str, Mapping[str, Quantity]]
"""Subset ("", "group=NAME", "BREAKDOWN=VALUE") -> metric name -> quantity."""


@dataclass(frozen=True)
class Bootstrap:
    """The resampling of one task; every set and subset has a random stream of its own."""

    task: str
    seeds: int
    resamples: int
    seed: int

    def generator(self, *of: str) -> np.random.Generator:
        """The random stream of `of`, whatever else is scored and in which order."""
        return np.random.default_rng([self.seed, zlib.crc32("\n".join((self.task, *of)).encode())])

    @cached_property
    def shares(self) -> Floats:
        """(S, 1 + B) weight of each seed in each resample."""
        return stats.seed_shares(self.seeds, self.resamples, self.generator("seeds"))

    def rows(self, paired: PairedPredictions, *of: str) -> Iterator[Counts]:
        """(b, N) row counts: all ones first, then the resamples.

        Rows are drawn within (groups, label, aligned), so that no cell of a metric is ever empty.
        """
        p = first_of(paired)
        yield np.ones((1, len(p)))
        yield from stats.group_stratified_counts(strata_of(p), self.resamples, self.generator(*of))

    def cells(
        self, paired: PairedPredictions, *of: str
    ) -> tuple[PairedPredictions, Iterator[Counts]]:
        """A row for each of the K kinds of rows that all models label alike, and (b, K) counts.

        Their sizes first, then the resamples, as `rows` draws them. For metrics `of_labels`.
        """
        p = first_of(paired)
        strata = strata_of(p)
        answers = [x.predicted for predictions in paired.values() for x in predictions]
        kinds = stats.strata_of(strata, *answers)
        _, first, sizes = np.unique(kinds, return_index=True, return_counts=True)
        if KINDS_PAY * len(sizes) > len(p):
            return paired, self.rows(paired, *of)
        few = {role: tuple(take(x, first) for x in paired[role]) for role in paired}

        def counts() -> Iterator[Counts]:
            yield sizes[None].astype(np.float64)
            yield from stats.cell_counts(strata, kinds, self.resamples, self.generator(*of))

        return few, counts()


def strata_of(p: Predictions) -> Ints:
    """(N,) the stratum of each row: rows of one stratum differ in the models' answers only."""
    return stats.strata_of(p.pattern, p.label, p.aligned)


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
    wanted_gap: str | Mapping[str, str] | None = None,
    hub_sets: Mapping[str, HubSet] | None = None,
) -> TaskScores:
    """Every metric of every role on every set, and every student against teacher and control.

    Every role must have predictions of every seed on every set; rows are joined by id. A role
    whose name starts with "student" is a student. `purposes` says which sets are "in_domain"
    and which "ood"; `train_group_counts` (G,) are the training rows of each of `train_groups`.
    `wanted_gap` is the gap the benchmark is told with, on the sets where it applies, or one a set.
    `hub_sets` are the sets that are a split of a hub data set, row for row.

    Raises HarnessError for missing or doubled predictions and for sets whose rows differ.
    """
    check_arguments(metrics, resamples)
    check_collapse(predictions, collapse_rule)
    train = dict(zip(train_groups, map(int, train_group_counts), strict=True))
    table = arrange([replace(p, train_groups=train) for p in predictions], purposes)
    seeds = tuple(sorted({p.seed for p in predictions}))
    bootstrap = Bootstrap(task, len(seeds), resamples, seed)
    joined = {split: join(paired) for split, paired in table.items()}
    found = measure_all(joined, purposes, metrics, bootstrap)
    return TaskScores(
        task=task,
        source=source,
        fingerprint=fingerprint,
        collapse_rule=collapse_rule,
        notes=(*notes, *constant_notes(table)),
        seeds=seeds,
        models=models,
        scores=tuple(
            scores_of(role, split, found[split], first_of(table[split]), bootstrap)
            for split in table
            for role in table[split]
        ),
        transfer=tuple(
            transfer
            for split in table
            for student in table[split]
            if student.startswith("student")
            for transfer in transfers_of(student, split, found[split], bootstrap)
        ),
        predictions=in_order(table),
        primary={
            split: gap
            for split in table
            if (gap := primary_gap(found[split], wanted_on(split, wanted_gap)))
        },
        purposes={split: purposes[split] for split in table},
        metrics={name: metric.info for name, metric in metrics.items()},
        hub_sets=dict(hub_sets or {}),
    )


def check_arguments(metrics: Mapping[str, Metric], resamples: int) -> None:
    """Refuse what is not a metric of its name, and too few resamples."""
    for name, metric in metrics.items():
        if not isinstance(metric, Metric) or metric.name != name:
            raise HarnessError(f"metric {name!r} is registered as something else: {metric!r}.")
    if resamples < 2:
        raise HarnessError(f"{resamples} resamples: an interval needs at least 2.")


def measure_all(
    table: Mapping[str, PairedPredictions],
    purposes: Mapping[str, str],
    metrics: Mapping[str, Metric],
    bootstrap: Bootstrap,
) -> dict[str, Quantities]:
    """Set -> its quantities; the paired_sets are joined, in-domain sets first."""
    raw = {split: measure(paired, metrics, bootstrap) for split, paired in table.items()}
    in_domain = [split for split in table if purposes[split] == "in_domain"]
    reference = raw[in_domain[0]] if in_domain else None
    return {
        split: not_compared(raw[split]) if split in in_domain else compared(raw[split], reference)
        for split in table
    }


def measure(
    paired: PairedPredictions, metrics: Mapping[str, Metric], bootstrap: Bootstrap
) -> Quantities:
    """Every metric on the whole set, accuracy in each group, metrics within each bias type."""
    p = first_of(paired)
    found: dict[str, Mapping[str, Quantity]] = {
        "": measure_set(paired, metrics.values(), bootstrap, p.split),
        **measure_groups(paired, bootstrap),
    }
    within = [metric for metric in metrics.values() if metric.within]
    for subset, rows in subsets_of(p):
        part = {role: tuple(take(x, rows) for x in paired[role]) for role in paired}
        found[subset] = measure_set(part, within, bootstrap, p.split, subset)
    return found


def subsets_of(p: Predictions) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Every "BREAKDOWN=VALUE" with the (N,) mask of its rows."""
    for breakdown, column in p.breakdowns.items():
        if breakdown == "group":
            raise HarnessError(f"set {p.split!r}: a breakdown may not be called 'group'.")
        for value in values_of(p, breakdown):
            yield f"{breakdown}={value}", column == value


def values_of(p: Predictions, breakdown: str) -> list[str]:
    """The values of a bias type, sorted, without "" (not applicable)."""
    return [value for value in np.unique(p.breakdowns[breakdown]).tolist() if value]


def measure_set(
    paired: PairedPredictions, metrics: Collection[Metric], bootstrap: Bootstrap, *of: str
) -> dict[str, Quantity]:
    """Metric name -> quantity on the rows that the models share."""
    p = first_of(paired)
    reasons = {metric.name: metric.applies(p) for metric in metrics}
    defined = [metric for metric in metrics if not reasons[metric.name]]
    of_labels = {metric.name: metric.evaluate for metric in defined if metric.of_labels}
    of_rows = {metric.name: metric.evaluate for metric in defined if not metric.of_labels}
    values = {
        **resample(of_labels, *bootstrap.cells(paired, *of)),
        **resample(of_rows, paired, bootstrap.rows(paired, *of)),
    }
    return {
        metric.name: Quantity(metric, len(p), values.get(metric.name, {}), reasons[metric.name])
        for metric in metrics
    }


def measure_groups(
    paired: PairedPredictions, bootstrap: Bootstrap
) -> dict[str, dict[str, Quantity]]:
    """Subset "group=NAME" -> its accuracy, on the same resamples as the whole set."""
    p = first_of(paired)
    values = resample({"acc": group_accuracies}, *bootstrap.cells(paired, p.split))["acc"]
    found = {}
    for index, name in enumerate(p.groups):
        n = int(p.membership[:, index].sum())
        of_group = {role: array[..., index] for role, array in values.items()} if n else {}
        reason = "" if n else f"no row of group {name}"
        found[f"group={name}"] = {"acc": Quantity(ACC, n, of_group, reason)}
    return found


def resample(
    functions: Mapping[str, Callable[[Predictions, Counts], Floats]],
    paired: PairedPredictions,
    rows: Iterator[Counts],
) -> dict[str, dict[str, Floats]]:
    """Function name -> role -> (S, 1 + B, ...) values: all see the same row counts."""
    chunks: dict[str, dict[str, list[Floats]]] = {
        name: {role: [] for role in paired} for name in functions
    }
    for counts in rows if functions else ():
        for name, function in functions.items():
            for role, predictions in paired.items():
                chunk = np.stack([function(p, counts) for p in predictions])
                chunks[name][role].append(chunk)
    return {
        name: {role: np.concatenate(parts, axis=1) for role, parts in roles.items()}
        for name, roles in chunks.items()
    }


def compared(found: Quantities, in_domain: Quantities | None) -> Quantities:
    """The quantities of an OOD set, with in-domain minus OOD for the metrics that compare the two.

    The two sets are resampled independently, the seeds together.
    """
    whole = dict(found[""])
    for name, q in found[""].items():
        if q.metric.against_in_domain:
            base = in_domain[""][name] if in_domain else None
            reason = q.reason or (base.reason if base else "there is no in-domain set")
            both = {} if reason or base is None else base.values
            values = {role: both[role] - q.values[role] for role in both}
            whole[name] = replace(q, values=values, reason=reason)
    return {**found, "": whole}


def not_compared(found: Quantities) -> Quantities:
    """The quantities of an in-domain set, which is not compared with itself."""
    whole = {name: q for name, q in found[""].items() if not q.metric.against_in_domain}
    return {**found, "": whole}


def scores_of(
    role: str, split: str, found: Quantities, p: Predictions, bootstrap: Bootstrap
) -> ModelScores:
    """One role on one set."""
    estimates = {
        subset: {name: estimate_of(q, role, bootstrap) for name, q in quantities.items()}
        for subset, quantities in found.items()
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
    )


def estimate_of(q: Quantity, role: str, bootstrap: Bootstrap) -> Estimate:
    """One role's estimate of one quantity."""
    if q.reason:
        return stats.undefined(bootstrap.seeds, q.n, q.reason)
    return stats.hierarchical(q.values[role], bootstrap.shares, q.n)


def transfers_of(
    student: str, split: str, found: Quantities, bootstrap: Bootstrap
) -> Iterator[Transfer]:
    """Every measure of one student on one set; nothing for a metric that does not apply."""
    for subset, quantities in found.items():
        for name, q in quantities.items():
            for measure, estimate in measures_of(student, q, bootstrap.shares):
                yield Transfer(student, split, subset, name, measure, estimate)


def measures_of(student: str, q: Quantity, shares: Floats) -> Iterator[tuple[str, Estimate]]:
    """The student against the teacher, the control and, for a performance, the ERM references.

    The difference to the teacher is `gap_widening` for a gap, else `distillability`. Gaps are
    signed and so is their difference: below 0 is a smaller gap, or one that has turned over.
    """
    values = q.values
    if not values:
        return
    against_teacher = "gap_widening" if q.metric.kind == "gap" else "distillability"
    for other, measure in (("teacher", against_teacher), ("control", "contribution")):
        if other in values:
            difference = values[student] - values[other]
            yield measure, stats.hierarchical(difference, shares, q.n)
    performance = q.metric.kind == "performance" and q.metric.higher_is_better
    if performance and {"teacher", "erm_teacher", "erm_student"} <= values.keys():
        yield "retention", retention(values, student, shares, q.n)


def retention(values: Mapping[str, Floats], student: str, shares: Floats, n: int) -> Estimate:
    """What the student gains over its ERM reference, as a share of what the teacher gains.

    A ratio of means over seeds, so that it has no value for a single seed. Undefined unless the
    95% interval of the teacher's gain lies above 0: near 0 the ratio says nothing.
    """
    gain = ((values[student] - values["erm_student"]) * shares).sum(axis=0)
    possible = ((values["teacher"] - values["erm_teacher"]) * shares).sum(axis=0)
    teacher = stats.estimate(possible, n)
    if not min(teacher.low, teacher.value) > 0:
        between = f"{teacher.value:.3f}, 95% interval {teacher.low:.3f} to {teacher.high:.3f}"
        reason = teacher.reason or f"the teacher's gain over ERM is not clearly above 0 ({between})"
        return Estimate(math.nan, n=n, reason=reason)
    # where a resampled teacher gains nothing the share has no bound; fewer than 2.5% do, so that
    # the interval stays finite
    share = np.where(gain == 0, 0.0, np.copysign(np.inf, gain))
    return stats.estimate(np.divide(gain, possible, out=share, where=possible > 0), n)


def wanted_on(split: str, wanted: str | Mapping[str, str] | None) -> str | None:
    """The gap that the task asks for on one set."""
    return wanted if wanted is None or isinstance(wanted, str) else wanted.get(split)


def primary_gap(found: Quantities, wanted: str | None = None) -> str:
    """The gap that the set's story is told with, "" where none is defined."""
    whole = found[""]
    order = (wanted, *PRIMARY) if wanted else PRIMARY
    return next((name for name in order if name in whole and whole[name].values), "")
