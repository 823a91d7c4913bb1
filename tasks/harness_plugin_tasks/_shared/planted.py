"""Planting a spurious cue in generated rows: how often it agrees with the label is exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness_plugin.data.dataset import Ints
from harness_plugin.errors import HarnessError


def balanced_labels(rng: np.random.Generator, n: int, n_labels: int) -> Ints:
    """(n,) label indices in random order, every label equally often up to one row."""
    return rng.permutation(np.arange(n) % n_labels)


def planted_cues(
    rng: np.random.Generator, label: Ints, n_labels: int, rate: float, where: str
) -> Ints:
    """(N,) cue values in [0, n_labels): that of the row's own label in the share `rate` of rows.

    The share holds for every label, up to rounding; the other rows of a label are spread evenly
    over the other values.

    Raises HarnessError naming `where` when that leaves a cell of label x cue without a row.
    """
    cue = label.copy()
    for value in range(n_labels):
        rows = rng.permutation(np.flatnonzero(label == value))
        n_other = round(len(rows) * (1 - rate))
        if n_other < n_labels - 1 or n_other == len(rows):
            raise HarnessError(
                f"{where}: {len(rows)} rows of a label with the cue right in {rate:.1%} of them "
                "leave a cell of label x cue empty; ask for more rows or another rate."
            )
        shift = 1 + np.arange(n_other) % (n_labels - 1)
        cue[rows[:n_other]] = (value + shift) % n_labels
    return cue


def own_cues(rng: np.random.Generator, label: Ints, conflict: float, n_values: int) -> Ints:
    """(N,) cue values in [0, n_values): the label's own but for the share `conflict` of its rows.

    The share holds for every label up to rounding, and is at least one row; those rows are spread
    evenly over the other values, as far as there are enough of them. Unlike `planted_cues`, cells
    of label x cue may stay empty: ten labels with ten cues have ninety rare cells.
    """
    cue = label.copy()
    for own in np.unique(label):
        rows = rng.permutation(np.flatnonzero(label == own))
        n_other = max(round(len(rows) * conflict), 1)
        others = rng.permutation(np.delete(np.arange(n_values), own))
        cue[rows[:n_other]] = np.resize(others, n_other)
    return cue


def proportional(n: int, weights: Sequence[int]) -> Ints:
    """(G,) how many of `n` rows fall in every cell at the proportions `weights`, at least one."""
    counts = np.maximum(np.round(np.array(weights) / sum(weights) * n).astype(np.int64), 1)
    while (left := n - int(counts.sum())) != 0:
        counts[int(counts.argmax())] += np.sign(left)
    return counts
