"""Views that linear CKA is blind to: standardised features, and without dominant directions.

One direction of large variance decides linear CKA alone (Davari et al. 2022, arXiv:2210.16156). The
maps are fitted once, on some rows, and fixed: a map that changes with the batch would be another
measure on every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from harness_plugin.errors import unknown

Fixed: TypeAlias = Callable[[Tensor], Tensor]


def as_they_are(rows: Tensor) -> Fixed:
    """No change."""
    return lambda features: features


def standardised(rows: Tensor) -> Fixed:
    """Every dimension divided by its standard deviation over `rows` (n, d)."""
    spread = rows.std(dim=0)
    scale = torch.where(spread > 0, spread, torch.ones_like(spread))
    return lambda features: features / scale


def without_top(rows: Tensor) -> Fixed:
    """Without the direction of the largest variance of `rows` (n, d)."""
    centre = rows.mean(dim=0)
    direction = torch.linalg.svd((rows - centre).double(), full_matrices=False).Vh[0].to(rows)

    def removed(features: Tensor) -> Tensor:
        away = features - centre
        left: Tensor = away - (away @ direction)[:, None] * direction
        return left

    return removed


VIEWS: dict[str, Callable[[Tensor], Fixed]] = {
    "plain": as_they_are,
    "standardised": standardised,
    "without_top": without_top,
}


def fitted(names: Sequence[str], layers: Sequence[Tensor]) -> dict[str, list[Fixed]]:
    """The map of every view for every layer, fitted on the layers' features (n, d_l)."""
    for name in names:
        if name not in VIEWS:
            raise unknown("view", name, VIEWS)
    return {name: [VIEWS[name](layer) for layer in layers] for name in names}
