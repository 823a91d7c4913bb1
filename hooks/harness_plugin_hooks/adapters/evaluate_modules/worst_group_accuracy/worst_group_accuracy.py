"""Lowest accuracy of any group."""

from __future__ import annotations

from typing import Any

from harness_plugin.scoring import metrics, score
from harness_plugin.scoring.files import columns
from harness_plugin_hooks.adapters.evaluate_modules.factory import (
    RESAMPLING,
    metric_class,
    resampled,
)


def compute(
    predictions: list[int],
    references: list[int],
    groups: list[str],
    known_groups: list[str] | None = None,
    **resampling: Any,
) -> dict[str, Any]:
    """`worst_group_accuracy` in [0, 1], or nan, and `worst_group`, "" where it is nan.

    Corrected for having been looked for, with the 95% interval over rows (`_low`, `_high`);
    `_plain` is the lowest one as it was measured.
    """
    split, bootstrap = resampled(**resampling)
    p = columns.as_predictions(
        predictions, references, groups, known_groups=known_groups, task=bootstrap.task, split=split
    )
    quantity = columns.quantity({"model": p}, metrics.WORST_GROUP_ACC, bootstrap)
    accuracy = {
        name: each["accuracy"]
        for name, each in columns.each_group(p).items()
        if each["n"] >= bootstrap.min_group
    }
    name = "" if quantity.reason else min(accuracy, key=accuracy.__getitem__)
    number = columns.numbers("worst_group_accuracy", score.estimate_of(quantity, "model", 1))
    return {**number, "worst_group": name}


WorstGroupAccuracy = metric_class(
    compute,
    "WorstGroupAccuracy",
    "Lowest accuracy of any group, and which group it is.",
    "Sagawa et al. 2020, arXiv:1911.08731",
    **RESAMPLING,
)
