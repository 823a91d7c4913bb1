"""One rule for intervals: what rows and what seeds contribute to a mean over seeds.

Everything is a function of *replicates*, arrays (..., S, 1 + B): column 0 the plain number of each
of S seeds, the other B columns that number on B resamples of rows. A resample is shared by all
seeds, roles and metrics, so that the difference of two such arrays holds the paired replicates.

The mean over seeds misses its expectation by a part that all seeds share (they answer the same
rows) and by a part of each seed's own:

    V_rows   = Var_b(mean over seeds)                rows, given these seeds
    V_own    = mean_b Var_s(deviations) / S          the part of V_rows that seeds do not share
    V_common = V_rows - V_own                        mean covariance of two seeds' resamples
    s2       = Var_s(plain numbers)                  holds the seeds' variance and S V_own
    half^2   = max(z^2 V_rows, z^2 V_common + t^2 s2 / S - KNOWN (t^2 - z^2) V_own)

with t of S - 1 degrees of freedom.

These are crossed random effects (seeds x rows; Owen, Annals of Applied Statistics 1, 2007): noise
of rows is counted once. The squares of the half-widths of the two independent parts add up (MOVER:
Zou and Donner, Statistics in Medicine 27, 2008): Student's t where seeds differ, z where only rows
do, and never narrower than the rows alone would have it. The last term takes back some of what t
adds for the part of s2 whose variance the resamples show. `z` is the quantile of Student's t with
(rows of the smallest cell - 1), or (effective number of clusters - 1), degrees of freedom.
docs/verdicts.md has the coverage by simulation, bench/coverage.py computes it with these functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from harness_plugin.records import Estimate, Floats, IntervalOf, VarianceComponents

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
"""One-sided error at either end of a 95% interval."""
MIN_GROUP = 30
"""Rows of a group below which it steers no minimum, and of a cell below which no interval is."""
MIN_CLUSTERS = 20
"""With fewer clusters of rows the variance between them is not known well enough."""
NEEDS = "an interval needs"
"""In every reason that rows are too few, whatever the seeds."""
MIN_EFFECTIVE = 10
"""Nor where clusters are so unequal that a few of them make the variance."""
KNOWN = 0.3
"""How far V_own counts as known. The seeds' s2 holds it, and at 0 the t of few seeds is paid for it
too: 98.7% instead of 95% for three seeds that differ by rows alone; at 1 the interval is too narrow
(90.8%) where seeds differ as much as rows make them. At 0.3 it is 94.1% to 97.9% for any number of
seeds and any share of the two (bench/coverage.py --part widths)."""


INTERVAL_OF: tuple[IntervalOf, IntervalOf] = ("rows", "seeds and rows")
"""Sources of an interval's variance: one of a single seed covers no other seeds."""


class Interval(NamedTuple):
    """A mean over seeds with a lower and an upper bound; arrays of the leading axes."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Support:
    """How many rows a number stands on.

    `n`: rows counted. `smallest`: rows of the smallest cell (group, label, side of a gap) that the
    number compares. `clusters`: clusters of rows in that cell, None where rows are independent;
    `effective`: how many equal ones they are worth, None for as many.
    `without`: why a number of its kind has no interval, whatever it stands on; "" where it may.
    """

    n: int
    smallest: int
    clusters: int | None = None
    min_group: int = MIN_GROUP
    without: str = ""
    effective: float | None = None

    @property
    def df(self) -> float:
        """Degrees of freedom of the rows' part of the variance."""
        known = (self.smallest, self.clusters, self.effective)
        return max(1.0, min(each for each in known if each is not None) - 1.0)

    @property
    def lacking(self) -> str:
        """Why there is no interval: of its kind, or for too few rows; "" where there is one."""
        if self.without:
            return self.without
        if self.smallest < self.min_group:
            return f"{self.smallest} rows in its smallest cell, {NEEDS} {self.min_group}"
        if self.clusters is not None and self.clusters < MIN_CLUSTERS:
            return f"{self.clusters} clusters of rows, {NEEDS} {MIN_CLUSTERS}"
        if self.effective is not None and self.effective < MIN_EFFECTIVE:
            return (
                f"{self.clusters} clusters of rows of such different sizes that they are worth "
                f"{self.effective:.1f} equal ones, {NEEDS} {MIN_EFFECTIVE}"
            )
        return ""


def effective_clusters(sizes: ArrayLike) -> float:
    """How many equal clusters tell a variance as well as clusters of `sizes` (K,) rows, in [1, K].

    0 for no clusters.
    (sum n^2)^2 / sum n^4: Satterthwaite's degrees of freedom where every cluster adds n^2 to the
    variance, as it does when its rows are alike (Carter, Schnepel and Steigerwald, Review of
    Economics and Statistics 99, 2017, with their conservative choice of the correlation).
    """
    squares = np.square(np.asarray(sizes, np.float64))
    return float(squares.sum() ** 2 / np.square(squares).sum()) if squares.size else 0.0


def components(values: Floats, df: float) -> VarianceComponents:
    """The variance components of the mean over seeds of `values` (..., S, 1 + B)."""
    return covariance_components(values, values, df)


def covariance_components(a: Floats, b: Floats, df: float) -> VarianceComponents:
    """The same with the covariances of `a` and `b`; its `value` is that of `a`.

    A resample of m rows has (m - 1) / m of the variance of a sample: the rows' parts are scaled.
    """
    seeds = a.shape[-2]
    scale = (df + 1) / df
    da, db = centred(a), centred(b)
    mean_a, mean_b = da.mean(axis=-2), db.mean(axis=-2)
    draws = da.shape[-1] - 1
    rows = scale * (mean_a * mean_b).sum(axis=-1) / draws
    plain_a, plain_b = a[..., 0], b[..., 0]
    value = plain_a.mean(axis=-1)
    if seeds == 1:
        none = np.full_like(rows, np.nan)
        return VarianceComponents(value, rows, np.zeros_like(rows), none, seeds, df)
    every = scale * (da * db).sum(axis=(-1, -2)) / draws
    own = (every - seeds * rows) / (seeds - 1) / seeds
    product = (plain_a - value[..., None]) * (plain_b - plain_b.mean(axis=-1)[..., None])
    between = product.sum(axis=-1) / (seeds - 1) / seeds
    return VarianceComponents(value, rows, own, between, seeds, df)


def centred(values: Floats) -> Floats:
    """(..., S, B) deviations of the resamples from their mean."""
    resampled = values[..., 1:]
    deviations: Floats = resampled - resampled.mean(axis=-1, keepdims=True)
    return deviations


def critical(tail: float, seeds: int, df: float) -> tuple[float, float]:
    """z of the rows and t of the seeds for a one-sided error `tail`; t is nan for one seed."""
    t = float(scipy.special.stdtrit(seeds - 1, 1 - tail)) if seeds > 1 else math.nan
    return float(scipy.special.stdtrit(df, 1 - tail)), t


def half_width(c: VarianceComponents, tail: float = TAIL) -> Floats:
    """Distance of a bound of one-sided error `tail` from the value. One seed: of rows alone."""
    z, t = critical(tail, c.n_seeds, c.df)
    squared = z**2 * c.rows
    if c.n_seeds > 1:
        squared = np.maximum(squared, squared_with_seeds(c, z, t))
    width: Floats = np.sqrt(np.maximum(squared, 0.0))
    return width


def squared_with_seeds(c: VarianceComponents, z: float, t: float) -> Floats:
    """The squared half-width where seeds differ by more than rows explain."""
    squared: Floats = z**2 * (c.rows - c.own) + t**2 * c.seeds - KNOWN * (t**2 - z**2) * c.own
    return squared


def bounds(c: VarianceComponents, tail: float = TAIL) -> Interval:
    """The value and its bounds, each of one-sided error `tail`."""
    half = half_width(c, tail)
    return Interval(c.value, c.value - half, c.value + half)


def no_claim(
    c: VarianceComponents, support: Support, *, difference: bool = False, any_seeds: bool = False
) -> str:
    """Why a (scalar) number has no interval; "" where it has one.

    A `difference` of two models that answer every row alike is 0, exactly. `any_seeds`: two seeds
    are no reason, as what is asked has a rule of its own for their number.
    """
    if not np.isfinite(c.value):
        return "undefined on this set"
    if support.without:
        return support.without
    if not np.isfinite(c.rows):
        return "undefined in some resamples"
    if difference and answers_alike(c):
        return ""
    if reason := support.lacking:
        return reason
    if c.rows <= 0:
        return "every row of a kind is answered alike, so that resamples show no spread"
    if c.n_seeds == 2 and not any_seeds:
        return "two seeds do not show how seeds differ"
    return ""


def answers_alike(difference: VarianceComponents) -> NDArray[np.bool_]:
    """Whether two models differ by 0 on every seed and resample."""
    c = difference
    return np.asarray((c.value == 0) & (c.rows == 0) & ~np.greater(c.seeds, 0))


def estimate(
    values: Floats,
    support: Support,
    limits: tuple[float, float] = (-math.inf, math.inf),
    *,
    difference: bool = False,
) -> Estimate:
    """The mean over seeds of `values` (S, 1 + B) with its 95% interval, or why it has none.

    `limits`: the lowest and highest value there can be; bounds do not reach beyond.
    """
    plain = values[:, 0]
    with np.errstate(invalid="ignore"):
        c = components(values, support.df)
        each = components(values[:, None], support.df)
    reason = no_claim(c, support, difference=difference)
    if lacking := np.count_nonzero(np.isnan(plain)):
        reason = f"undefined for {lacking} of {len(plain)} seeds"
    elif reason and np.isfinite(c.value):
        reason = f"no interval: {reason}"
    low, high = (math.nan, math.nan) if reason else clipped(bounds(c), limits)
    alone = [
        (math.nan, math.nan) if without else clipped(Interval(v, v - h, v + h), limits)
        for v, h, without in zip(
            each.value,
            half_width(each),
            [support.lacking or not error > 0 for error in each.rows],
            strict=True,
        )
    ]
    return Estimate(
        float(c.value),
        low,
        high,
        sd=float(plain.std(ddof=1)) if len(plain) > 1 else math.nan,
        seeds=tuple(plain.tolist()),
        n=support.n,
        reason=reason,
        interval_of="" if reason else INTERVAL_OF[len(plain) > 1],
        components=None if reason else c,
        errors=tuple(np.sqrt(each.rows).tolist()),
        intervals=tuple(alone),
    )


def clipped(interval: Interval, limits: tuple[float, float]) -> tuple[float, float]:
    """Both bounds within `limits`."""
    return max(limits[0], float(interval.low)), min(limits[1], float(interval.high))


def undefined(seeds: int, n: int, reason: str) -> Estimate:
    """The estimate of a number that does not exist on this set, and why."""
    nothing = (math.nan,) * seeds
    nowhere = ((math.nan, math.nan),) * seeds
    return Estimate(math.nan, seeds=nothing, n=n, reason=reason, errors=nothing, intervals=nowhere)


def ratio(num: Floats, den: Floats, df: float, tail: float = TAIL) -> Interval:
    """Ratio of two means over seeds with Fieller's interval (JRSS B 16, 1954).

    It holds the R for which `num` - R `den` (..., S, 1 + B) may be 0. nan where `den` is not shown
    to be above 0: the set of such R has no bounds then. As the squared half-width is a maximum of
    two quadratic forms in R, the set is the union of two intervals of Fieller's.
    """
    nn, dd = components(num, df), components(den, df)
    nd = covariance_components(num, den, df)
    z, t = critical(tail, nn.n_seeds, df)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = nn.value / dd.value
    low = high = value  # it is in the set always, be it by rounding that a form has no root
    bounded = np.asarray(dd.value - half_width(dd, tail) > 0)
    forms = [[z**2 * c.rows for c in (nn, nd, dd)]]
    if nn.n_seeds > 1:
        forms.append([squared_with_seeds(c, z, t) for c in (nn, nd, dd)])
    with np.errstate(divide="ignore", invalid="ignore"):
        for var_num, covariance, var_den in forms:
            a = dd.value**2 - var_den
            b = nn.value * dd.value - covariance
            inside = b**2 - a * (nn.value**2 - var_num)
            bounded &= a > 0
            root = np.sqrt(np.maximum(inside, 0))
            low = np.where(inside >= 0, np.minimum(low, (b - root) / a), low)
            high = np.where(inside >= 0, np.maximum(high, (b + root) / a), high)
    return Interval(*(np.where(bounded, x, np.nan) for x in (value, low, high)))


class Sizes(NamedTuple):
    """Of two signed gaps: each, their difference (new - old) and their sum."""

    new: VarianceComponents
    old: VarianceComponents
    difference: VarianceComponents
    total: VarianceComponents


def sizes(new: Floats, old: Floats, df: float) -> Sizes:
    """The terms that `size_change` takes of two signed gaps (..., S, 1 + B)."""
    return Sizes(*(components(v, df) for v in (new, old, new - old, new + old)))


def size_change(gaps: Sizes, tail: float = TAIL) -> Interval:
    """|new| - |old| of the means over seeds, each bound of one-sided error `tail`.

    |new| - |old| = max over a of (a new - b old), a in {+, -}, b the sign of `old`. Above, both a
    must be bounded (intersection-union, Berger, Technometrics 24, 1982: no correction); below, the
    a that is seen. Where the sign of `old` is not shown, both b count.
    """
    old = bounds(gaps.old, tail)
    minus, plus = bounds(gaps.difference, tail), bounds(gaps.total, tail)
    above = np.maximum(minus.high, -plus.low), np.maximum(plus.high, -minus.low)  # b = +, b = -
    positive = np.asarray(gaps.new.value >= 0)
    below = np.where(positive, minus.low, -plus.high), np.where(positive, plus.low, -minus.high)
    shown = [old.low > 0, old.high < 0]
    high = np.select(shown, above, np.maximum(*above))
    low = np.select(shown, below, np.minimum(*below))
    alike = answers_alike(gaps.difference)
    low, high = np.where(alike, 0.0, low), np.where(alike, 0.0, high)
    return Interval(np.abs(gaps.new.value) - np.abs(gaps.old.value), low, high)


def at_seeds(c: VarianceComponents, seeds: int, rows: float = 1.0) -> VarianceComponents:
    """The components of `seeds` seeds and `rows` times the rows."""
    own = float(c.own) * c.n_seeds
    shared = max(0.0, float(c.rows - c.own))
    spread = max(0.0, float(c.seeds) * c.n_seeds - own) if c.n_seeds > 1 else 0.0
    noise = own / seeds / rows
    return replace(
        c,
        rows=np.asarray(shared / rows + noise),
        own=np.asarray(noise),
        seeds=np.asarray(spread / seeds + noise),
        n_seeds=seeds,
    )
