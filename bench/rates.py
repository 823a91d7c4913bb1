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
    """Coverage of an accuracy on templates of 20 rows that are alike, by rows and by clusters."""
    templates = (10, 20, 50, 100)
    covers = functools.partial(covers_by, worlds=args.worlds)
    result = outcomes(covers, templates, args.workers, float)
    print("\nCoverage of an accuracy on templates of 20 rows:\n")
    print("| templates | by rows | by clusters |")
    print("|--:|--:|--:|")
    for number, (by_rows, by_clusters) in zip(templates, result, strict=True):
        print(f"| {number} | {by_rows:.3f} | {by_clusters:.3f} |")


def covers_by(templates: int, worlds: int) -> tuple[float, float]:
    """Coverage of an interval that resamples rows, and of one that resamples templates."""
    seeds, size = 5, 20
    rng = np.random.default_rng([10, templates])
    code = np.repeat(np.arange(templates), size)
    hits = np.zeros(2)
    for _ in range(worlds):
        right = alike(templates, size, seeds, rng)
        ones = np.ones(len(code))
        ways = (
            (resampling.group_stratified_counts(0 * code, RESAMPLES, rng), len(code) - 1),
            (resampling.cluster_counts(code, ones, RESAMPLES, rng), templates - 1),
        )
        for way, (chunks, df) in enumerate(ways):
            counts = np.concatenate([ones[None], *chunks])
            values = right @ counts.T / counts.sum(axis=1)
            result = intervals.bounds(intervals.components(values, float(df)))
            hits[way] += result.low <= 0.8 <= result.high
    by_rows, by_clusters = (hits / worlds).tolist()
    return by_rows, by_clusters


def alike(templates: int, size: int, seeds: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(S, templates * size) right answers: latent .3 template, .3 row, .4 seed's own."""
    accuracy = 0.8 + 0.04 * rng.standard_normal(seeds)
    of_template = np.sqrt(0.3) * rng.standard_normal((1, templates, 1))
    of_row = np.sqrt(0.3) * rng.standard_normal((1, templates, size))
    own = np.sqrt(0.4) * rng.standard_normal((seeds, templates, size))
    right = of_template + of_row + own < special.ndtri(accuracy)[:, None, None]
    return right.reshape(seeds, -1).astype(np.float64)
