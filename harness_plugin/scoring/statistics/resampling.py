"""Resamples of rows: each is a vector of how often every row counts, shared by all models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness_plugin.records import Counts

CELLS, LEAST = 8_000_000, 16
"""Largest chunk of a (B, N) matrix of counts, 32 MB, but no fewer resamples: what is summed over
rows is read once a chunk, and chunks would be more, the more rows there are."""


def strata_of(*columns: ArrayLike) -> NDArray[np.int64]:
    """(N,) one code for every combination of the columns' values that occurs.

    Codes are in the order of the first column's values, then of the second's, and so on.
    """
    joint, _ = renumbered(np.asarray(columns[0]))
    for column in columns[1:]:
        codes, values = renumbered(np.asarray(column))
        joint, _ = renumbered(joint * values + codes)
    return joint


def renumbered(values: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
    """(N,) the place of each whole number among those that occur, sorted, and how many occur."""
    least, most = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    if most - least > 4 * len(values):
        distinct, codes = np.unique(values, return_inverse=True)
        return codes.reshape(-1), len(distinct)
    shifted = np.asarray(values, dtype=np.int64) - least  # counting takes a tenth of sorting
    present = np.bincount(shifted, minlength=1) > 0
    return (np.cumsum(present) - 1)[shifted], int(present.sum())


def group_stratified_counts(
    groups: ArrayLike, resamples: int, rng: np.random.Generator
) -> Iterator[Counts]:
    """Chunks (b, N) float32 of row counts; the chunks' b add up to `resamples`.

    Each resample draws, within every stratum of `groups` (N,), as many rows as the stratum has,
    with replacement: no group is ever emptied. Rows of group -1 are a stratum as well.
    """
    groups = np.asarray(groups)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    step = max(LEAST, CELLS // max(1, len(groups)))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        counts = np.empty((size, len(groups)), dtype=np.float32)  # exact up to 16 million rows
        for rows in members:
            drawn = rng.integers(len(rows), size=(size, len(rows)), dtype=np.int32)
            for resample, chosen in zip(counts, drawn, strict=True):
                resample[rows] = np.bincount(chosen, minlength=len(rows))
        yield counts


def cell_counts(
    groups: ArrayLike, cells: ArrayLike, resamples: int, rng: np.random.Generator
) -> Iterator[Counts]:
    """As `group_stratified_counts`, summed over the rows of every cell: chunks (b, K).

    `cells` (N,) are codes 0 … K-1, each within one stratum of `groups` (N,). Rows of a cell count
    alike, so that their sum is what is drawn: a multinomial, exactly, however many rows there are.
    """
    cells = np.asarray(cells)
    _, first, sizes = np.unique(cells, return_index=True, return_counts=True)
    stratum = np.asarray(groups)[first]
    members = [np.flatnonzero(stratum == group) for group in np.unique(stratum)]
    step = max(LEAST, CELLS // max(1, len(sizes)))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        counts = np.empty((size, len(sizes)), dtype=np.float32)
        for inside in members:
            rows = int(sizes[inside].sum())
            counts[:, inside] = rng.multinomial(rows, sizes[inside] / rows, size=size)
        yield counts


def cluster_counts(
    clusters: ArrayLike, sizes: ArrayLike, resamples: int, rng: np.random.Generator
) -> Iterator[Counts]:
    """Chunks (b, K) of weights where the rows of one cluster are not independent.

    `clusters` (K,) and `sizes` (K,): the cluster of every kind of row, and how many rows are of it.
    All rows of a cluster get one weight, exponential with mean 1: the Bayesian bootstrap (Rubin
    1981) of clusters. No weight is 0, so that no group is emptied where clusters lie across groups.
    In float64: weights are no whole numbers, and their sums must not depend on the order of rows.
    """
    codes = np.unique(np.asarray(clusters), return_inverse=True)[1].reshape(-1)
    rows = np.asarray(sizes, dtype=np.float64)
    number = int(codes.max()) + 1
    step = max(LEAST, CELLS // max(1, len(codes)))
    for start in range(0, resamples, step):
        drawn = rng.standard_exponential((min(step, resamples - start), number), dtype=np.float64)
        drawn /= drawn.mean(axis=1, keepdims=True)
        yield drawn[:, codes] * rows
