"""Effects of a factor: averages over matched configurations, with seeds as the random effect.

A study crosses its seeds with its configurations: every configuration is trained with the same
seeds, and what a seed does (first weights, order of rows, a teacher that several students share) it
does to several configurations at once. The seed and the seed's own reaction to a level are
therefore random effects, the configurations fixed ones. For matched configurations that model has
a closed form: one number a seed, the mean over the configurations, whose mean over seeds has
Student's t distribution with S - 1 degrees of freedom. It counts seeds, not configurations, as
what was repeated: intervals from a model with a random intercept alone, or from percentiles of
five resampled seeds, are too narrow (tests/hooks/test_study_report.py measures it).

Seeds do not show the chance of having drawn these test rows, which all of them answer. It is added
as in `scoring.statistics.intervals`, but for what is known of each seed's own noise of rows:
half^2 = z^2 V_common + t^2 s2 / S. How the rows' parts of two configurations go together is not in
the tables, so that V_common is an upper bound: a mean over
configurations has at most the mean of their standard deviations, a difference of two that rows do
not set against each other at most the sum of their variances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import optimize, special

from harness_plugin.scoring.statistics.intervals import NEEDS, TAIL

SMALLEST_P = 1e-100


@dataclass(frozen=True)
class Table:
    """A number for each configuration, or pair of them, and seed.

    `values` (contexts, seeds), nan = undefined. `common` (contexts,): the variance that the rows
    which all seeds share give the mean over seeds, nan = not known; `rows_df` its degrees of
    freedom. `too_few`: why these rows allow no interval, "" where they do.
    """

    values: pd.DataFrame
    common: pd.Series
    rows_df: float = math.nan
    too_few: str = ""


@dataclass(frozen=True)
class Average:
    """A mean over seeds with its 95% interval; nan and unknown ends where `reason` says why.

    `common`: the variance that the rows which all seeds share give it, at most; nan where that is
    not known, and the interval is Student's of the seeds alone. `rows_df`: degrees of freedom.
    `contexts`: configurations, or pairs of configurations, that it is the mean of. `missing`: how
    many of their values (one a context and seed) are undefined or lack a partner, and left out
    with all of their context, so that every seed is the mean of the same contexts.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    sd: float = math.nan
    seeds: int = 0
    contexts: int = 0
    missing: int = 0
    p: float = math.nan
    reason: str = ""
    by_seed: tuple[tuple[int, float], ...] = ()
    common: float = math.nan
    rows_df: float = math.nan

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    def within(self, lowest: float, highest: float) -> Average:
        """The same with ends that do not reach beyond what there can be."""
        return replace(self, low=max(self.low, lowest), high=min(self.high, highest))


def average(table: Table) -> Average:
    """The mean over contexts, then over seeds.

    Contexts that are not defined for every seed are left out; where none is, seeds that are not
    defined for every context are. One seed has a value and no interval, and so have numbers of
    which a run says that their rows are too few for one.
    """
    values = table.values
    missing = int(values.isna().to_numpy().sum())
    values = values.dropna(axis="columns", how="all").dropna(axis="index", how="all")
    if values.empty:
        reason = "undefined in every configuration" if missing else "nothing to compare"
        return Average(missing=missing, reason=reason)
    whole = values.dropna(axis="index")
    if whole.empty:
        whole = values.dropna(axis="columns")
    if whole.empty:
        return Average(missing=missing, reason="no configuration is defined for all seeds")
    by_seed = {int(seed): float(value) for seed, value in whole.mean(axis="index").items()}
    common = float(np.mean(np.sqrt(table.common[whole.index].to_numpy())) ** 2)
    mean = of_seeds(by_seed, common, table.rows_df)
    return replace(without_interval(mean, table.too_few), contexts=len(whole), missing=missing)


def without_interval(mean: Average, why: str) -> Average:
    """The same without its interval, if there is a reason why."""
    if not why:
        return mean
    return replace(mean, low=math.nan, high=math.nan, p=math.nan, reason=why)


def of_seeds(by_seed: dict[int, float], common: float, rows_df: float) -> Average:
    """The mean of one number a seed, on rows that give it the variance `common`."""
    values = np.array([*by_seed.values()])
    mean, n = float(values.mean()), len(values)
    result = Average(
        mean,
        seeds=n,
        by_seed=tuple(sorted(by_seed.items())),
        common=common,
        rows_df=rows_df,
    )
    if n == 1:
        return replace(result, reason="one seed: no interval")
    sd, rows_known = float(values.std(ddof=1)), not math.isnan(common)

    def half_width(tail: float) -> float:
        of_seeds = special.stdtrit(n - 1, tail) * sd / math.sqrt(n)
        of_rows = special.stdtrit(rows_df, tail) * math.sqrt(common) if rows_known else 0.0
        return math.hypot(of_seeds, of_rows)

    half = half_width(TAIL)
    return replace(result, low=mean - half, high=mean + half, sd=sd, p=p_of(mean, half_width))


def p_of(mean: float, half_width: Callable[[float], float]) -> float:
    """Two-sided p-value of 0: twice the tail at which the interval ends there."""
    if half_width(TAIL) == 0:
        return 0.0 if mean else 1.0
    if half_width(SMALLEST_P) <= abs(mean):
        return 2 * SMALLEST_P

    def beyond(log_tail: float) -> float:
        return half_width(math.exp(log_tail)) - abs(mean)

    root = optimize.brentq(beyond, math.log(SMALLEST_P), math.log(0.5), xtol=1e-9)
    return 2 * math.exp(float(root))


def pooled(parts: Sequence[Average]) -> Average:
    """The mean of several averages over the seeds that all of them have, each weighing the same.

    They are of different sets, whose rows have nothing in common.
    """
    shared = set.intersection(*(set(dict(part.by_seed)) for part in parts)) if parts else set()
    if not shared:
        return Average(reason="no seed that all sets share")
    by_seed = {
        seed: float(np.mean([dict(part.by_seed)[seed] for part in parts])) for seed in shared
    }
    mean = of_seeds(by_seed, mean_of_sets([part.common for part in parts]), least(parts))
    return replace(
        without_interval(mean, first_too_few(part.reason for part in parts)),
        contexts=sum(part.contexts for part in parts),
        missing=sum(part.missing for part in parts),
    )


def mean_of_sets(common: Sequence[float] | pd.Series) -> float:
    """The variance that rows give a mean over sets, from that of each; nan where one is."""
    known = np.asarray(common, dtype=np.float64)  # a sum of pandas leaves nan out
    return float(known.sum()) / len(known) ** 2


def first_too_few(reasons: Iterable[str]) -> str:
    """The first reason that rows are too few; "" without one."""
    return next((reason for reason in reasons if NEEDS in str(reason)), "")


def least(parts: Sequence[Average] | Sequence[Table]) -> float:
    """The fewest degrees of freedom of several."""
    return float(np.min([part.rows_df for part in parts]))


def table_of(rows: pd.DataFrame, contexts: Sequence[str]) -> Table:
    """Of the columns `value`, `common` and `rows_df`; each context and seed occurs once.

    A context that lacks a seed altogether is nan there.
    """
    names = ["\x1f".join(parts) for parts in zip(*(rows[c] for c in contexts), strict=True)]
    lines = {name: line for line, name in enumerate(dict.fromkeys(names))}
    seeds = sorted(set(rows["seed"]))
    values = np.full((len(lines), len(seeds)), math.nan)
    for name, seed, value in zip(names, rows["seed"], rows["value"], strict=True):
        values[lines[name], seeds.index(seed)] = value
    common = dict(zip(names, rows["common"], strict=True))
    return Table(
        pd.DataFrame(values, index=list(lines), columns=seeds),
        pd.Series(common, dtype=np.float64),
        float(rows["rows_df"].min()),
        first_too_few(rows["reason"]),
    )


def levels_of(rows: pd.DataFrame, factor: str, contexts: Sequence[str]) -> dict[str, Table]:
    """Level -> (contexts, seeds) of its values; `contexts` are the columns that must agree."""
    return {
        str(level): table_of(part, contexts) for level, part in rows.groupby(factor, sort=False)
    }


def contrast(level: Table, reference: Table) -> Average:
    """The effect of a level: its values minus the reference's where all else is the same."""
    both = level.values.index.intersection(reference.values.index)
    if both.empty:
        return Average(reason="no two configurations differ in this alone")
    seeds = level.values.columns.union(reference.values.columns)
    one, other = (table.values.reindex(both, columns=seeds) for table in (level, reference))
    common = level.common[both] + reference.common[both]
    too_few = level.too_few or reference.too_few
    return average(Table(one - other, common, least([level, reference]), too_few))


def comparable(tables: dict[str, Table]) -> tuple[dict[str, Table], bool]:
    """The tables on the contexts that all of them have; all of theirs, and False, without any."""
    shared = None
    for table in tables.values():
        index = table.values.index
        shared = index if shared is None else shared.intersection(index)
    if shared is None or shared.empty:
        return tables, False
    return {
        level: replace(table, values=table.values.reindex(shared))
        for level, table in tables.items()
    }, True
