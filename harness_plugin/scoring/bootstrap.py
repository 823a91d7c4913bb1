"""Resamples of the rows of a set, shared by all roles and seeds, and functions of them.

Every difference between roles, seeds or metrics on one set is thereby a paired one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from harness_plugin.records import Counts, Floats, Ints, Predictions
from harness_plugin.scoring.metrics import Metric, one_hot, totals
from harness_plugin.scoring.pairing import PairedPredictions, first_of, take
from harness_plugin.scoring.statistics import resampling
from harness_plugin.scoring.statistics.intervals import MIN_GROUP

KINDS_PAY = 4
"""Rows are drawn one by one unless there are this many times fewer kinds of them."""
MOST_KINDS = 64
"""Counts are summed by a model's kinds of rows unless it has more: the product grows with them."""


@dataclass(frozen=True)
class Bootstrap:
    """The resampling of one task; every set and subset has a random stream of its own."""

    task: str
    resamples: int
    seed: int = 0
    min_group: int = MIN_GROUP

    def generator(self, *of: str) -> np.random.Generator:
        """The random stream of `of`, whatever else is scored and in which order."""
        return np.random.default_rng([self.seed, zlib.crc32("\n".join((self.task, *of)).encode())])

    def rows(self, paired: PairedPredictions, *of: str) -> Iterator[Counts]:
        """(b, N) row counts: all ones first, then the resamples.

        Rows are drawn within (groups, label, aligned), so that no cell of a metric is ever empty;
        or whole clusters, where a set names them.
        """
        p = first_of(paired)
        yield np.ones((1, len(p)))
        if p.units is None:
            strata = strata_of(p)
            yield from resampling.group_stratified_counts(
                strata, self.resamples, self.generator(*of)
            )
        else:
            ones = np.ones(len(p))
            yield from resampling.cluster_counts(p.units, ones, self.resamples, self.generator(*of))

    def cells(
        self, paired: PairedPredictions, *of: str
    ) -> tuple[PairedPredictions, Iterator[Counts]]:
        """A row for each of the K kinds of rows that all models label alike, and (b, K) counts.

        Their sizes first, then the resamples, as `rows` draws them. For metrics `of_labels`.
        """
        p = first_of(paired)
        strata = strata_of(p)
        answers = [x.predicted for role in sorted(paired) for x in paired[role]]  # in any order
        apart = [strata] if p.units is None else [strata, p.units]
        kinds = resampling.strata_of(*apart, *answers)
        _, first, sizes = np.unique(kinds, return_index=True, return_counts=True)
        if KINDS_PAY * len(sizes) > len(p):
            return paired, self.rows(paired, *of)
        few = {role: tuple(take(x, first) for x in paired[role]) for role in paired}

        def counts() -> Iterator[Counts]:
            yield sizes[None].astype(np.float64)
            rng = self.generator(*of)
            if p.units is None:
                yield from resampling.cell_counts(strata, kinds, self.resamples, rng)
            else:
                clusters = p.units[first]
                yield from resampling.cluster_counts(clusters, sizes, self.resamples, rng)

        return few, counts()


def strata_of(p: Predictions) -> Ints:
    """(N,) the stratum of each row: rows of one stratum differ in the models' answers only."""
    return resampling.strata_of(p.pattern, p.label, p.aligned)


Function: TypeAlias = Callable[[Predictions, Counts], Floats]
"""(b, ...) values of one model from its N rows and (b, N) counts."""
Evaluator: TypeAlias = Callable[[Counts], Mapping[str, Floats]]
"""All functions of one model, by name, from (b, N) counts."""
Drawn: TypeAlias = dict[str, dict[str, Floats]]
"""Function name -> role -> (S, 1 + B, ...) values."""


def shared_and_alone(
    functions: Mapping[str, Function],
    paired: PairedPredictions,
    bootstrap: Bootstrap,
    *of: str,
) -> tuple[Drawn, Drawn]:
    """Functions of labels on resamples that all roles share, and on those of each role alone."""
    if not functions:
        return {}, {}
    evaluate = by_kind(functions)
    shared = resample(evaluate, *bootstrap.cells(paired, *of))
    if len(paired) == 1:
        return shared, {name: dict(roles) for name, roles in shared.items()}
    alone: Drawn = {name: {} for name in functions}
    for role in paired:
        own = resample(evaluate, *bootstrap.cells({role: paired[role]}, *of))
        for name, values in own.items():
            alone[name] |= values
    return shared, alone


def by_kind(functions: Mapping[str, Function]) -> Callable[[Predictions], Evaluator]:
    """Functions of labels: counts are summed over the rows that the model labels alike, then given.

    So they are read once a model instead of once a function, and what a function makes of its rows
    is as small as their kinds are few.
    """

    def of(p: Predictions) -> Evaluator:
        kinds = resampling.strata_of(strata_of(p), p.predicted)
        number = int(kinds.max(initial=-1)) + 1
        if number > MOST_KINDS:
            return lambda counts: {
                name: function(p, counts) for name, function in functions.items()
            }
        one_of = np.empty(number, dtype=np.int64)
        one_of[kinds] = np.arange(len(p))
        few, columns = take(p, one_of), one_hot(kinds, number)

        def evaluated(counts: Counts) -> Mapping[str, Floats]:
            sums = totals(counts, columns)
            return {name: function(few, sums) for name, function in functions.items()}

        return evaluated

    return of


def by_row(metrics: Iterable[Metric]) -> Callable[[Predictions], Evaluator]:
    """Metrics of every row."""

    def of(p: Predictions) -> Evaluator:
        prepared = {metric.name: metric.of(p) for metric in metrics}
        return lambda counts: {name: values(counts) for name, values in prepared.items()}

    return of


def resample(
    evaluate: Callable[[Predictions], Evaluator], paired: PairedPredictions, rows: Iterator[Counts]
) -> Drawn:
    """The functions of every model, on the same row counts."""
    models = {role: [evaluate(p) for p in predictions] for role, predictions in paired.items()}
    drawn: dict[str, dict[str, list[Floats]]] = {}
    for counts in rows:
        for role, evaluators in models.items():
            values = [evaluated(counts) for evaluated in evaluators]
            for name in values[0]:
                chunks = drawn.setdefault(name, {}).setdefault(role, [])
                chunks.append(np.stack([of_model[name] for of_model in values]))
    return {
        name: {role: np.concatenate(chunks, axis=1) for role, chunks in roles.items()}
        for name, roles in drawn.items()
    }
