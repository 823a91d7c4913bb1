"""Share of correct rows."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from sklearn.metrics import accuracy_score

DESCRIPTION = """Share of correct rows, as scikit-learn counts it; for use without the hub."""

INPUTS = """
Args:
    predictions: predicted labels, indices (N,).
    references: gold labels, indices (N,).
"""


class Accuracy(evaluate.Metric):  # type: ignore[misc]
    """Share of correct rows."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="scikit-learn",
            inputs_description=INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Value("int64"),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(
        self,
        predictions: list[int],
        references: list[int],
        groups: list[str] | None = None,  # what it is combined with may need them
    ) -> dict[str, Any]:
        """`accuracy` in [0, 1]; `groups` are not looked at."""
        return {"accuracy": float(accuracy_score(references, predictions))}
