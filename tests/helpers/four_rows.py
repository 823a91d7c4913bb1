"""Four rows of three labels on which losses are computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import log_softmax

from harness_plugin.training.batch import Batch, TrainingMetadata

Z = torch.tensor([[2, 0, -1], [0.5, 1, 0], [-1, 0, 1], [1, 1, 0]], dtype=torch.float64)
"""Logits of the model that learns."""
Y = torch.tensor([0, 1, 2, 0])
G = torch.tensor([0, 1, 0, 2])
RAW = torch.tensor([[1, 0, 0], [0, 0, 0], [0, 0, 2], [-1, 1, 0]], dtype=torch.float64)
"""Logits of a bias model."""
TEACHER = torch.tensor([[3, 0, 0], [0, 2, 1], [0, 0, 3], [2, 0, 0]], dtype=torch.float64)
ROWS = torch.arange(4)


def facts(**changes: Any) -> TrainingMetadata:
    """What a method knows of the four rows."""
    values = {
        "label": Y,
        "group": G,
        "n_labels": 3,
        "groups": ("a", "b", "c"),
        "bias_log_probs": log_softmax(RAW, 1),
        "environment": G,
        "environments": ("a", "b", "c"),
    }
    return TrainingMetadata(**{**values, **changes})


def batch(rows: torch.Tensor = ROWS, **changes: Any) -> Batch:
    """Some of the rows, all by default."""
    return Batch(rows, Y[rows], G[rows], G[rows], **changes)


def close(value: Any, expected: float, tolerance: float = 1e-6) -> None:
    """A number is the one that was computed by hand."""
    assert float(torch.as_tensor(value).detach()) == pytest.approx(expected, abs=tolerance)
