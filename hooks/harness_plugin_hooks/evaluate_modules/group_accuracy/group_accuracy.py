"""Accuracy of every group."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from harness_plugin.scoring import columns

DESCRIPTION = """Accuracy and number of rows of every group."""

INPUTS = """
Args:
    predictions: predicted labels, indices (N,).
    references: gold labels, indices (N,).
    groups: name of each row's group (N,).
    known_groups: all groups there are, those without a row included; default: those that occur.
        A group without a row makes the result nan, with a warning.
"""


class GroupAccuracy(evaluate.Metric):  # type: ignore[misc]
    """Accuracy of every group."""

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
        """`group_accuracy` {group: value in [0, 1] or nan}, `n` {group: rows}."""
        p = columns.as_predictions(predictions, references, groups, known_groups=known_groups)
        found = columns.group_accuracy(p)
        return {
            "group_accuracy": {name: each["accuracy"] for name, each in found.items()},
            "n": {name: int(each["n"]) for name, each in found.items()},
        }
