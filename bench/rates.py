"""How often verdicts, best remedies and intervals of clusters are wrong, for coverage.py."""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special
from worlds import ERM, RESAMPLES, SDS, Cell, draw, measured, outcomes, part

from harness_plugin.records import Estimate, Evidence, VerdictRule
from harness_plugin.scoring.statistics import intervals, resampling
from harness_plugin.scoring.verdict import verdict


def states(
    models: Sequence[Sequence[float]], cell: Cell, worlds: int, rule: VerdictRule
) -> Mapping[str, float]:
    """State -> share of worlds; `models` are teacher, student and ERM teacher."""
    counts: dict[str, int] = {}
    rng = cell.rng
    for start in range(0, worlds, 100):
        number = min(100, worlds - start)
        groups, _ = draw(models, cell, number, rng)
        result = measured(groups, start)
        gap, worst = result["gap"], result["worst"]
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
    enough_seeds = [seeds for seeds in args.seeds if seeds >= VerdictRule().min_seeds]
    jobs = [
        (name, true, Cell(f"{name} {true}", seeds, sd, False, rows))
        for name, seeds, sd, true, rows in itertools.product(
            TEACHERS, enough_seeds, SDS, (0.0, 0.02, 0.05, 0.10), args.rows
        )
    ]
    result = outcomes(
        functools.partial(shares_of, worlds=args.worlds),
        jobs,
        args.workers,
        lambda job: job[2].seeds,
    )
    error = (0.025 * 0.975 / args.worlds) ** 0.5
    print(
        f"\nShares of the states, {args.worlds} draws each (Monte-Carlo error {error:.3f}). "
        "At a true change of 2 points, the margin, `lost` and `kept` are wrong.\n"
    )
    print(f"| teacher | seeds | sd | rows | true change | {' | '.join(STATES)} |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for (name, true, cell), each in zip(jobs, result, strict=True):
        shares = " | ".join(f"{each.get(state, 0):.3f}" for state in STATES)
        setting = f"{cell.seeds} | {100 * cell.sd:.0f} | {cell.rows} | {100 * true:.0f}"
        print(f"| {name} | {setting} | {shares} |")
    at_margin = [each for (_, true, _), each in zip(jobs, result, strict=True) if true == 0.02]
    most = {state: max(each.get(state, 0) for each in at_margin) for state in ("lost", "kept")}
    print(f"\nAt the margin at most {most['lost']:.3f} lost, {most['kept']:.3f} kept.")
    same = [
        ("", 0.0, Cell("no gain", seeds, sd, False, args.rows[0]))
        for seeds, sd in itertools.product(enough_seeds, SDS)
    ]
    none = outcomes(
        functools.partial(shares_of, worlds=args.worlds),
        same,
        args.workers,
        lambda job: job[2].seeds,
    )
    print(
        "\nTeacher and ERM teacher alike: share of worlds with another state than nothing_to_keep\n"
    )
    print("| seeds | sd | another state |")
    print("|--:|--:|--:|")
    for (_, _, cell), each in zip(same, none, strict=True):
        print(f"| {cell.seeds} | {100 * cell.sd:.0f} | {1 - each.get('nothing_to_keep', 0):.3f} |")


def shares_of(job: tuple[str, float, Cell], worlds: int) -> Mapping[str, float]:
    """The states of a teacher and a student that is worse by a true change; "": all three alike."""
    name, true, cell = job
    if not name:
        return states((ERM, ERM, ERM), cell, worlds, VerdictRule())
    teacher = TEACHERS[name]
    falls = (1, 1, 0, 0) if name == "over-corrected" else (0, 0, 1, 1)
    student = [a - true * f for a, f in zip(teacher, falls, strict=True)]
    return states((teacher, student, ERM), cell, worlds, VerdictRule())


STATES = ("lost", "kept", "nothing_to_keep", "undecided")


def remedies(args: argparse.Namespace) -> None:
    """How often a best of eight is shown: none helps, or the last one gains ten points."""
    jobs = [
        (gain, Cell(f"remedies {gain}", seeds, sd, False, 200))
        for seeds, sd, gain in itertools.product(args.seeds, (0.01, 0.02, 0.05), (0.0, 0.10))
        if seeds >= VerdictRule().min_seeds
    ]
    result = outcomes(
        functools.partial(shown_of_eight, worlds=args.worlds),
        jobs,
        args.workers,
        lambda j: j[1].seeds,
    )
    print("\nEight remedies, worst group of 200 rows:\n")
    print("| seeds | sd | gain of one | any shown | the right one shown |")
    print("|--:|--:|--:|--:|--:|")
    for (gain, cell), (shown, right) in zip(jobs, result, strict=True):
        setting = f"{cell.seeds} | {100 * cell.sd:.0f} | {100 * gain:.0f}"
        print(f"| {setting} | {shown:.3f} | {right:.3f} |")


def shown_of_eight(job: tuple[float, Cell], worlds: int) -> tuple[float, float]:
    """Share of worlds where any of eight remedies is shown to help, and where the last one is."""
    from harness_plugin.pipeline.remedy import shown_to_help  # torch comes with it

    gain, cell = job
    models = [(0.8, 0.8, 0.8, 0.7)] * 8 + [(0.8, 0.8, 0.8, 0.7 + gain)]
    rng, shown, right = cell.rng, 0, 0
    for start in range(0, worlds, 50):
        number = min(50, worlds - start)
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
    return shown / worlds, right / worlds


def clusters(args: argparse.Namespace) -> None:
    """Coverage of an accuracy on templates whose rows are alike: equal ones, and unequal ones."""
    templates = (10, 20, 50, 100)
    covers = functools.partial(covers_by, worlds=args.worlds)
    result = outcomes(covers, [(20,) * number for number in templates], args.workers, sum)
    print("\nCoverage of an accuracy on templates of 20 rows:\n")
    print("| templates | by rows | by clusters |")
    print("|--:|--:|--:|")
    for number, (by_rows, by_clusters, _) in zip(templates, result, strict=True):
        print(f"| {number} | {by_rows:.3f} | {by_clusters:.3f} |")
    result = outcomes(covers, list(UNEQUAL.values()), args.workers, sum)
    print("\nThe same where templates are of different sizes:\n")
    print("| rows | clusters | worth | by their number | by what they are worth |")
    print("|---|--:|--:|--:|--:|")
    for (words, sizes), (_, by_number, by_worth) in zip(UNEQUAL.items(), result, strict=True):
        support = support_of_clusters(sizes)
        shown = "no interval" if support.lacking else f"{by_worth:.3f}"
        print(f"| {words} | {len(sizes)} | {support.effective:.1f} | {by_number:.3f} | {shown} |")


UNEQUAL = {
    "20 of 20, 400 alone": (20,) * 20 + (1,) * 400,
    "20 of 5, 100 alone": (5,) * 20 + (1,) * 100,
    "12 of 30, 12 of 5": (30,) * 12 + (5,) * 12,
    "10 of 20, 50 alone": (20,) * 10 + (1,) * 50,
    "5 of 40, 50 alone": (40,) * 5 + (1,) * 50,
    "3 of 100, 100 alone": (100,) * 3 + (1,) * 100,
    "1 of 200, 200 alone": (200,) + (1,) * 200,
}
"""Rows in words -> sizes of their clusters."""


def support_of_clusters(sizes: tuple[int, ...]) -> intervals.Support:
    """What an accuracy over clusters of `sizes` stands on."""
    rows = sum(sizes)
    worth = intervals.effective_clusters(sizes)
    return intervals.Support(rows, rows, len(sizes), effective=worth)


def covers_by(sizes: tuple[int, ...], worlds: int) -> tuple[float, float, float]:
    """Coverage of an interval that resamples rows, and of two that resample clusters of `sizes`.

    These have the degrees of freedom of the number of clusters, and of what they are worth.
    """
    seeds, number = 5, len(sizes)
    rng = np.random.default_rng([10, number])
    code = np.repeat(np.arange(number), sizes)
    hits = np.zeros(3)
    for _ in range(worlds):
        right = alike(code, number, seeds, rng)
        ones = np.ones(len(code))
        by_row = resampling.group_stratified_counts(0 * code, RESAMPLES, rng)
        by_row = np.concatenate([ones[None], *by_row])
        by_cluster = np.concatenate(
            [ones[None], *resampling.cluster_counts(code, ones, RESAMPLES, rng)]
        )
        ways = (
            (by_row, len(code) - 1.0),
            (by_cluster, number - 1.0),
            (by_cluster, support_of_clusters(sizes).df),
        )
        for way, (counts, df) in enumerate(ways):
            values = right @ counts.T / counts.sum(axis=1)
            result = intervals.bounds(intervals.components(values, df))
            hits[way] += result.low <= 0.8 <= result.high
    by_rows, by_number, by_worth = (hits / worlds).tolist()
    return by_rows, by_number, by_worth


def alike(
    code: NDArray[np.int64], number: int, seeds: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(S, N) right answers of rows in clusters `code` (N,): latent .3 cluster, .3 row, .4 seed's.

    The mean accuracy of the seeds is .8, with a deviation of .04.
    """
    accuracy = 0.8 + 0.04 * rng.standard_normal(seeds)
    of_cluster = np.sqrt(0.3) * rng.standard_normal(number)
    of_row = np.sqrt(0.3) * rng.standard_normal(len(code))
    own = np.sqrt(0.4) * rng.standard_normal((seeds, len(code)))
    right = of_cluster[code] + of_row + own < special.ndtri(accuracy)[:, None]
    return right.astype(np.float64)
