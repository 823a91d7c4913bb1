"""Every metric of every role of one task, on resamples of rows that all roles and seeds share.

One resample is one vector of row counts for a whole set: each difference between roles, seeds or
metrics is a paired one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness_plugin.errors import HarnessError
from harness_plugin.records import Counts, Floats, Predictions
from harness_plugin.scoring.bootstrap import Bootstrap, Drawn, by_row, resample, shared_and_alone
from harness_plugin.scoring.metrics import (
    ACC,
    Metric,
    accuracy,
    group_accuracies,
    ranked_groups,
    rates,
)
from harness_plugin.scoring.pairing import PairedPredictions, first_of, take
from harness_plugin.scoring.statistics.intervals import (
    Support,
    components,
    effective_clusters,
)
from harness_plugin.scoring.statistics.minimum import minimum


@dataclass(frozen=True)
class Quantity:
    """One metric of every role on one set or subset.

    `values[role]` (S, 1 + B): the plain number of each seed, then its resamples over rows. Empty
    where the metric does not apply; `reason` says why. All roles share these resamples, so that
    their differences are paired. `alone[role]`: the same number from resamples that depend on this
    role's answers only, so that what is said of a model does not depend on others. `plain[role]`:
    of a minimum over groups, each seed's number without its correction. `design_effect[role]`: of
    an accuracy of clusters.
    """

    metric: Metric
    support: Support
    values: Mapping[str, Floats]
    alone: Mapping[str, Floats]
    reason: str = ""
    plain: Mapping[str, tuple[float, ...]] | None = None
    design_effect: Mapping[str, float] | None = None


Quantities: TypeAlias = Mapping[str, Mapping[str, Quantity]]
"""Subset ("", "group=NAME", "BREAKDOWN=VALUE") -> metric name -> quantity."""


def support_of(p: Predictions, cells: NDArray[np.bool_], min_group: int) -> Support:
    """Rows and groups behind a number that compares the rates of `cells` (N, K)."""
    rows = cells.sum(axis=0)
    if not cells.shape[1]:
        return Support(len(p), 0, None, min_group)
    smallest = int(rows.min())
    if p.units is None:
        return Support(len(p), smallest, None, min_group)
    sizes = [np.unique(p.units[cell], return_counts=True)[1] for cell in cells.T]
    effective = min(map(effective_clusters, sizes))
    return Support(len(p), smallest, min(map(len, sizes)), min_group, effective=effective)


def leave_out(p: Predictions, min_group: int) -> Predictions:
    """The predictions with the groups named that have fewer than `min_group` rows."""
    rows = p.membership.sum(axis=0)
    few = [name for name, n in zip(p.groups, rows, strict=True) if n < min_group]
    return replace(p, left_out=tuple(few)) if few else p


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
    quantities: dict[str, Mapping[str, Quantity]] = {
        "": measure_set(paired, metrics.values(), bootstrap, p.split),
        **measure_groups(paired, bootstrap),
    }
    within = [metric for metric in metrics.values() if metric.within]
    for subset, rows in subsets_of(p):
        part = {role: tuple(take(x, rows) for x in paired[role]) for role in paired}
        quantities[subset] = measure_set(part, within, bootstrap, p.split, subset)
    return quantities


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
    paired = {
        role: tuple(leave_out(p, bootstrap.min_group) for p in paired[role]) for role in paired
    }
    p = first_of(paired)
    reasons = {metric.name: metric.applies(p) for metric in metrics}
    defined = [metric for metric in metrics if not reasons[metric.name]]
    drawn_for = [metric for metric in defined if not metric.without_interval]
    of_labels = {metric.name: metric.evaluate for metric in drawn_for if metric.of_labels}
    of_rows = [metric for metric in drawn_for if not metric.of_labels]
    minima = [metric for metric in defined if metric.of_minimum]
    parts = {PARTS: accuracy_and_ranked_groups} if minima else {}
    values, alone = shared_and_alone({**of_labels, **parts}, paired, bootstrap, *of)
    each_row: Drawn = {}
    if of_rows:  # no answer decides these draws
        each_row = resample(by_row(of_rows), paired, bootstrap.rows(paired, *of))
    once = {
        metric.name: plain_values(metric, paired, bootstrap.resamples)
        for metric in defined
        if metric.without_interval
    }
    values, alone = {**values, **each_row, **once}, {**alone, **each_row, **once}
    plain = {
        metric.name: {role: tuple(v[:, 0].tolist()) for role, v in values[metric.name].items()}
        for metric in minima
    }
    for metric in minima:
        for drawn in (alone, values):
            drawn[metric.name] = {
                role: corrected(metric, cells, bootstrap.seed)
                for role, cells in drawn[PARTS].items()
            }
        values[metric.name] = {
            role: v + (alone[metric.name][role][:, :1] - v[:, :1])
            for role, v in values[metric.name].items()
        }
    quantities = {}
    for metric in metrics:
        support = Support(len(p), 0)
        if not reasons[metric.name]:
            support = support_of(p, metric.cells(p), bootstrap.min_group)
            support = replace(support, without=metric.without_interval)
        quantities[metric.name] = Quantity(
            metric,
            support,
            values.get(metric.name, {}),
            alone.get(metric.name, {}),
            reasons[metric.name],
            plain.get(metric.name),
        )
    if "acc" in quantities:
        everyone = np.ones(len(p), dtype=bool)
        quantities["acc"] = with_design_effect(quantities["acc"], paired, everyone)
    return quantities


def plain_values(metric: Metric, paired: PairedPredictions, resamples: int) -> dict[str, Floats]:
    """Role -> (S, 1 + B) of a metric without interval: the plain numbers, then nan."""
    values_of = {}
    for role, predictions in paired.items():
        values = np.full((len(predictions), 1 + resamples), np.nan)
        values[:, 0] = [metric(p)[0] for p in predictions]
        values_of[role] = values
    return values_of


PARTS = "accuracy and ranked groups"


def accuracy_and_ranked_groups(p: Predictions, counts: Counts) -> Floats:
    """(B, 1 + R) accuracy, then that of every group which may be the worst."""
    groups = rates(p.correct, ranked_groups(p), counts)
    return np.column_stack([accuracy(p, counts), groups])


def corrected(metric: Metric, cells: Floats, seed: int) -> Floats:
    """(S, 1 + B) a metric of the corrected lowest group; `cells` (S, 1 + B, 1 + R)."""
    if metric.of_minimum is None:
        raise ValueError(metric.name)
    return metric.of_minimum(cells[..., 0], minimum(cells[..., 1:], seed))


def with_design_effect(q: Quantity, paired: PairedPredictions, rows: NDArray[np.bool_]) -> Quantity:
    """An accuracy over `rows` (N,) with the design effect of its clusters, where there are some.

    The variance of the mean over seeds against that of as many independent rows (Kish 1965).
    """
    if q.support.clusters is None or not q.values:
        return q
    effects = {}
    for role, values in q.alone.items():
        right = np.mean([p.correct[rows] for p in paired[role]], axis=0)
        independent = right.var(ddof=1) / len(right) if len(right) > 1 else 0.0
        clustered = float(components(values, q.support.df).rows)
        effects[role] = clustered / independent if independent else float("nan")
    return replace(q, design_effect=effects)


def measure_groups(
    paired: PairedPredictions, bootstrap: Bootstrap
) -> dict[str, dict[str, Quantity]]:
    """Subset "group=NAME" -> its accuracy, on the same resamples as the whole set."""
    p = first_of(paired)
    drawn = shared_and_alone({"acc": group_accuracies}, paired, bootstrap, p.split)
    quantities = {}
    for index, name in enumerate(p.groups):
        inside = p.membership[:, index]
        n = int(inside.sum())
        values, alone = (
            {role: array[..., index] for role, array in each["acc"].items()} if n else {}
            for each in drawn
        )
        reason = "" if n else f"no row of group {name}"
        support = replace(support_of(p, inside[:, None], bootstrap.min_group), n=n)
        q = Quantity(ACC, support, values, alone, reason)
        quantities[f"group={name}"] = {"acc": with_design_effect(q, paired, inside)}
    return quantities


def compared(quantities: Quantities, in_domain: Quantities | None) -> Quantities:
    """The quantities of an OOD set, with in-domain minus OOD for the metrics that compare the two.

    The two sets are resampled independently.
    """
    whole = dict(quantities[""])
    for name, q in quantities[""].items():
        if q.metric.against_in_domain:
            base = in_domain[""][name] if in_domain else None
            reason = q.reason or (base.reason if base else "there is no in-domain set")
            if reason or base is None:
                whole[name] = replace(q, values={}, alone={}, reason=reason)
                continue
            values, alone = (
                {role: theirs[role] - ours[role] for role in theirs}
                for theirs, ours in ((base.values, q.values), (base.alone, q.alone))
            )
            smaller = min(q.support, base.support, key=lambda support: support.df)
            support = replace(smaller, n=q.support.n)
            whole[name] = replace(q, values=values, alone=alone, support=support)
    return {**quantities, "": whole}


def not_compared(quantities: Quantities) -> Quantities:
    """The quantities of an in-domain set, which is not compared with itself."""
    whole = {name: q for name, q in quantities[""].items() if not q.metric.against_in_domain}
    return {**quantities, "": whole}
