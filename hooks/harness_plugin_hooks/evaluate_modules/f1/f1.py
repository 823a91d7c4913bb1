"""F1, as scikit-learn computes it."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from sklearn.metrics import f1_score

DESCRIPTION = """F1, as scikit-learn computes it; for use without the hub."""

INPUTS = """
Args:
    predictions: predicted labels, indices (N,).
    references: gold labels, indices (N,).
    average: binary, macro, micro or weighted.
    pos_label: the label that binary F1 is about.
"""


class F1(evaluate.Metric):  # type: ignore[misc]
    """F1, as scikit-learn computes it."""

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
        average: str = "binary",
        pos_label: int = 1,
        groups: list[str] | None = None,  # what it is combined with may need them
    ) -> dict[str, Any]:
        """`f1` in [0, 1]; `groups` are not looked at."""
        found = f1_score(references, predictions, average=average, pos_label=pos_label)
        return {"f1": float(found)}
