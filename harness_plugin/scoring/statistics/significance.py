"""Tests of paired answers, and what a handful of seeds can tell. Pure functions over SciPy.

Intervals by resampling, over rows and over seeds x rows, are in `intervals`.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from harness_plugin.errors import HarnessError
from harness_plugin.records import Floats
from harness_plugin.scoring.statistics.intervals import LEVEL

POWER = 0.8
MOST_SEEDS = 1000
"""Nobody trains more: a larger number is not reported."""


def mcnemar(first: ArrayLike, second: ArrayLike) -> Floats:
    """(...) p-values of McNemar's (1947) exact test on two (..., N) arrays of correct or not.

    Two-sided: under equal accuracies each of the b + c discordant rows is right for either model
    with probability 1/2, so that p = min(1, 2 P[Bin(b + c, 1/2) <= min(b, c)]); 1 without any.
    Raises HarnessError for arrays of different shapes.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape:
        raise HarnessError(f"paired answers differ in shape: {a.shape} and {b.shape}.")
    only_first, only_second = (a & ~b).sum(axis=-1), (b & ~a).sum(axis=-1)
    discordant = only_first + only_second
    # both tails are alike at probability 1/2, and the middle counts in both
    tail = scipy.special.bdtr(np.minimum(only_first, only_second), discordant, 0.5)
    p: Floats = np.where(discordant > 0, np.minimum(1.0, 2 * tail), 1.0)
    return p


def holm(p_values: ArrayLike) -> Floats:
    """(K,) p-values adjusted by Holm (1979): any below alpha holds at that family-wise error.

    The i-th smallest of K is multiplied by K - i + 1, and none is smaller than one before it.
    Raises HarnessError for values outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise HarnessError(f"p-values lie in [0, 1]; got {p[~((p >= 0) & (p <= 1))][0]}.")
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def wilson(share: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Two-sided interval of Wilson (1927) of a proportion, `share` in [0, 1] of `n` rows.

    The lower bound at level 0.9 is the one-sided 95% bound. (0, 1) for no rows.
    """
    if n == 0:
        return 0.0, 1.0
    z = float(scipy.special.ndtri((1 + level) / 2))
    shrink = 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class SeedSummary:
    """Summary of the seeds alone: mean, sd (ddof 1) and Student's t interval of the mean.

    The sd is nan and the interval unbounded for a single seed.
    """

    mean: float
    sd: float
    low: float
    high: float


def over_seeds(values: Sequence[float] | Floats, level: float = LEVEL) -> SeedSummary:
    """The summary of (S,) numbers, one a seed: mean ± t(S - 1) sd / sqrt(S).

    Raises HarnessError for no seeds.
    """
    sample = np.asarray(values, dtype=np.float64)
    if not sample.size:
        raise HarnessError("no seeds to summarise.")
    mean = float(sample.mean())
    if sample.size == 1:
        return SeedSummary(mean, math.nan, -math.inf, math.inf)
    sd = float(sample.std(ddof=1))
    quantile = float(scipy.special.stdtrit(sample.size - 1, (1 + level) / 2))
    half = quantile * sd / math.sqrt(sample.size)
    return SeedSummary(mean, sd, mean - half, mean + half)


def power_of_seeds(seeds: int, sd: float, effect: float, level: float = LEVEL) -> float:
    """Power of the two-sided t-test of `seeds` >= 2 differences with deviation `sd` > 0.

    The probability that the test at 1 - level sees a true mean of `effect`, from the noncentral t
    distribution with S - 1 degrees of freedom and noncentrality effect sqrt(S) / sd.
    """
    limit = scipy.special.stdtrit(seeds - 1, (1 + level) / 2)
    shift = abs(effect) * math.sqrt(seeds) / sd
    upper = 1 - scipy.special.nctdtr(seeds - 1, shift, limit)
    lower = scipy.special.nctdtr(seeds - 1, shift, -limit)
    return float(upper + np.nan_to_num(lower))  # SciPy gives nan for a tail that is too thin


def seeds_needed(
    sd: float, effect: float, power: float = POWER, level: float = LEVEL
) -> int | None:
    """The smallest number of seeds whose t-test sees `effect` with probability `power`.

    `sd` is the deviation over seeds that was observed, of differences where models are paired by
    seed. At least 2; None where not even 1000 seeds would do, and for an effect of 0.
    """
    if effect == 0 or math.isnan(sd):
        return None
    if sd == 0:
        return 2
    candidates = range(2, MOST_SEEDS + 1)  # power grows with the seeds
    count = bisect.bisect_left(
        candidates, power, key=lambda seeds: power_of_seeds(seeds, sd, effect, level)
    )
    return candidates[count] if count < len(candidates) else None
