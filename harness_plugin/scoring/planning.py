"""How many seeds and rows a verdict needs, before anything is trained.

From the sizes of the cells a gap compares, and from how much seeds differ: assumed, or as an
earlier run showed it. The planned bounds are those of the verdict (scoring.intervals), reached with
probability `power` if the estimate falls where it is expected.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import scipy

from harness_plugin.records import Evidence, Predictions, SetPlan, VarianceComponents, VerdictRule
from harness_plugin.scoring.measure import leave_out, support_of
from harness_plugin.scoring.metrics import WORST_GROUP_ACC, Metric
from harness_plugin.scoring.statistics.intervals import TAIL, Support, at_seeds, half_width
from harness_plugin.scoring.verdict import BY_GAP, MORE_ROWS, MOST_SEEDS

ACCURACY, ALIKE, COMMON = 0.8, 0.5, 0.5
"""Assumed: accuracy of every cell; correlation of two models on a row; the part of a difference's
row noise that all seeds share."""
SEED_SD = 0.04
"""Assumed deviation of a gap's change from seed to seed, as fractions."""
POWER = 0.8


def assumed(
    smallest: int, seeds: int, seed_sd: float, cells: int = 2, df: float = math.inf
) -> VarianceComponents:
    """Components of student minus teacher where nothing was measured.

    A cell of n rows adds 2 p (1 - p) (1 - rho) / n; a gap compares two cells, both as small as the
    smaller one. `df`: what clusters of rows leave of the n - 1 degrees of freedom; what they add to
    the variance depends on the models and is left out.
    """
    rows = cells * 2 * ACCURACY * (1 - ACCURACY) * (1 - ALIKE) / max(1, smallest)
    own = (1 - COMMON) * rows / seeds
    return VarianceComponents(
        value=np.asarray(0.0),
        rows=np.asarray(COMMON * rows + own),
        own=np.asarray(own),
        seeds=np.asarray(seed_sd**2 / seeds + own),
        n_seeds=seeds,
        df=float(max(1, min(df, smallest - 1))),
    )


def standard_error(c: VarianceComponents) -> float:
    """Deviation of the value."""
    return math.sqrt(max(0.0, float(c.rows - c.own) + float(c.seeds)))


def smallest_loss(c: VarianceComponents, rule: VerdictRule, power: float) -> float:
    """The true widening that is called lost with probability `power`."""
    quantile = float(scipy.special.ndtri(power))
    return rule.margin + float(half_width(c, BY_GAP)) + quantile * standard_error(c)


def shows_kept(c: VarianceComponents, rule: VerdictRule, power: float) -> bool:
    """Whether no change at all is called kept with probability `power`."""
    quantile = float(scipy.special.ndtri(power))
    return float(half_width(c, TAIL)) + quantile * standard_error(c) < rule.margin


def plan_set(
    rows: Predictions,
    gap: Metric,
    rule: VerdictRule,
    *,
    seeds: int,
    effect: float,
    power: float = POWER,
    seed_sd: float = SEED_SD,
    earlier: Evidence | None = None,
) -> SetPlan:
    """The plan of one evaluation set; `rows` are known for their labels and groups alone."""
    rows = leave_out(rows, rule.min_group)
    if reason := gap.applies(rows):
        return nothing(rows.split, gap.name, reason)
    support = support_of(rows, gap.cells(rows), rule.min_group)
    if support.lacking:
        return nothing(rows.split, gap.name, support.lacking, support)
    start = max(rule.min_seeds, 3)
    of_gap = earlier.change if earlier else assumed(support.smallest, start, seed_sd, df=support.df)
    both = [of_gap]
    cell, least = smallest_group(rows)
    if cell:
        of_worst = earlier.drop if earlier else assumed(least, start, seed_sd, cells=1)
        both += [of_worst] if of_worst is not None else []
    range_of_seeds = range(start, MOST_SEEDS + 1)

    def loss(seeds: int) -> float:
        return smallest_loss(at_seeds(of_gap, seeds), rule, power)

    def kept(seeds: int, times: float = 1.0) -> bool:
        return all(shows_kept(at_seeds(c, seeds, times), rule, power) for c in both)

    return SetPlan(
        split=rows.split,
        gap=gap.name,
        smallest_cell=min(support.smallest, least) if cell else support.smallest,
        cell=cell,
        clusters=support.clusters,
        smallest_loss=loss(seeds) if seeds > 1 else math.nan,
        ever=loss(MOST_SEEDS),
        seeds_for_effect=next((s for s in range_of_seeds if loss(s) <= effect), None),
        seeds_for_kept=next((s for s in range_of_seeds if kept(s)), None),
        rows_for_kept=next((m for m in MORE_ROWS if kept(MOST_SEEDS, m)), None),
        short=shows(seeds, loss(seeds) if seeds > 1 else math.nan, rule)
        + ("" if earlier else if_independent(support)),
    )


def if_independent(support: Support) -> str:
    """What an assumption leaves out where rows come in clusters; "" where they do not."""
    if support.clusters is None or support.clusters >= support.smallest:
        return ""
    return (
        f" if rows of a cluster were independent ({support.clusters} clusters; --run DIR plans "
        f"with what these cost a run)"
    )


def shows(seeds: int, loss: float, rule: VerdictRule) -> str:
    """A sentence on the power of a number of seeds."""
    if seeds < rule.min_seeds:
        return f"{seeds} seed(s) give no verdict, it takes {rule.min_seeds}"
    return f"{seeds} seeds show a loss of {100 * loss:.1f} points or more"


def smallest_group(rows: Predictions) -> tuple[str, int]:
    """The smallest group that may be the worst, and its rows; "" without one."""
    if WORST_GROUP_ACC.applies(rows):
        return "", 0
    sizes = dict(zip(rows.groups, rows.membership.sum(axis=0).tolist(), strict=True))
    ranked = {name: n for name, n in sizes.items() if name not in rows.left_out}
    name = min(ranked, key=ranked.__getitem__)
    return name, ranked[name]


def nothing(split: str, gap: str, reason: str, support: Support | None = None) -> SetPlan:
    """The plan of a set on which no verdict can ever be given."""
    smallest = support.smallest if support else 0
    clusters = support.clusters if support else None
    nan = math.nan
    short = f"no verdict: {reason}"
    return SetPlan(split, gap, smallest, "", clusters, nan, nan, None, None, None, reason, short)


def lines(plans: Sequence[SetPlan], effect: float) -> Iterator[str]:
    """A plan in words, a line a set."""
    for plan in plans:
        yield f"{plan.split}: {words(plan, effect)}"


def words(plan: SetPlan, effect: float) -> str:
    """A sentence on the power of one set."""
    if plan.reason:
        return plan.short
    cell = f"smallest cell {plan.smallest_cell:,} rows"
    cell += f" ({plan.cell})" if plan.cell else ""
    lost = f"{plan.seeds_for_effect} seeds" if plan.seeds_for_effect else "not even 20 seeds"
    kept = f"{plan.seeds_for_kept} seeds" if plan.seeds_for_kept else "not even 20 seeds"
    if not plan.seeds_for_kept and plan.rows_for_kept:
        kept = f"20 seeds and {plan.rows_for_kept:g} times the rows"
    text = (
        f"{cell}; {plan.short}; {100 * effect:g} points: {lost}; to show no change as kept: {kept}"
    )
    if plan.ever > effect:
        text += f"; below {100 * plan.ever:.1f} points these rows show no loss"
    return text
