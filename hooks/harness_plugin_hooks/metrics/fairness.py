"""Measures of group fairness for tasks with two labels, beside the gaps in accuracy.

An attribute is what follows the label in a group's name, `label/attribute`. Of several differences
the largest is taken, as fairlearn does: resamples add to it, so that it has no interval.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness_plugin.records import Counts, Floats, Predictions, label_spelling
from harness_plugin.scoring.metrics import (
    Bools,
    Metric,
    needs_probabilities,
    positive_label,
    rates,
)

LARGEST = "the largest of several differences lies too high in resamples"
LOWEST = "the lowest of several areas lies too low in resamples"


def attributes_of(predictions: Predictions) -> dict[str, Bools]:
    """Attribute -> its rows (N,), from groups that are called label/attribute; empty for others."""
    labels = {label_spelling(label) for label in predictions.labels}
    columns: dict[str, Bools] = {}
    for name, rows in zip(predictions.groups, predictions.membership.T, strict=True):
        label, _, attribute = name.partition("/")
        if not attribute or label_spelling(label) not in labels:
            return {}
        columns[attribute] = columns.get(attribute, np.zeros(len(rows), dtype=bool)) | rows
    return {name: rows for name, rows in columns.items() if rows.any()}


def cells_of(predictions: Predictions) -> Bools:
    """(N, A) the rows of every attribute."""
    return np.column_stack(list(attributes_of(predictions).values()))


def is_positive(predictions: Predictions) -> Bools:
    """(N,) whether the gold label is the positive one."""
    return np.equal(predictions.label, positive_label(predictions.labels))


def predicted_positive(predictions: Predictions) -> Bools:
    """(N,) whether the model says the positive label."""
    return np.equal(predictions.predicted, positive_label(predictions.labels))


def needs_attributes(predictions: Predictions) -> str:
    """Defined for two labels and two attributes at least."""
    if len(predictions.labels) != 2:
        return f"there are {len(predictions.labels)} labels, not two"
    if len(attributes_of(predictions)) < 2:
        return "the groups are not label/attribute of two attributes"
    return ""


def needs_parts(predictions: Predictions) -> str:
    """Defined where, besides, no row has two attributes: a row counts on one side."""
    if reason := needs_attributes(predictions):
        return reason
    return "the attributes overlap" if predictions.members is not None else ""


def needs_positives(predictions: Predictions) -> str:
    """Defined where, besides, every attribute has a row of the positive label."""
    return needs_parts(predictions) or lacking(predictions, is_positive(predictions), "positive")


def needs_negatives(predictions: Predictions) -> str:
    """The same of the negative label."""
    return needs_parts(predictions) or lacking(predictions, ~is_positive(predictions), "negative")


def needs_both(predictions: Predictions) -> str:
    """The same of either label."""
    return needs_positives(predictions) or needs_negatives(predictions)


def needs_areas(predictions: Predictions) -> str:
    """Defined with probabilities where every attribute has either label, and so have the others."""
    if reason := needs_attributes(predictions) or needs_probabilities(predictions):
        return reason
    positive = is_positive(predictions)
    for name, rows in attributes_of(predictions).items():
        for side, where in (("of", rows), ("without", ~rows)):
            if not (where & positive).any() or not (where & ~positive).any():
                return f"the rows {side} {name} have one label"
    return ""


def lacking(predictions: Predictions, rows: Bools, kind: str) -> str:
    """Which attribute has none of `rows` (N,)."""
    has = {name: (rows & mine).any() for name, mine in attributes_of(predictions).items()}
    return next((f"no {kind} row of {name}" for name, any_ in has.items() if not any_), "")


def selection_rates(predictions: Predictions, counts: Counts) -> Floats:
    """(B, A) share of rows of every attribute that the model calls positive."""
    return rates(predicted_positive(predictions), cells_of(predictions), counts)


def rates_by_label(predictions: Predictions, counts: Counts, positive: bool) -> Floats:
    """(B, A) the same among the rows whose gold label is positive (TPR), or negative (FPR)."""
    rows = is_positive(predictions) == positive
    return rates(predicted_positive(predictions), cells_of(predictions) & rows[:, None], counts)


def spread(values: Floats) -> Floats:
    """(B,) highest minus lowest."""
    difference: Floats = values.max(axis=1) - values.min(axis=1)
    return difference


def demographic_parity_difference(predictions: Predictions, counts: Counts) -> Floats:
    """(B,) highest minus lowest selection rate of any attribute."""
    return spread(selection_rates(predictions, counts))


def demographic_parity_ratio(predictions: Predictions, counts: Counts) -> Floats:
    """(B,) lowest over highest selection rate; nan where nothing is called positive."""
    rates = selection_rates(predictions, counts)
    highest = rates.max(axis=1)
    ratio: Floats = np.divide(
        rates.min(axis=1), highest, out=np.full_like(highest, np.nan), where=highest > 0
    )
    return ratio


def true_positive_rate_gap(predictions: Predictions, counts: Counts) -> Floats:
    """(B,) highest minus lowest true positive rate: equality of opportunity (Hardt et al. 2016)."""
    return spread(rates_by_label(predictions, counts, positive=True))


def false_positive_rate_gap(predictions: Predictions, counts: Counts) -> Floats:
    """(B,) highest minus lowest false positive rate."""
    return spread(rates_by_label(predictions, counts, positive=False))


def equalized_odds_difference(predictions: Predictions, counts: Counts) -> Floats:
    """(B,) the larger of both gaps (Hardt et al. 2016, as fairlearn)."""
    return np.maximum(
        true_positive_rate_gap(predictions, counts), false_positive_rate_gap(predictions, counts)
    )


def area(score: Floats, positive: Bools, counts: Counts) -> Floats:
    """(B,) chance that a positive row has a higher score than a negative one, ties half.

    nan where a resample has no row of one kind.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    ones, zeros = (
        np.add.reduceat((counts * kind)[:, order].astype(np.float64), starts, axis=1)
        for kind in (positive, ~positive)
    )
    below = zeros.cumsum(axis=1) - zeros / 2
    pairs = ones.sum(axis=1) * zeros.sum(axis=1)
    won = (ones * below).sum(axis=1)
    chance: Floats = np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0)
    return chance


Chosen = Callable[[Bools, Bools], Bools]


def lowest_area(chosen: Chosen) -> Callable[[Predictions, Counts], Floats]:
    """The metric (B,): the lowest area of any attribute on the rows that `chosen` gives.

    `chosen` gets the rows of the attribute and the positive rows, (N,) each.
    """

    def metric(predictions: Predictions, counts: Counts) -> Floats:
        positive = is_positive(predictions)
        score = predictions.probabilities[:, positive_label(predictions.labels)]
        areas = [
            area(score[rows], positive[rows], counts[:, rows])
            for mine in attributes_of(predictions).values()
            for rows in (chosen(mine, positive),)
        ]
        lowest: Floats = np.min(areas, axis=0)
        return lowest

    return metric


def difference_of(
    name: str,
    function: Callable[[Predictions, Counts], Floats],
    summary: str,
    applies: Callable[[Predictions], str],
) -> Metric:
    """A gap that is the largest difference of rates."""
    return Metric(
        name,
        function,
        False,
        "gap",
        summary,
        applies=applies,
        cells=cells_of,
        without_interval=LARGEST,
    )


def area_of(name: str, chosen: Chosen, summary: str) -> Metric:
    """A performance that is the lowest area."""
    return Metric(
        name,
        lowest_area(chosen),
        True,
        "performance",
        summary,
        applies=needs_areas,
        cells=cells_of,
        without_interval=LOWEST,
    )


DEMOGRAPHIC_PARITY_DIFFERENCE = difference_of(
    "demographic_parity_difference",
    demographic_parity_difference,
    "highest minus lowest share called positive, over attributes",
    needs_parts,
)
DEMOGRAPHIC_PARITY_RATIO = Metric(
    "demographic_parity_ratio",
    demographic_parity_ratio,
    True,
    "performance",
    "lowest over highest share called positive, over attributes",
    applies=needs_parts,
    cells=cells_of,
    without_interval=LOWEST.replace("areas", "rates"),
)
TPR_GAP = difference_of(
    "tpr_gap",
    true_positive_rate_gap,
    "highest minus lowest true positive rate, over attributes",
    needs_positives,
)
FPR_GAP = difference_of(
    "fpr_gap",
    false_positive_rate_gap,
    "highest minus lowest false positive rate, over attributes",
    needs_negatives,
)
EQUALIZED_ODDS_DIFFERENCE = difference_of(
    "equalized_odds_difference",
    equalized_odds_difference,
    "the larger of tpr_gap and fpr_gap",
    needs_both,
)
SUBGROUP_AUC = area_of(
    "subgroup_auc", lambda mine, positive: mine, "lowest AUC within an attribute"
)
BPSN_AUC = area_of(
    "bpsn_auc",
    lambda mine, positive: mine ^ positive,
    "lowest AUC of positive rows without an attribute and negative rows with it",
)
BNSP_AUC = area_of(
    "bnsp_auc",
    lambda mine, positive: ~(mine ^ positive),
    "lowest AUC of negative rows without an attribute and positive rows with it",
)
