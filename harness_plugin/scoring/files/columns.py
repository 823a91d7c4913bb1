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
from harness_plugin.records import Predictions
from harness_plugin.scoring import metrics
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
) -> Predictions:
    """The record of one model's answers: labels (N,) as indices, groups (N,) as names.

    `known_groups` are all groups there are, those without a row included; by default those that
    occur, sorted. `aligned` (N,): 1 the bias points to the label, 0 away, -1 undefined. `labels`
    are the names of the indices. `clusters` (N,) names what rows have in common that are not
    independent, "" = nothing. Raises HarnessError for columns of unequal length, a label that is
    no index, and a group that is not known.
    """
    said, right = np.asarray(predicted), np.asarray(gold)
    columns = {"predictions": said, "references": right}
    columns |= {} if groups is None else {"groups": np.asarray(groups, np.str_)}
    columns |= {} if aligned is None else {"aligned": np.asarray(aligned)}
    columns |= {} if clusters is None else {"clusters": np.asarray(clusters, np.str_)}
    for name, column in columns.items():
        if column.shape != right.shape or not len(right):
            raise HarnessError(
                f"{name}: {column.shape} values for {right.shape} references; expected one a row."
            )
    size = len(labels) if labels is not None else int(max(said.max(), right.max())) + 1
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
        task="columns",
        split="columns",
        role="model",
        model="model",
        seed=0,
        ids=np.arange(n).astype(np.str_),
        logits=np.eye(size, dtype=np.float32)[said],
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


def value(metric: Metric, predictions: Predictions) -> float:
    """The plain number; nan with a warning where it is not defined."""
    if reason := metric.applies(predictions):
        warnings.warn(f"{metric.name} is not defined: {reason}.", stacklevel=3)
        return math.nan
    return float(metric(predictions)[0])


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


def transfer(models: Mapping[str, Predictions], metric: Metric, gap: Metric) -> dict[str, Any]:
    """What a student keeps of its teacher: D, K, gap widening, retention.

    `models`: "student" and "teacher", and those that are known of "control", "erm_teacher" and
    "erm_student". D (distillability) = M(student) - M(teacher), K (contribution) = M(student) -
    M(control), retention = (M(student) - M(ERM student)) / (M(teacher) - M(ERM teacher)), widening
    = gap(student) - gap(teacher). What needs a model that is not given is None; nan is undefined.
    """
    scores = {role: value(metric, p) for role, p in models.items()}
    gaps = {role: value(gap, models[role]) for role in ("student", "teacher")}
    out: dict[str, Any] = {
        "distillability": scores["student"] - scores["teacher"],
        "contribution": None,
        "gap_widening": gaps["student"] - gaps["teacher"],
        "retention": None,
    }
    if "control" in scores:
        out["contribution"] = scores["student"] - scores["control"]
    if {"erm_teacher", "erm_student"} <= scores.keys():
        possible = scores["teacher"] - scores["erm_teacher"]
        out["retention"] = math.nan
        if possible > 0:
            out["retention"] = (scores["student"] - scores["erm_student"]) / possible
        else:
            warnings.warn(
                "retention is not defined: the teacher gains nothing over ERM.", stacklevel=2
            )
    return out
