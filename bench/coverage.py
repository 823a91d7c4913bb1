"""Coverage of the intervals, error rates of verdicts: simulation through the product's functions.

    python bench/coverage.py --part grid --worlds 1000    # 480 cells, hours; --rows 100: some
    python bench/coverage.py --part verdicts|remedies|clusters

Worlds are accuracies of four groups (two bias-aligned, two conflicting) of teacher, student and
their ERM references. Every seed of a model has accuracies of its own (deviation `sd`, for each
group alone or for all together); rows have a latent difficulty that all models share (correlation
.5). Results: docs/verdicts.md.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from harness_plugin.pipeline.remedy import shown_to_help
from harness_plugin.records import Estimate, Evidence, Floats, VarianceComponents, VerdictRule
from harness_plugin.scoring import intervals, resampling
from harness_plugin.scoring.intervals import Interval
from harness_plugin.scoring.minimum import minimum
from harness_plugin.scoring.verdict import verdict

RESAMPLES, SHARED = 200, 0.5
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
    found = np.empty((*shape, 1 + RESAMPLES, groups))
    n = cell.rows
    for g in range(groups):
        difficulty = rng.standard_normal((worlds, 1, 1, n), dtype=np.float32)
        own = rng.standard_normal((*shape, n), dtype=np.float32)
        latent = np.sqrt(SHARED, dtype=np.float32) * difficulty
        latent = latent + np.sqrt(1 - SHARED, dtype=np.float32) * own
        right = (latent < ndtri(true)[..., g, None]).astype(np.float32)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
        weights = np.concatenate([np.ones((1, n)), counts]).astype(np.float32) / n
        found[..., g] = right @ weights.T
    return found, true


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
    found: Floats = truths(np.clip(np.array(accuracies) + sd * noise, 0.01, 0.99)).mean(axis=0)
    return found


@dataclass(frozen=True)
class Covered:
    """Of one number in one cell: share of intervals that hold the truth, and the bias (points)."""

    coverage: float
    bias: float
    claimed: float = 1.0


def simulate(cell: Cell, worlds: int) -> dict[str, Covered]:
    """Number -> coverage and bias, from `worlds` worlds."""
    teacher, student = WORLDS[cell.world]
    models = (teacher, student, ERM, tuple(a - 0.02 for a in ERM))
    rng = cell.rng
    hits: dict[str, list[Floats]] = {}
    errors: dict[str, list[Floats]] = {}

    def put(name: str, found: Interval, true: Floats) -> None:
        inside = (found.low <= true) & (true <= found.high)
        hits.setdefault(name, []).append(np.where(np.isnan(found.value), np.nan, inside))
        errors.setdefault(name, []).append(found.value - true)

    def interval(values: Floats) -> Interval:
        return intervals.bounds(intervals.components(values, cell.df))

    step = max(10, min(100, int(2e7 // (4 * cell.seeds * max(cell.rows, RESAMPLES)))))
    for start in range(0, worlds, step):
        number = min(step, worlds - start)
        groups, true = draw(models, cell, number, rng)
        found = measured(groups, start)
        if cell.seeds == 1:  # the interval is of these very models
            target = truths(true[:, :, 0])
        else:
            means = np.stack([expected(m, cell.sd, cell.together) for m in models])
            target = np.broadcast_to(means, (number, *means.shape))
        for i, metric in enumerate(METRICS):
            v = found[metric]
            put(metric, interval(v[:, 1]), target[:, 1, i])
            put(f"d {metric}", interval(v[:, 1] - v[:, 0]), target[:, 1, i] - target[:, 0, i])
        gap = found["gap"]
        change = intervals.size_change(intervals.sizes(gap[:, 1], gap[:, 0], cell.df))
        put("d size of gap", change, abs(target[:, 1, 1]) - abs(target[:, 0, 1]))
        w, t = found["worst"], target[..., 2]
        ratio = intervals.ratio(w[:, 1] - w[:, 3], w[:, 0] - w[:, 2], cell.df)
        put("retention", ratio, (t[:, 1] - t[:, 3]) / (t[:, 0] - t[:, 2]))
    return {
        name: covered(np.concatenate(hits[name]), np.concatenate(errors[name])) for name in hits
    }


def covered(hits: Floats, errors: Floats) -> Covered:
    """Of those that claim anything."""
    claimed = ~np.isnan(hits)
    if claimed.sum() < 50:
        return Covered(float("nan"), float("nan"), float(claimed.mean()))
    return Covered(
        float(hits[claimed].mean()), 100 * float(np.nanmean(errors)), float(claimed.mean())
    )


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """The grid, or the part of it that was asked for."""
    for rows, world, seeds, sd, together in itertools.product(
        args.rows, args.only or WORLDS, args.seeds, (0.01, 0.04, 0.08), (False, True)
    ):
        yield Cell(world, seeds, sd, together, rows)


def grid(args: argparse.Namespace) -> None:
    """A line a cell, then for every number how its cells are spread."""
    table: dict[str, list[tuple[float, Cell]]] = {}
    bias: dict[str, list[float]] = {}
    for cell in cells(args):
        found = simulate(cell, args.worlds)
        shown = " ".join(f"{name} {c.coverage:.3f}" for name, c in found.items())
        biases = " ".join(f"{n} {found[n].bias:+.1f}" for n in ("worst", "avg_worst", "d worst"))
        how = "together" if cell.together else "apart"
        print(
            f"{cell.world:8} {how:8} S {cell.seeds:2} sd {100 * cell.sd:.0f} n {cell.rows:4} | "
            f"{shown} | bias {biases}",
            flush=True,
        )
        for name, c in found.items():
            table.setdefault(name, []).append((c.coverage, cell))
            bias.setdefault(name, []).append(c.bias)
    print("\n| number | below .93 | in [.93, .98] | above .98 | lowest | bias, points |")
    print("|---|--:|--:|--:|--:|:-:|")
    for name, found_in in table.items():
        coverage = np.array([c for c, _ in found_in])
        coverage = coverage[~np.isnan(coverage)]
        low, high = (coverage < 0.93).mean(), (coverage > 0.98).mean()
        print(
            f"| {name} | {low:.1%} | {1 - low - high:.0%} | {high:.0%} | {coverage.min():.3f} | "
            f"{min(bias[name]):+.1f} to {max(bias[name]):+.1f} |"
        )


def part(c: VarianceComponents, world: int) -> VarianceComponents:
    """The components of one world."""
    numbers = (c.value[world], c.rows[world], c.own[world], c.seeds[world])
    return VarianceComponents(*numbers, c.n_seeds, c.df)


def states(
    models: Sequence[Sequence[float]], cell: Cell, worlds: int, rule: VerdictRule
) -> Mapping[str, float]:
    """State -> share of worlds; `models` are teacher, student and ERM teacher."""
    counts: dict[str, int] = {}
    rng = cell.rng
    for start in range(0, worlds, 100):
        number = min(100, worlds - start)
        groups, _ = draw(models, cell, number, rng)
        found = measured(groups, start)
        gap, worst = found["gap"], found["worst"]
        change = intervals.sizes(gap[:, 1], gap[:, 0], cell.df)
        gain = intervals.sizes(gap[:, 0], gap[:, 2], cell.df)
        drop = intervals.components(worst[:, 0] - worst[:, 1], cell.df)
        better = intervals.components(worst[:, 0] - worst[:, 2], cell.df)
        for world in range(number):
            evidence = Evidence(
                student="student",
                split="set",
                gap="gap",
                student_gap=part(change.new, world),
                teacher_gap=part(change.old, world),
                change=part(change.difference, world),
                total=part(change.total, world),
                drop=part(drop, world),
                reference_gap=part(gain.old, world),
                reference_change=part(gain.difference, world),
                reference_total=part(gain.total, world),
                reference_drop=part(better, world),
                distinct_seeds=cell.seeds,
            )
            state = verdict("task", evidence, rule).state
            counts[state] = counts.get(state, 0) + 1
    return {state: count / worlds for state, count in counts.items()}


TEACHERS = {
    "one low": (0.84, 0.84, 0.84, 0.78),
    "tied": (0.8, 0.8, 0.8, 0.8),
    "over-corrected": (0.78, 0.78, 0.84, 0.84),
}


def verdicts(args: argparse.Namespace) -> None:
    """Shares of the states where gap and worst group change by `true`, the margin among them."""
    print(
        "| teacher | seeds | sd | rows | true change | lost | kept | nothing_to_keep | undecided |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for (name, teacher), seeds, sd, true, rows in itertools.product(
        TEACHERS.items(), args.seeds, (0.01, 0.04, 0.08), (0.0, 0.02, 0.05, 0.10), args.rows
    ):
        if seeds < VerdictRule().min_seeds:
            continue
        falls = (1, 1, 0, 0) if name == "over-corrected" else (0, 0, 1, 1)
        student = [a - true * f for a, f in zip(teacher, falls, strict=True)]
        cell = Cell(f"{name} {true}", seeds, sd, False, rows)
        found = states((teacher, student, ERM), cell, args.worlds, VerdictRule())
        shares = " | ".join(
            f"{found.get(s, 0):.3f}" for s in ("lost", "kept", "nothing_to_keep", "undecided")
        )
        print(
            f"| {name} | {seeds} | {100 * sd:.0f} | {rows} | {100 * true:.0f} | {shares} |",
            flush=True,
        )
    print("\nTeacher and ERM teacher alike: share of worlds that get another state than nothing")
    for seeds, sd in itertools.product(args.seeds, (0.01, 0.04, 0.08)):
        if seeds >= VerdictRule().min_seeds:
            cell = Cell("no gain", seeds, sd, False, args.rows[0])
            found = states((ERM, ERM, ERM), cell, args.worlds, VerdictRule())
            print(f"S {seeds} sd {100 * sd:.0f}: {1 - found.get('nothing_to_keep', 0):.3f}")


def remedies(args: argparse.Namespace) -> None:
    """How often a best of eight is shown: none helps, or the last one gains ten points."""
    print("| seeds | sd | gain of one | any shown | the right one shown |")
    print("|--:|--:|--:|--:|--:|")
    for seeds, sd, gain in itertools.product(args.seeds, (0.01, 0.02, 0.05), (0.0, 0.10)):
        if seeds < VerdictRule().min_seeds:
            continue
        cell = Cell(f"remedies {gain}", seeds, sd, False, 200)
        models = [(0.8, 0.8, 0.8, 0.7)] * 8 + [(0.8, 0.8, 0.8, 0.7 + gain)]
        rng, shown, right = cell.rng, 0, 0
        for start in range(0, args.worlds, 50):
            number = min(50, args.worlds - start)
            worst = measured(draw(models, cell, number, rng)[0], start)["worst"]
            for world in range(number):
                gains = {
                    str(k): Estimate(
                        0.0,
                        components=intervals.components(worst[world, k] - worst[world, 0], cell.df),
                    )
                    for k in range(1, 9)
                }
                helps = shown_to_help(gains, 1)
                shown += bool(helps)
                right += "8" in helps
        print(
            f"| {seeds} | {100 * sd:.0f} | {100 * gain:.0f} | {shown / args.worlds:.3f} | "
            f"{right / args.worlds:.3f} |",
            flush=True,
        )


def clusters(args: argparse.Namespace) -> None:
    """Coverage of an accuracy on templates of 20 rows that are alike, by rows and by clusters."""
    print("| templates | by rows | by clusters |")
    print("|--:|--:|--:|")
    seeds, size = 5, 20
    for templates in (10, 20, 50, 100):
        rng = np.random.default_rng([10, templates])
        code = np.repeat(np.arange(templates), size)
        hits = np.zeros(2)
        for _ in range(args.worlds):
            right = alike(templates, size, seeds, rng)
            ones = np.ones(len(code))
            ways = (
                (resampling.group_stratified_counts(0 * code, RESAMPLES, rng), len(code) - 1),
                (resampling.cluster_counts(code, ones, RESAMPLES, rng), templates - 1),
            )
            for way, (chunks, df) in enumerate(ways):
                counts = np.concatenate([ones[None], *chunks])
                values = right @ counts.T / counts.sum(axis=1)
                found = intervals.bounds(intervals.components(values, float(df)))
                hits[way] += found.low <= 0.8 <= found.high
        by_rows, by_clusters = hits / args.worlds
        print(f"| {templates} | {by_rows:.3f} | {by_clusters:.3f} |", flush=True)


def alike(templates: int, size: int, seeds: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(S, templates * size) right answers: latent .3 template, .3 row, .4 seed's own."""
    accuracy = 0.8 + 0.04 * rng.standard_normal(seeds)
    of_template = np.sqrt(0.3) * rng.standard_normal((1, templates, 1))
    of_row = np.sqrt(0.3) * rng.standard_normal((1, templates, size))
    own = np.sqrt(0.4) * rng.standard_normal((seeds, templates, size))
    right = of_template + of_row + own < ndtri(accuracy)[:, None, None]
    return right.reshape(seeds, -1).astype(np.float64)


def main() -> int:
    """Print one part."""
    parts = {"grid": grid, "verdicts": verdicts, "remedies": remedies, "clusters": clusters}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=parts, default="grid")
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=WORLDS, help="worlds of the grid")
    parser.add_argument("--rows", type=int, nargs="*", default=[30, 100, 300, 1000])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 3, 5, 10])
    args = parser.parse_args()
    parts[args.part](args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
