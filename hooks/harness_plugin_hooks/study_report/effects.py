"""What a factor does: averages over matched configurations, with seeds as the random effect.

A study crosses its seeds with its configurations: every configuration is trained with the same
seeds, and what a seed does (first weights, order of rows, a teacher that several students share) it
does to several configurations at once. The seed and the seed's own reaction to a level are
therefore random effects, the configurations fixed ones. For matched configurations that model has
a closed form: one number a seed, the mean over the configurations, whose mean over seeds has
Student's t distribution with S - 1 degrees of freedom. It counts seeds, not configurations, as
what was repeated: intervals from a model with a random intercept alone, or from percentiles of
five resampled seeds, are too narrow (tests/test_study_report.py measures it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

from harness_plugin.scoring.significance import over_seeds

Table: TypeAlias = pd.DataFrame
"""(contexts, seeds): a number for each configuration, or pair of them, and seed; nan = undefined"""


@dataclass(frozen=True)
class Average:
    """A mean over seeds with Student's 95% interval; nan and unknown ends where `reason` says why.

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

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def average(table: Table) -> Average:
    """The mean over contexts, then over seeds.

    Contexts that are not defined for every seed are left out; where none is, seeds that are not
    defined for every context are. One seed has a value and no interval.
    """
    missing = int(table.isna().to_numpy().sum())
    table = table.dropna(axis="columns", how="all").dropna(axis="index", how="all")
    if table.empty:
        reason = "undefined in every configuration" if missing else "nothing to compare"
        return Average(missing=missing, reason=reason)
    whole = table.dropna(axis="index")
    if whole.empty:
        whole = table.dropna(axis="columns")
    if whole.empty:
        return Average(missing=missing, reason="no configuration is defined for all seeds")
    by_seed = whole.mean(axis="index")
    found = of_seeds({int(seed): float(value) for seed, value in by_seed.items()})
    return replace(found, contexts=len(whole), missing=missing)


def of_seeds(by_seed: dict[int, float]) -> Average:
    """The mean of one number a seed."""
    values = list(by_seed.values())
    summary = over_seeds(values)
    found = Average(summary.mean, seeds=len(values), by_seed=tuple(sorted(by_seed.items())))
    if len(values) == 1:
        return replace(found, reason="one seed: no interval")
    error = summary.sd / math.sqrt(len(values))
    t = summary.mean / error if error else math.copysign(math.inf, summary.mean)
    p = 2 * float(stats.t.sf(abs(t), len(values) - 1)) if summary.mean or error else 1.0
    return replace(found, low=summary.low, high=summary.high, sd=summary.sd, p=p)


def pooled(parts: Sequence[Average]) -> Average:
    """The mean of several averages over the seeds that all of them have, each weighing the same."""
    shared = set.intersection(*(set(dict(part.by_seed)) for part in parts)) if parts else set()
    if not shared:
        return Average(reason="no seed that all sets share")
    by_seed = {
        seed: float(np.mean([dict(part.by_seed)[seed] for part in parts])) for seed in shared
    }
    return replace(
        of_seeds(by_seed),
        contexts=sum(part.contexts for part in parts),
        missing=sum(part.missing for part in parts),
    )


def table_of(rows: pd.DataFrame, contexts: Sequence[str]) -> Table:
    """(contexts, seeds) of the column `value`; each context and seed occurs once.

    A context that lacks a seed altogether is nan there.
    """
    names = ["\x1f".join(parts) for parts in zip(*(rows[c] for c in contexts), strict=True)]
    lines = {name: line for line, name in enumerate(dict.fromkeys(names))}
    seeds = sorted(set(rows["seed"]))
    values = np.full((len(lines), len(seeds)), math.nan)
    for name, seed, value in zip(names, rows["seed"], rows["value"], strict=True):
        values[lines[name], seeds.index(seed)] = value
    return pd.DataFrame(values, index=list(lines), columns=seeds)


def levels_of(rows: pd.DataFrame, factor: str, contexts: Sequence[str]) -> dict[str, Table]:
    """Level -> (contexts, seeds) of its values; `contexts` are the columns that must agree."""
    return {
        str(level): table_of(part, contexts) for level, part in rows.groupby(factor, sort=False)
    }


def contrast(level: Table, reference: Table) -> Average:
    """The effect of a level: its values minus the reference's where all else is the same."""
    both = level.index.intersection(reference.index)
    if both.empty:
        return Average(reason="no two configurations differ in this alone")
    seeds = level.columns.union(reference.columns)
    difference = level.reindex(both, columns=seeds) - reference.reindex(both, columns=seeds)
    return average(difference)


def comparable(tables: dict[str, Table]) -> tuple[dict[str, Table], bool]:
    """The tables on the contexts that all of them have; all of theirs, and False, without any."""
    shared = None
    for table in tables.values():
        shared = table.index if shared is None else shared.intersection(table.index)
    if shared is None or shared.empty:
        return tables, False
    return {level: table.reindex(shared) for level, table in tables.items()}, True
