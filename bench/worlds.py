"""Simulated worlds with a known truth, for coverage.py: accuracies of groups, answers, resamples.

Worlds are accuracies of four groups (two bias-aligned, two conflicting) of teacher, student and
their ERM references. Every seed of a model has accuracies of its own (deviation `sd`, for each
group alone or for all together); rows have a latent difficulty that all models share (correlation
.5). What is done with the resamples is the product's: the corrected minimum, the intervals.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
from scipy.special import ndtri

from harness_plugin.records import Floats, VarianceComponents
from harness_plugin.scoring.statistics.minimum import minimum

Job, Result = TypeVar("Job"), TypeVar("Result")
RESAMPLES, SHARED = 200, 0.5
SDS = (0.01, 0.04, 0.08)
"""Deviations of the seeds."""
ERM = (0.86, 0.84, 0.70, 0.50)
WORLDS = {
    "tied": ((0.8,) * 4, (0.8,) * 4),
    "two tied": ((0.85, 0.85, 0.75, 0.75), (0.85, 0.85, 0.75, 0.75)),
    "one low": ((0.83, 0.83, 0.83, 0.76), (0.83, 0.83, 0.83, 0.76)),
    "drop 7": ((0.8,) * 4, (0.83, 0.83, 0.83, 0.76)),
    "drop 18": ((0.8,) * 4, (0.86, 0.86, 0.86, 0.68)),
}
"""Accuracies of teacher and student: aligned, aligned, conflicting, conflicting."""
METRICS = ("acc", "gap", "worst", "avg_worst")


@dataclass(frozen=True)
class Cell:
    """One setting of the grid."""

    world: str
    seeds: int
    sd: float
    together: bool
    rows: int

    @property
    def rng(self) -> np.random.Generator:
        """Its random stream, whatever else is simulated."""
        return np.random.default_rng([zlib.crc32(repr(self).encode())])

    @property
    def df(self) -> float:
        """Degrees of freedom of its rows."""
        return float(self.rows - 1)


def draw(
    accuracies: Sequence[Sequence[float]],
    cell: Cell,
    worlds: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Replicates (W, R, S, 1 + B, G) of R models and their true accuracies (W, R, S, G)."""
    shape = (worlds, len(accuracies), cell.seeds)
    groups = len(accuracies[0])
    noise = rng.standard_normal((*shape, 1 if cell.together else groups))
    true = np.clip(np.array(accuracies)[:, None] + cell.sd * noise, 0.01, 0.99)
    result = np.empty((*shape, 1 + RESAMPLES, groups))
    n = cell.rows
    for g in range(groups):
        difficulty = rng.standard_normal((worlds, 1, 1, n), dtype=np.float32)
        own = rng.standard_normal((*shape, n), dtype=np.float32)
        latent = np.sqrt(SHARED, dtype=np.float32) * difficulty
        latent = latent + np.sqrt(1 - SHARED, dtype=np.float32) * own
        right = (latent < ndtri(true)[..., g, None]).astype(np.float32)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
        weights = np.concatenate([np.ones((1, n)), counts]).astype(np.float32) / n
        result[..., g] = right @ weights.T
    return result, true


def measured(groups: Floats, seed: int) -> dict[str, Floats]:
    """Metric -> (W, R, S, 1 + B) of replicates (W, R, S, 1 + B, G)."""
    acc = groups.mean(axis=-1)
    roles = range(groups.shape[1])
    worst = np.stack([minimum(groups[:, role], seed + role) for role in roles], axis=1)
    return {
        "acc": acc,
        "gap": groups[..., :2].mean(axis=-1) - groups[..., 2:].mean(axis=-1),
        "worst": worst,
        "avg_worst": acc - worst,
    }


def truths(true: Floats) -> Floats:
    """(..., 4) the metrics of true accuracies (..., G)."""
    acc, low = true.mean(axis=-1), true.min(axis=-1)
    gap = true[..., :2].mean(axis=-1) - true[..., 2:].mean(axis=-1)
    return np.stack([acc, gap, low, acc - low], axis=-1)


@functools.cache
def expected(accuracies: tuple[float, ...], sd: float, together: bool) -> Floats:
    """(4,) expectation of the metrics over seeds."""
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((400_000, 1 if together else len(accuracies)))
    result: Floats = truths(np.clip(np.array(accuracies) + sd * noise, 0.01, 0.99)).mean(axis=0)
    return result


def part(c: VarianceComponents, world: int) -> VarianceComponents:
    """The components of one world."""
    numbers = (c.value[world], c.rows[world], c.own[world], c.seeds[world])
    return VarianceComponents(*numbers, c.n_seeds, c.df)


def outcomes(
    simulated: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    cost: Callable[[Job], float],
) -> list[Result]:
    """The result of every job, in order, by `workers` processes; the dearest are begun first.

    A job draws from a stream of its own, so that the results are the same for any `workers`.
    """
    every = list(jobs)
    if workers == 1:
        return [simulated(job) for job in every]
    dearest = sorted(range(len(every)), key=lambda k: -cost(every[k]))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {k: pool.submit(simulated, every[k]) for k in dearest}
        return [running[k].result() for k in range(len(every))]
