"""Lowest accuracy of any group."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from harness_plugin.scoring import columns, metrics

DESCRIPTION = """Lowest accuracy of any group, and which group it is."""

INPUTS = """
Args:
    predictions: predicted labels, indices (N,).
    references: gold labels, indices (N,).
    groups: name of each row's group (N,).
    known_groups: all groups there are, those without a row included; default: those that occur.
        A group without a row makes the result nan, with a warning.
"""


class WorstGroupAccuracy(evaluate.Metric):  # type: ignore[misc]
    """Lowest accuracy of any group."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="Sagawa et al. 2020, arXiv:1911.08731",
            inputs_description=INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Value("int64"),
                    "references": datasets.Value("int64"),
                    "groups": datasets.Value("string"),
                }
            ),
        )

    def _compute(
        self,
        predictions: list[int],
        references: list[int],
        groups: list[str],
        known_groups: list[str] | None = None,
    ) -> dict[str, Any]:
        """`worst_group_accuracy` in [0, 1], or nan, and `worst_group`, "" where it is nan."""
        p = columns.as_predictions(predictions, references, groups, known_groups=known_groups)
        worst = columns.value(metrics.WORST_GROUP_ACC, p)
        accuracy = {name: found["accuracy"] for name, found in columns.each_group(p).items()}
        name = min(accuracy, key=accuracy.__getitem__) if worst == worst else ""
        return {"worst_group_accuracy": worst, "worst_group": name}
