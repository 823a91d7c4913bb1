"""Uncertainty: paired, stratified resamples of rows, and seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness_plugin.errors import HarnessError
from harness_plugin.records import Counts, Estimate, Floats

LEVEL = 0.95
CELLS = 8_000_000
"""Largest chunk of a (B, N) matrix of counts; 32 MB, whatever B and N."""


def strata_of(*columns: ArrayLike) -> NDArray[np.int64]:
    """(N,) one code for every combination of the columns' values that occurs."""
    codes = np.column_stack([np.asarray(column) for column in columns])
    joint: NDArray[np.int64] = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
    return joint


def group_stratified_counts(
    groups: ArrayLike, resamples: int, rng: np.random.Generator
) -> Iterator[Counts]:
    """Chunks (b, N) float32 of row counts; the chunks' b add up to `resamples`.

    Each resample draws, within every stratum of `groups` (N,), as many rows as the stratum has,
    with replacement: no group is ever emptied. Rows of group -1 are a stratum as well.
    """
    groups = np.asarray(groups)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    step = max(1, CELLS // max(1, len(groups)))
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
    step = max(1, CELLS // max(1, len(sizes)))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        counts = np.empty((size, len(sizes)), dtype=np.float32)
        for inside in members:
            rows = int(sizes[inside].sum())
            counts[:, inside] = rng.multinomial(rows, sizes[inside] / rows, size=size)
        yield counts


def seed_shares(seeds: int, resamples: int, rng: np.random.Generator) -> Floats:
    """(S, 1 + B) weight of each seed: equal in column 0, drawn with replacement in the others."""
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples).T
    return np.hstack([np.ones((seeds, 1)), drawn]) / seeds


def interval(replicates: Floats, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval of (B,) replicates: two of them, never a value in between.

    nan where a replicate is.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def estimate(replicates: Floats, n: int) -> Estimate:
    """The estimate of (1 + B,) values: the number itself, then its resamples; B >= 1.

    With undefined resamples the interval is nan, with the reason.
    """
    value, resampled = float(replicates[0]), replicates[1:]
    if math.isnan(value):
        return Estimate(value, n=n, reason="undefined on this set")
    if lacking := np.count_nonzero(np.isnan(resampled)):
        reason = f"no interval: undefined in {lacking} of {len(resampled)} resamples"
        return Estimate(value, n=n, reason=reason)
    return Estimate(value, *interval(resampled), n=n)


def hierarchical(values: Floats, shares: Floats, n: int) -> Estimate:
    """The mean over seeds with its hierarchical bootstrap interval (seed x example).

    `values` (S, 1 + B): column 0 the plain number of each seed, the others its resamples over
    examples. `shares` (S, 1 + B) from `seed_shares`. With one seed only examples are resampled.
    """
    if values.shape != shares.shape:
        raise HarnessError(f"values {values.shape} and seed shares {shares.shape} differ in shape.")
    found = estimate((values * shares).sum(axis=0), n)
    seeds, resampled = values[:, 0], values[:, 1:]
    errors = resampled.std(axis=1, ddof=1)
    lacking = np.count_nonzero(np.isnan(seeds))
    return replace(
        found,
        reason=f"undefined for {lacking} of {len(seeds)} seeds" if lacking else found.reason,
        sd=float(seeds.std(ddof=1)) if len(seeds) > 1 else math.nan,
        seeds=tuple(seeds.tolist()),
        errors=tuple(errors.tolist()),
        intervals=tuple(map(interval, resampled)),
    )


def undefined(seeds: int, n: int, reason: str) -> Estimate:
    """The estimate of a number that does not exist on this set, and why."""
    nothing = (math.nan,) * seeds
    nowhere = ((math.nan, math.nan),) * seeds
    return Estimate(math.nan, seeds=nothing, n=n, reason=reason, errors=nothing, intervals=nowhere)
