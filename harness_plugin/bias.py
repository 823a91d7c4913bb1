"""Bias-only models: what the spurious cue alone predicts, scored on rows it was not fitted on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness_plugin import bias as this_module
from harness_plugin.data import Split
from harness_plugin.errors import HarnessError
from harness_plugin.stages import Stage, Store, code_version
from harness_plugin.task import Task

FOLDS = 5
FLOOR = 1e-3
"""Smallest probability: an over-confident bias model would give near-zero weights."""


def bias_stage(task: Task, train: Split, store: Store, seed: int) -> Stage | None:
    """The bias-only model's log-probabilities on the training rows; None without features.

    The stage holds `log_probs.npy` (N, C) float32, in row order and in the split's label order.
    """
    if task.bias_features is None:
        return None
    spec = {
        "train": train.fingerprint,
        "features": task.bias_features,
        "seed": seed,
        "code": code_version(this_module),
    }

    def build(folder: Path) -> dict[str, Any] | None:
        if not store.processes.is_main:
            return None
        features = np.asarray(task.load_attribute(task.bias_features or "")(train), np.float64)
        if features.ndim != 2 or len(features) != len(train):
            raise HarnessError(
                f"task {task.task}: bias_features gives shape {features.shape} for "
                f"{len(train)} training rows; expected (rows, features)."
            )
        log_probs = cross_fitted(features, train.label, len(train.labels), seed)
        np.save(folder / "log_probs.npy", log_probs)
        accuracy = float((log_probs.argmax(1) == train.label).mean())
        return {"features": features.shape[1], "folds": FOLDS, "accuracy": accuracy}

    return store.run("bias_model", spec, build)


def cross_fitted(
    features: NDArray[np.float64], label: NDArray[np.int64], n_labels: int, seed: int
) -> NDArray[np.float32]:
    """(N, C) out-of-fold log-probabilities of a logistic regression, clamped from below.

    Raises HarnessError when a label has fewer rows than there are folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    present, counts = np.unique(label, return_counts=True)
    if counts.min() < FOLDS:
        raise HarnessError(
            f"the bias-only model is fitted on {FOLDS} folds, but a label has only "
            f"{counts.min()} training rows."
        )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    fitted = cross_val_predict(model, features, label, cv=folds, method="predict_proba")
    probabilities = np.zeros((len(label), n_labels))
    probabilities[:, present] = fitted
    probabilities = np.clip(probabilities, FLOOR, None)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return np.log(probabilities).astype(np.float32)
