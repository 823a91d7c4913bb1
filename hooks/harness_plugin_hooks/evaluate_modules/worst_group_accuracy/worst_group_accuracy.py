"""Lowest accuracy of any group."""

from __future__ import annotations

from typing import Any

from harness_plugin.scoring import metrics
from harness_plugin.scoring.files import columns
from harness_plugin_hooks.evaluate_modules.factory import metric_class


def compute(
    predictions: list[int],
    references: list[int],
    groups: list[str],
    known_groups: list[str] | None = None,
) -> dict[str, Any]:
    """`worst_group_accuracy` in [0, 1], or nan, and `worst_group`, "" where it is nan."""
    p = columns.as_predictions(predictions, references, groups, known_groups=known_groups)
    worst = columns.value(metrics.WORST_GROUP_ACC, p)
    accuracy = {name: each["accuracy"] for name, each in columns.each_group(p).items()}
    name = min(accuracy, key=accuracy.__getitem__) if worst == worst else ""
    return {"worst_group_accuracy": worst, "worst_group": name}


WorstGroupAccuracy = metric_class(
    compute,
    "WorstGroupAccuracy",
    "Lowest accuracy of any group, and which group it is.",
    "Sagawa et al. 2020, arXiv:1911.08731",
)
