"""Two models of the same task, perhaps of two runs, side by side: paired by example id and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness_plugin.errors import HarnessError
from harness_plugin.records import Estimate, Flips, Predictions
from harness_plugin.scoring.bootstrap import Bootstrap
from harness_plugin.scoring.flips import flips_between, sentence
from harness_plugin.scoring.measure import Quantities, Quantity, measure_all
from harness_plugin.scoring.metrics import Metric
from harness_plugin.scoring.pairing import PairedPredictions, arrange, distinct, join
from harness_plugin.scoring.statistics import intervals
from harness_plugin.scoring.statistics.significance import SeedSummary, over_seeds, wilson
from harness_plugin.store.files import named

BASELINE, CANDIDATE = "baseline", "candidate"


@dataclass(frozen=True)
class Evaluated:
    """One role of one task, as a run or `harness score` left it behind."""

    where: str
    """The folder or file it comes from, for messages."""
    task: str
    role: str
    source: str
    digests: Mapping[str, str]
    """Evaluation set -> digest of its rows: what a training set was does not matter here."""
    collapse_rule: str
    purposes: Mapping[str, str]
    """Evaluation set -> "in_domain" or "ood"."""
    primary: Mapping[str, str]
    """Evaluation set -> its primary gap, where there is one."""
    predictions: tuple[Predictions, ...]
    """Of every seed on every set."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(sorted({p.seed for p in self.predictions}))

    @property
    def distinct_seeds(self) -> int:
        """How many different models they are."""
        by_set: dict[str, list[Predictions]] = {}
        for p in self.predictions:
            by_set.setdefault(p.split, []).append(p)
        return distinct(list(by_set.values()))

    def __str__(self) -> str:
        return f"{named(self.where)} ({self.role})"


@dataclass(frozen=True)
class Change:
    """How much worse the candidate is: above 0 is a drop of a performance, or a larger gap.

    Of a gap it is the change of its size, as in a verdict. `low`, `high`: 95% interval over rows
    and seeds, by the same rule as everywhere. `examples`: over rows alone, with these very seeds.
    `seeds`: the t interval over seeds alone.
    """

    baseline: Estimate
    candidate: Estimate
    value: float
    low: float
    high: float
    examples: tuple[float, float]
    seeds: SeedSummary
    reason: str = ""
    """Why there is no interval."""


@dataclass(frozen=True)
class GroupChange:
    """Accuracy of one group (or, for "", of all rows) in both models, means over seeds."""

    split: str
    group: str
    baseline: float
    candidate: float
    bounds: tuple[float, float]
    """Wilson 95% bounds of the candidate's accuracy, of one model on `flips.n` rows."""
    flips: Flips
    """Which answers differ, from baseline to candidate, and McNemar's test."""
    worst: bool = False
    """Whether it is the baseline's worst group."""


@dataclass(frozen=True)
class SetFlips:
    """The item flips of one set, from baseline to candidate."""

    split: str
    groups: tuple[GroupChange, ...]
    """All rows first, then every group that has any."""
    sentence: str
    """How many answers differ, beside what seeds change alone, and whose."""


def pair(baseline: Evaluated, candidate: Evaluated) -> dict[str, PairedPredictions]:
    """Set -> the predictions of the roles "baseline" and "candidate", one pair of models a seed.

    A side with a single model is compared with every seed of the other.

    Raises HarnessError for other tasks, sources, rows, collapse rules, evaluation sets or
    seeds, and for rows that differ.
    """
    refuse_unlike(baseline, candidate)
    sides = {BASELINE: baseline, CANDIDATE: candidate}
    pairs = max(len(side.seeds) for side in sides.values())
    predictions = [
        replace(p, role=role, seed=seed)
        for role, side in sides.items()
        for seed, original in enumerate(side.seeds * (pairs if len(side.seeds) == 1 else 1))
        for p in side.predictions
        if p.seed == original
    ]
    if any(p.labels_only for p in predictions):  # confidences are compared with confidences
        predictions = [replace(p, labels_only=True) for p in predictions]
    table = arrange(predictions, baseline.purposes)
    return {split: join(paired) for split, paired in table.items()}


def refuse_unlike(baseline: Evaluated, candidate: Evaluated) -> None:
    """Refuse two sides that were not asked the same questions."""
    if (baseline.source == "embedded") != (candidate.source == "embedded"):
        raise HarnessError(
            f"{baseline} has {baseline.source} data, {candidate} {candidate.source} data: numbers "
            f"of generated and of real data are never compared."
        )
    for what, attribute, advice in (
        ("task", "task", "only results of one task are compared"),
        ("collapse rule", "collapse_rule", "score both by the same rule"),
        ("evaluation sets", "purposes", "score both on the same sets"),
    ):
        mine, theirs = getattr(baseline, attribute), getattr(candidate, attribute)
        if mine != theirs:
            raise HarnessError(
                f"{what}: {shown(mine)} in {baseline}, {shown(theirs)} in {candidate}; {advice}."
            )
    if mine := set(baseline.digests.items()) - set(candidate.digests.items()):
        split = min(mine)[0]
        raise HarnessError(
            f"rows of set {split!r}: those of {baseline} are others than those of {candidate}; "
            f"evaluate both on the same rows (data and --limit)."
        )
    seeds = baseline.seeds, candidate.seeds
    if seeds[0] != seeds[1] and min(map(len, seeds)) > 1:
        raise HarnessError(
            f"seeds: {numbers(seeds[0])} in {baseline}, {numbers(seeds[1])} in {candidate}; models "
            f"are paired by seed, so name those that both have with --seeds."
        )


def shown(value: str | Mapping[str, str]) -> str:
    """A value as a message has it."""
    return value if isinstance(value, str) else ", ".join(value)


def numbers(values: Sequence[int]) -> str:
    """`0, 1, 2`."""
    return ", ".join(map(str, values))


def changes(
    table: Mapping[str, PairedPredictions],
    purposes: Mapping[str, str],
    metrics: Mapping[str, Metric],
    *,
    task: str,
    resamples: int,
    seed: int = 0,
    min_group: int = intervals.MIN_GROUP,
) -> dict[str, dict[str, dict[str, Change | str]]]:
    """Set -> subset -> metric -> change, or the reason why the metric is undefined there.

    Rows are resampled within (group, label, alignment), or by clusters, the same rows for both
    sides and all seeds.
    """
    bootstrap = Bootstrap(task, resamples, seed, min_group)
    measured: Mapping[str, Quantities] = measure_all(table, purposes, metrics, bootstrap)
    return {
        split: {
            subset: {name: q.reason or change_of(q) for name, q in quantities.items()}
            for subset, quantities in subsets.items()
        }
        for split, subsets in measured.items()
    }


def change_of(q: Quantity) -> Change:
    """The change of one metric on one set or subset."""
    base, new = q.values[BASELINE], q.values[CANDIDATE]
    sign = -1.0 if q.metric.higher_is_better else 1.0
    difference = sign * (new - base)
    change = intervals.estimate(difference, q.support, difference=True)
    c = intervals.components(difference, q.support.df)
    by_seed = difference[:, 0]
    value, low, high = change.value, change.low, change.high
    if q.metric.kind == "gap":
        gaps = intervals.sizes(new, base, q.support.df)
        by_size = intervals.size_change(gaps)
        value = float(by_size.value)
        if not change.reason:
            low, high = float(by_size.low), float(by_size.high)
        by_seed = abs(new[:, 0]) - abs(base[:, 0])
        c = gaps.difference if gaps.new.value * gaps.old.value >= 0 else gaps.total
    half = intervals.half_width(replace(c, n_seeds=1))
    return Change(
        baseline=intervals.estimate(q.alone[BASELINE], q.support, q.metric.bounds),
        candidate=intervals.estimate(q.alone[CANDIDATE], q.support, q.metric.bounds),
        value=value,
        low=low,
        high=high,
        examples=(float(value - half), float(value + half)),
        seeds=over_seeds(by_seed),
        reason=change.reason,
    )


def flips_in(table: Mapping[str, PairedPredictions]) -> tuple[SetFlips, ...]:
    """The item flips of every set, by the functions that a run's verdicts stand beside."""
    return tuple(set_flips(split, paired) for split, paired in table.items())


def set_flips(split: str, paired: PairedPredictions) -> SetFlips:
    """The flips of one set, with the accuracies of its groups."""
    flips = flips_between(split, paired, CANDIDATE, BASELINE)
    first = paired[BASELINE][0]
    members = dict(zip(first.groups, first.membership.T, strict=True))
    right = {role: np.stack([p.correct for p in paired[role]]) for role in paired}
    groups = []
    for f in flips:
        kind, _, name = f.subset.partition("=")
        if kind in ("", "group"):
            rows = members[name] if kind else np.ones(len(first), dtype=bool)
            base, new = (float(right[role][:, rows].mean()) for role in (BASELINE, CANDIDATE))
            groups.append(GroupChange(split, name, base, new, wilson(new, f.n), f))
    lowest = min((group.baseline for group in groups if group.group), default=math.nan)
    return SetFlips(
        split,
        tuple(replace(g, worst=bool(g.group) and g.baseline == lowest) for g in groups),
        sentence(flips),
    )
