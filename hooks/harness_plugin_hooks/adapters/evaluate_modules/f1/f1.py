"""F1, as scikit-learn computes it."""

from __future__ import annotations

from typing import Any

from sklearn.metrics import f1_score

from harness_plugin_hooks.adapters.evaluate_modules.factory import metric_class


def compute(
    predictions: list[int],
    references: list[int],
    average: str = "binary",
    pos_label: int = 1,
    groups: list[str] | None = None,  # what it is combined with may need them
) -> dict[str, Any]:
    """`f1` in [0, 1]; `groups` are not looked at."""
    f1 = f1_score(references, predictions, average=average, pos_label=pos_label)
    return {"f1": float(f1)}


F1 = metric_class(
    compute,
    "F1",
    "F1, as scikit-learn computes it; for use without the hub.",
    "scikit-learn",
    columns=("predictions", "references"),
    average="binary, macro, micro or weighted.",
    pos_label="the label that binary F1 is about.",
)
