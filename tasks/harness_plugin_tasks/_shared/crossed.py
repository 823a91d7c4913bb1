"""Label x attribute: which cells of two columns the bias points to."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from harness_plugin.data.dataset import Ints


def alignment(counts: ArrayLike) -> Ints:
    """(C, A) for every cell (y, a) whether the bias points to y, given TRAINING counts (C, A).

    1 where P(y | a) > P(y), 0 where P(y | a) < P(y), -1 where the two are equal: then the
    attribute says nothing about the label.
    """
    table = np.asarray(counts, dtype=np.int64)
    # P(y | a) - P(y) times n_a * n, which keeps the comparison exact
    excess = table * table.sum() - table.sum(1, keepdims=True) * table.sum(0, keepdims=True)
    return np.where(excess > 0, 1, np.where(excess < 0, 0, -1))
