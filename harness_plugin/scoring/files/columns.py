"""Columns of predicted labels, gold labels and groups → the same metrics as those of a run.

For users of `evaluate`, pandas or a notebook, who have no run: numbers and names, row by row.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness_plugin.data.columns import clusters_of
from harness_plugin.errors import HarnessError
from harness_plugin.records import Estimate, Predictions
from harness_plugin.scoring import metrics, score
from harness_plugin.scoring.bootstrap import Bootstrap
from harness_plugin.scoring.measure import Quantity, leave_out, measure_set
from harness_plugin.scoring.metrics import Metric


def as_predictions(
    predicted: Sequence[int],
    gold: Sequence[int],
    groups: Sequence[str] | None = None,
    *,
    known_groups: Sequence[str] | None = None,
    aligned: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    clusters: Sequence[str] | None = None,
    task: str = "columns",
    split: str = "columns",
) -> Predictions:
    """The record of one model's answers: labels (N,) as indices, groups (N,) as names.

    `known_groups` are all groups there are, those without a row included; by default those that
    occur, sorted. `aligned` (N,): 1 the bias points to the label, 0 away, -1 undefined. `labels`
    are the names of the indices. `clusters` (N,) names what rows have in common that are not
    independent, "" = nothing. Raises HarnessError for columns of unequal length, a label that is
    no index, and a group that is not known. `task` and `split`: what a run calls them.
    """
    predictions, right = np.asarray(predicted), np.asarray(gold)
    columns = {"predictions": predictions, "references": right}
    columns |= {} if groups is None else {"groups": np.asarray(groups, np.str_)}
    columns |= {} if aligned is None else {"aligned": np.asarray(aligned)}
    columns |= {} if clusters is None else {"clusters": np.asarray(clusters, np.str_)}
    for name, column in columns.items():
        if column.shape != right.shape or not len(right):
            raise HarnessError(
                f"{name}: {column.shape} values for {right.shape} references; expected one a row."
            )
    size = len(labels) if labels is not None else int(max(predictions.max(), right.max())) + 1
    for name in ("predictions", "references"):
        column = columns[name]
        if column.dtype.kind not in "iu" or column.min() < 0 or column.max() >= size:
            raise HarnessError(
                f"{name}: expected labels 0 to {size - 1}, found {np.unique(column)}."
            )
    names = tuple(known_groups if known_groups is not None else sorted(set(groups or ())))
    index = {name: i for i, name in enumerate(names)}
    for row, name in enumerate(groups or (), 1):
        if name not in index:
            raise HarnessError(f"groups: row {row} has {name!r}; known are {', '.join(names)}.")
    cluster, cluster_names = (None, ()) if clusters is None else clusters_of(clusters)
    n = len(right)
    return Predictions(
        task=task,
        split=split,
        role="model",
        model="model",
        seed=0,
        ids=np.arange(n).astype(np.str_),
        logits=np.eye(size, dtype=np.float32)[predictions],
        model_labels=tuple(labels) if labels is not None else tuple(map(str, range(size))),
        label=right.astype(np.int64),
        labels=tuple(labels) if labels is not None else tuple(map(str, range(size))),
        group=np.array([index[name] for name in groups] if groups else [-1] * n, np.int64),
        groups=names,
        aligned=np.full(n, -1) if aligned is None else np.asarray(aligned, np.int64),
        cluster=cluster,
        clusters=cluster_names,
        labels_only=True,
    )


def quantity(models: Mapping[str, Predictions], metric: Metric, bootstrap: Bootstrap) -> Quantity:
    """A metric of every role, on resamples that they share.

    Warns where it is not defined, and names groups with too few rows to steer a minimum.

    The numbers are those of a run with these answers, to the digit where task, set, number and seed
    of the resamples are.
    """
    first = next(iter(models.values()))
    paired = {role: (p,) for role, p in models.items()}
    measured = measure_set(paired, [metric], bootstrap, first.split)[metric.name]
    few = leave_out(first, bootstrap.min_group).left_out if metric.of_minimum else ()
    if measured.reason:
        warnings.warn(f"{metric.name} is not defined: {measured.reason}.", stacklevel=3)
    elif few:
        counts = ", ".join(f"{name} ({each_group(first)[name]['n']})" for name in few)
        least = bootstrap.min_group
        warnings.warn(
            f"{metric.name}: groups under {least} rows are left out: {counts}.", stacklevel=3
        )
    return measured


def numbers(name: str, estimate: Estimate) -> dict[str, float]:
    """`name`, the ends of its 95% interval over rows, and a minimum's number without correction."""
    out = {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return out | ({f"{name}_plain": estimate.plain[0]} if estimate.plain else {})


def is_entailment(labels: Sequence[str] | None) -> bool:
    """Whether these are the labels of HANS."""
    return {name.lower() for name in labels or ()} == {metrics.ENTAILMENT, metrics.NON_ENTAILMENT}


def group_accuracy(predictions: Predictions) -> dict[str, dict[str, float]]:
    """As `each_group`, with a warning for every group without a row."""
    for name, accuracy in each_group(predictions).items():
        if not accuracy["n"]:
            warnings.warn(f"group {name!r} has no row: its accuracy is nan.", stacklevel=3)
    return each_group(predictions)


def each_group(predictions: Predictions) -> dict[str, dict[str, float]]:
    """`accuracy` and number of rows `n` of every group; nan and 0 for one without a row."""
    accuracies = metrics.group_accuracies(predictions, np.ones((1, len(predictions))))[0]
    rows = predictions.membership.sum(axis=0)
    return {
        name: {"accuracy": float(a), "n": int(n)}
        for name, a, n in zip(predictions.groups, accuracies, rows, strict=True)
    }


def transfer(
    models: Mapping[str, Predictions], metric: Metric, gap: Metric, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Measures of a student's transfer (docs/concepts.md), with intervals.

    `models`: "student" and "teacher", and those that are known of "control", "erm_teacher" and
    "erm_student". What needs a model that is not given is None; nan is undefined, with a warning.
    """
    measures = dict(score.measures_of("student", quantity(models, metric, bootstrap), {}))
    of_gap = dict(score.measures_of("student", quantity(models, gap, bootstrap), {}))
    changed = [name for name in ("gap_widening", "gap_size_change") if name in of_gap]
    measures |= {name: of_gap[name] for name in changed}
    out: dict[str, Any] = {}
    for name in ("distillability", "contribution", "gap_widening", "gap_size_change", "retention"):
        if name not in measures:
            needs = {"contribution": ("control",), "retention": ("erm_teacher", "erm_student")}
            available = set(needs.get(name, ())) <= models.keys()
            nothing = math.nan if available else None
            out |= dict.fromkeys((name, f"{name}_low", f"{name}_high"), nothing)
            continue
        if math.isnan(measures[name].value):
            warnings.warn(f"{name} is not defined: {measures[name].reason}.", stacklevel=2)
        out |= numbers(name, measures[name])
    return out
