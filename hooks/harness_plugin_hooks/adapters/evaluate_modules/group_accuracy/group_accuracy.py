"""Accuracy of every group."""

from __future__ import annotations

from typing import Any

from harness_plugin.scoring.files import columns
from harness_plugin_hooks.adapters.evaluate_modules.factory import metric_class


def compute(
    predictions: list[int],
    references: list[int],
    groups: list[str],
    known_groups: list[str] | None = None,
) -> dict[str, Any]:
    """`group_accuracy` {group: value in [0, 1] or nan}, `n` {group: rows}."""
    p = columns.as_predictions(predictions, references, groups, known_groups=known_groups)
    accuracy = columns.group_accuracy(p)
    return {
        "group_accuracy": {name: each["accuracy"] for name, each in accuracy.items()},
        "n": {name: int(each["n"]) for name, each in accuracy.items()},
    }


GroupAccuracy = metric_class(
    compute,
    "GroupAccuracy",
    "Accuracy and number of rows of every group.",
    "Sagawa et al. 2020, arXiv:1911.08731",
)
