"""Two models of the same task, perhaps of two runs, side by side: paired by example id and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness_plugin.errors import HarnessError
from harness_plugin.records import Estimate, Predictions
from harness_plugin.scoring import intervals
from harness_plugin.scoring.measure import Bootstrap, Quantities, Quantity, measure_all
from harness_plugin.scoring.metrics import Metric
from harness_plugin.scoring.pairing import PairedPredictions, arrange, join
from harness_plugin.scoring.significance import SeedSummary, holm, mcnemar, over_seeds, wilson

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

    def __str__(self) -> str:
        return f"{self.where} ({self.role})"


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
class GroupTest:
    """Accuracy of one group (or, for "", of all rows) in both models, means over seeds."""

    split: str
    group: str
    n: int
    baseline: float
    candidate: float
    bounds: tuple[float, float]
    """Wilson 95% bounds of the candidate's accuracy, of one model on n rows."""
    only_baseline: int
    only_candidate: int
    """Rows that only one of the two gets right, summed over seeds."""
    p: float
    """Exact McNemar test seed by seed, the smallest p after Holm over groups and seeds."""
    worst: bool = False
    """Whether it is the baseline's worst group."""


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
    found: Mapping[str, Quantities] = measure_all(table, purposes, metrics, bootstrap)
    return {
        split: {
            subset: {name: q.reason or change_of(q) for name, q in quantities.items()}
            for subset, quantities in subsets.items()
        }
        for split, subsets in found.items()
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
        baseline=intervals.estimate(base, q.support, q.metric.bounds),
        candidate=intervals.estimate(new, q.support, q.metric.bounds),
        value=value,
        low=low,
        high=high,
        examples=(float(value - half), float(value + half)),
        seeds=over_seeds(by_seed),
        reason=change.reason,
    )


def group_tests(table: Mapping[str, PairedPredictions]) -> tuple[GroupTest, ...]:
    """Paired accuracy of all rows, then of every group that has any, set by set."""
    return tuple(test for split, paired in table.items() for test in tests_of(split, paired))


def tests_of(split: str, paired: PairedPredictions) -> list[GroupTest]:
    """The tests of one set; Holm's family is that of its groups, or of all rows, and the seeds."""
    first = paired[BASELINE][0]
    membership = first.membership
    groups = [
        test_of(split, name, paired, membership[:, index])
        for index, name in enumerate(first.groups)
        if membership[:, index].any()
    ]
    whole = test_of(split, "", paired, np.ones(len(first), dtype=bool))
    lowest = min((test.baseline for test, _ in groups), default=math.nan)
    adjusted = adjust([p for _, p in groups])
    return [
        replace(whole[0], p=adjust([whole[1]])[0]),
        *(
            replace(test, p=p, worst=test.baseline == lowest)
            for (test, _), p in zip(groups, adjusted, strict=True)
        ),
    ]


def test_of(
    split: str,
    group: str,
    paired: PairedPredictions,
    rows: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> tuple[GroupTest, list[float]]:
    """One group, with the p-value of every seed before any adjustment."""
    base, new = (np.stack([p.correct[rows] for p in paired[r]]) for r in (BASELINE, CANDIDATE))
    tests = [mcnemar(a, b) for a, b in zip(base, new, strict=True)]
    n, share = int(rows.sum()), float(new.mean())
    test = GroupTest(
        split=split,
        group=group,
        n=n,
        baseline=float(base.mean()),
        candidate=share,
        bounds=wilson(share, n),
        only_baseline=sum(test.only_first for test in tests),
        only_candidate=sum(test.only_second for test in tests),
        p=math.nan,
    )
    return test, [test.p for test in tests]


def adjust(p_values: Sequence[Sequence[float]]) -> list[float]:
    """The smallest p-value of each group after Holm over all groups and seeds."""
    if not p_values:
        return []
    family = np.array(p_values, dtype=np.float64)
    smallest: list[float] = holm(family.ravel()).reshape(family.shape).min(axis=-1).tolist()
    return smallest
