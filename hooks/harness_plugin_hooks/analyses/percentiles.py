"""Intervals of what analyses compute: percentiles over resamples of rows and of seeds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from harness_plugin.errors import HarnessError
from harness_plugin.records import Estimate, Floats
from harness_plugin.scoring.intervals import LEVEL


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
