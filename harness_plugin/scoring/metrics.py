"""Metrics of one model on one evaluation set: pure functions of its predictions.

Every metric takes the predictions (N rows) and a matrix `counts` (B, N): how often each row is
counted in each of B resamples. It gives B values. All-ones counts give the plain number; the same
counts given to several models make a paired comparison. All values are fractions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness_plugin.errors import HarnessError
from harness_plugin.records import Counts, Floats, Ints, MetricInfo, Predictions

Bools: TypeAlias = NDArray[np.bool_]

ENTAILMENT, NON_ENTAILMENT = "entailment", "non-entailment"
ECE_BINS = 15


def all_rows(predictions: Predictions) -> Bools:
    """(N, 1) one cell of all rows."""
    return np.ones((len(predictions), 1), dtype=bool)


def always(predictions: Predictions) -> str:
    """The metric is defined on every set."""
    return ""


@dataclass(frozen=True)
class Metric:
    """A named number of one model on one evaluation set.

    `function(predictions, counts (B, N)) -> (B,)`. `applies(predictions)` is "" where the metric
    is defined and the reason where it is not; it may depend on the rows, never on the model.
    `kind`: a "gap" is a signed difference (0 = treats both sides alike), "performance" and
    "calibration" stand alone. `within`: also computed within every value of a breakdown.
    `against_in_domain`: the value on an OOD set is function(in-domain set) - function(OOD set).
    `of_labels`: depends on predicted labels, gold labels, groups and alignment only, so that rows
    which agree in all of them may be handed over as one, with their number as its count.
    """

    name: str
    function: Callable[[Predictions, Counts], Floats]
    higher_is_better: bool
    kind: Literal["performance", "gap", "calibration"]
    summary: str
    bounds: tuple[float, float] = (0.0, 1.0)
    applies: Callable[[Predictions], str] = always
    within: bool = False
    against_in_domain: bool = False
    of_labels: bool = False
    cells: Callable[[Predictions], Bools] = all_rows
    """(N, K) the sets of rows whose rates it compares; the smallest decides of an interval."""
    of_minimum: Callable[[Floats, Floats], Floats] | None = None
    """Of a minimum over groups: the metric from the accuracy and the corrected lowest accuracy."""
    without_interval: str = ""
    """Why the metric has no interval; "" where it has one. It is then not resampled."""
    prepared: Callable[[Predictions], Callable[[Counts], Floats]] | None = None
    """Taken for `function`, the same in two steps: what is made of N rows is made once, not in each
    of the chunks in which counts come, more of them for more rows."""

    @property
    def info(self) -> MetricInfo:
        """The metric's name, kind and bounds, without its function."""
        return MetricInfo(self.name, self.kind, self.bounds, self.higher_is_better, self.summary)

    def __call__(self, predictions: Predictions, counts: Counts | None = None) -> Floats:
        """(B,) values; without `counts`, (1,) the plain number.

        Raises HarnessError when the metric does not apply, is infinite or has another shape.
        """
        if reason := self.applies(predictions):
            raise HarnessError(f"metric {self.name!r} on set {predictions.split!r}: {reason}.")
        return self.evaluate(
            predictions, np.ones((1, len(predictions))) if counts is None else counts
        )

    def evaluate(self, predictions: Predictions, counts: Counts) -> Floats:
        """(B,) values where the metric is known to apply; errors as above."""
        return self.of(predictions)(counts)

    def of(self, predictions: Predictions) -> Callable[[Counts], Floats]:
        """`evaluate` of these predictions, for many chunks of counts."""
        function = (self.prepared or (lambda p: partial(self.function, p)))(predictions)
        named = f"metric {self.name!r} on set {predictions.split!r}"

        def evaluated(counts: Counts) -> Floats:
            values = np.asarray(function(counts), dtype=np.float64)
            expected = (len(counts),)
            if values.shape != expected:
                raise HarnessError(f"{named} gave shape {values.shape}; expected {expected}.")
            if np.isinf(values).any():
                raise HarnessError(f"{named} is infinite.")
            return values

        return evaluated


def one_hot(codes: Ints, size: int) -> Bools:
    """(N, size) whether row i has code j; a code outside [0, size) is in no column."""
    return np.equal(codes[:, None], np.arange(size))


def totals(counts: Counts, columns: NDArray[Any]) -> Floats:
    """(B, K) sum of each column (N, K) over the rows of every resample.

    Computed in the precision of `counts`: float32 counts sum whole numbers exactly.
    """
    return (counts @ columns.astype(counts.dtype)).astype(np.float64)


def rates(hit: Bools, cells: Bools, counts: Counts) -> Floats:
    """(B, K) share of hits (N,) in every cell (N, K); nan where a cell has no row."""
    hits, rows = np.hsplit(totals(counts, np.hstack([cells & hit[:, None], cells])), 2)
    return np.divide(hits, rows, out=np.full_like(hits, np.nan), where=rows > 0)


def gap(hit: Bools, favoured: Bools, other: Bools, counts: Counts) -> Floats:
    """(B,) share of hits among `favoured` rows minus that among `other` rows."""
    both = rates(hit, np.column_stack([favoured, other]), counts)
    return both[:, 0] - both[:, 1]


def accuracy(predictions: Predictions, counts: Counts) -> Floats:
    """(B,) share of correct rows."""
    return rates(predictions.correct, all_rows(predictions), counts)[:, 0]


def group_accuracies(predictions: Predictions, counts: Counts) -> Floats:
    """(B, G) accuracy of every group by id, in the order of `groups`; nan for an absent one."""
    return rates(predictions.correct, predictions.membership, counts)


def ranked_groups(predictions: Predictions) -> Bools:
    """(N, R) membership of the groups that have rows enough to be in a minimum."""
    kept = [name not in predictions.left_out for name in predictions.groups]
    members: Bools = predictions.membership[:, kept]
    return members


def worst_group_accuracy(predictions: Predictions, counts: Counts) -> Floats:
    """(B,) lowest accuracy of any group (Sagawa et al. 2020), not that of the smallest group.

    As papers print it: the minimum of noisy accuracies, which lies too low (scoring.minimum).
    """
    lowest: Floats = rates(predictions.correct, ranked_groups(predictions), counts).min(axis=1)
    return lowest


def train_weighted_accuracy(predictions: Predictions, counts: Counts) -> Floats:
    """(B,) group accuracies weighted by the groups' shares of the training set.

    The "average accuracy" of Waterbirds and of Sagawa et al. (2020).
    """
    rows = predictions.train_groups or {}
    shares = np.array([rows[name] for name in predictions.groups], dtype=np.float64)
    weighted: Floats = group_accuracies(predictions, counts) @ (shares / shares.sum())
    return weighted


def positive_label(labels: tuple[str, ...]) -> int:
    """Which of two labels F1 is about: the second, or "entailment" where that is the first."""
    return 0 if labels[0] == ENTAILMENT else 1


def f1(predictions: Predictions, counts: Counts) -> Floats:
    """(B,) F1 of the positive label for two labels, the mean F1 over the labels for more."""
    size = len(predictions.labels)
    gold, predicted = one_hot(predictions.label, size), one_hot(predictions.predicted, size)
    sums = totals(counts, np.hstack([gold & predicted, gold, predicted]))
    both, gold_rows, predicted_rows = np.hsplit(sums, 3)
    scores: Floats = 2 * both / (gold_rows + predicted_rows)
    return scores[:, positive_label(predictions.labels)] if size == 2 else scores.mean(axis=1)


def aligned_conflicting_gap(predictions: Predictions, counts: Counts) -> Floats:
    """(B,) accuracy where the bias points to the label minus accuracy where it points away."""
    aligned = predictions.aligned
    return gap(predictions.correct, aligned == 1, aligned == 0, counts)


def average_worst_gap(predictions: Predictions, counts: Counts) -> Floats:
    """(B,) accuracy minus worst-group accuracy."""
    groups = ranked_groups(predictions)
    cells = rates(predictions.correct, np.hstack([all_rows(predictions), groups]), counts)
    difference: Floats = cells[:, 0] - cells[:, 1:].min(axis=1)
    return difference


def entailment_gap(predictions: Predictions, counts: Counts) -> Floats:
    """(B,) accuracy on entailment minus non-entailment rows (HANS, McCoy et al. 2019)."""
    entailed = predictions.label == entailment_index(predictions)
    return gap(predictions.correct, entailed, ~entailed, counts)


def calibration_error(predictions: Predictions, counts: Counts) -> Floats:
    """(B,) expected calibration error (Guo et al. 2017) over 15 bins (k/15, (k+1)/15].

    The confidence is the probability of the predicted label after the collapse. Sampling noise
    adds to a sum of absolute values: resampled values lie somewhat above the plain number.
    """
    return calibration_of(predictions)(counts)


def calibration_of(predictions: Predictions) -> Callable[[Counts], Floats]:
    """`calibration_error` of these predictions: every row is put into its bin once."""
    rows = np.arange(len(predictions))
    confidence = predictions.probabilities[rows, predictions.predicted]
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    excess = np.zeros((len(rows), ECE_BINS))
    excess[rows, bins] = predictions.correct - confidence

    def of_counts(counts: Counts) -> Floats:
        nonlocal excess
        excess = excess.astype(counts.dtype, copy=False)
        error: Floats = np.abs(totals(counts, excess)).sum(axis=1) / counts.sum(axis=1)
        return error

    return of_counts


def entailment_index(predictions: Predictions) -> int:
    """Index of the entailment label."""
    return [label.lower() for label in predictions.labels].index(ENTAILMENT)


def needs_every_group(predictions: Predictions) -> str:
    """Defined where the set has groups and a row of each."""
    if not predictions.groups:
        return "the set has no groups"
    rows = predictions.membership.sum(axis=0)
    empty = [name for name, n in zip(predictions.groups, rows, strict=True) if n == 0]
    return f"no row of group {', '.join(empty)}" if empty else ""


def needs_ranked_groups(predictions: Predictions) -> str:
    """Defined where a group has rows enough; those that have not are left out and named."""
    if not predictions.groups:
        return "the set has no groups"
    rows = predictions.membership.sum(axis=0)
    if set(predictions.groups) <= set(predictions.left_out):
        return f"no group has rows enough to steer a minimum, the largest has {rows.max()}"
    ranked = zip(predictions.groups, rows, strict=True)
    empty = [name for name, n in ranked if n == 0 and name not in predictions.left_out]
    return f"no row of group {', '.join(empty)}" if empty else ""


def gold_labels(predictions: Predictions) -> Bools:
    """(N, C) the rows of every label."""
    return one_hot(predictions.label, len(predictions.labels))


def both_alignments(predictions: Predictions) -> Bools:
    """(N, 2) the bias-aligned and the bias-conflicting rows."""
    return np.column_stack([predictions.aligned == 1, predictions.aligned == 0])


def membership(predictions: Predictions) -> Bools:
    """(N, G) the rows of every group."""
    return predictions.membership


def needs_training_groups(predictions: Predictions) -> str:
    """Defined where, besides, the training set has the same groups."""
    if reason := needs_every_group(predictions):
        return reason
    if predictions.members is not None:
        return "the groups overlap: they have no shares"
    train = predictions.train_groups or {}
    if not sum(train.values()):
        return "the training set has no groups"
    return "" if set(train) == set(predictions.groups) else "the training set has other groups"


def needs_every_label(predictions: Predictions) -> str:
    """Defined where every label has a row."""
    present = set(np.unique(predictions.label).tolist())
    absent = [name for i, name in enumerate(predictions.labels) if i not in present]
    return f"no row of label {', '.join(absent)}" if absent else ""


def needs_alignment(predictions: Predictions) -> str:
    """Defined where some rows are bias-aligned and some bias-conflicting."""
    for value, name in ((1, "bias-aligned"), (0, "bias-conflicting")):
        if not (predictions.aligned == value).any():
            return f"no {name} row"
    return ""


def needs_entailment(predictions: Predictions) -> str:
    """Defined where the labels are entailment and non-entailment, with rows of both."""
    if {label.lower() for label in predictions.labels} != {ENTAILMENT, NON_ENTAILMENT}:
        return "the labels are not entailment and non-entailment"
    return needs_every_label(predictions)


def needs_probabilities(predictions: Predictions) -> str:
    """Defined where a model says how sure it is."""
    return "a model gave labels without probabilities" if predictions.labels_only else ""


ACC = Metric(
    "acc", accuracy, True, "performance", "share of correct rows", within=True, of_labels=True
)
F1 = Metric(
    "f1",
    f1,
    True,
    "performance",
    "F1 of the positive label (two labels) or macro F1 (more)",
    applies=needs_every_label,
    of_labels=True,
    cells=gold_labels,
)
WORST_GROUP_ACC = Metric(
    "worst_group_acc",
    worst_group_accuracy,
    True,
    "performance",
    "lowest accuracy of any group",
    applies=needs_ranked_groups,
    of_labels=True,
    cells=ranked_groups,
    of_minimum=lambda accuracy, lowest: lowest,
)
ACC_TRAIN_WEIGHTED = Metric(
    "acc_train_weighted",
    train_weighted_accuracy,
    True,
    "performance",
    "group accuracies weighted by the training set's group shares",
    applies=needs_training_groups,
    of_labels=True,
    cells=membership,
)
GAP_ID_OOD = Metric(
    "gap_id_ood",
    accuracy,
    False,
    "gap",
    "accuracy in domain minus accuracy on this out-of-distribution set",
    bounds=(-1.0, 1.0),
    against_in_domain=True,
    of_labels=True,
)
GAP_ALIGNED_CONFLICTING = Metric(
    "gap_aligned_conflicting",
    aligned_conflicting_gap,
    False,
    "gap",
    "accuracy on bias-aligned minus bias-conflicting rows",
    bounds=(-1.0, 1.0),
    applies=needs_alignment,
    within=True,
    of_labels=True,
    cells=both_alignments,
)
GAP_AVG_WORST = Metric(
    "gap_avg_worst",
    average_worst_gap,
    False,
    "gap",
    "accuracy minus worst-group accuracy",
    bounds=(-1.0, 1.0),
    applies=needs_ranked_groups,
    of_labels=True,
    cells=ranked_groups,
    of_minimum=lambda accuracy, lowest: accuracy - lowest,
)
GAP_ENTAILMENT = Metric(
    "gap_entailment",
    entailment_gap,
    False,
    "gap",
    "accuracy on entailment minus non-entailment rows",
    bounds=(-1.0, 1.0),
    applies=needs_entailment,
    within=True,
    of_labels=True,
    cells=gold_labels,
)
ECE = Metric(
    "ece",
    calibration_error,
    False,
    "calibration",
    "expected calibration error, 15 equal-width bins",
    applies=needs_probabilities,
    prepared=calibration_of,
)
