"""Share of correct rows."""

from __future__ import annotations

from typing import Any

from sklearn.metrics import accuracy_score

from harness_plugin_hooks.adapters.evaluate_modules.factory import metric_class


def compute(
    predictions: list[int],
    references: list[int],
    groups: list[str] | None = None,  # what it is combined with may need them
) -> dict[str, Any]:
    """`accuracy` in [0, 1]; `groups` are not looked at."""
    return {"accuracy": float(accuracy_score(references, predictions))}


Accuracy = metric_class(
    compute,
    "Accuracy",
    "Share of correct rows, as scikit-learn counts it; for use without the hub.",
    "scikit-learn",
    columns=("predictions", "references"),
)
