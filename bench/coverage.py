"""Coverage of the intervals, error rates of verdicts: simulation through the product's functions.

    python bench/coverage.py --workers 16          # every table of docs/verdicts.md, in Markdown
    python bench/coverage.py --part grid --rows 100 --seeds 3 --worlds 200

Parts: `grid` (coverage and bias of every number), `widths` (why seeds' known noise counts in part),
`minimum` (what corrections of a minimum can reach), `verdicts`, `remedies`, `clusters`. The worlds
are those of worlds.py. One thread a process; the output is the same for any number of `--workers`.
Results: docs/verdicts.md, filled by docs/fill_tables.py.
"""

from __future__ import annotations

import os

# before NumPy is imported: its sums must not depend on the number of cores
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import functools
import itertools
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rates import clusters, remedies, verdicts
from theory import minima, widths
from worlds import (
    ERM,
    METRICS,
    RESAMPLES,
    SDS,
    WORLDS,
    Cell,
    draw,
    expected,
    measured,
    outcomes,
    part,
    truths,
)

from harness_plugin.records import Floats, VarianceComponents, VerdictRule
from harness_plugin.scoring.statistics import intervals
from harness_plugin.scoring.statistics.intervals import Interval, Support

LOWEST, HIGHEST = 0.93, 0.98
"""Goals of the coverage of a 95% interval."""


@dataclass(frozen=True)
class Covered:
    """Of one number in one cell: share of intervals that hold the truth, and the bias (points).

    `claims`: how many worlds of the cell gave an interval.
    """

    coverage: float
    bias: float
    claims: int

    @property
    def below(self) -> bool:
        """Whether it lies below .93 by more than chance: three of its Monte-Carlo errors."""
        return self.coverage < LOWEST - 3 * (LOWEST * (1 - LOWEST) / max(1, self.claims)) ** 0.5


def simulate(cell: Cell, worlds: int) -> dict[str, Covered]:
    """Number -> coverage and bias, from `worlds` worlds."""
    teacher, student = WORLDS[cell.world]
    models = (teacher, student, ERM, tuple(a - 0.02 for a in ERM))
    rng = cell.rng
    hits: dict[str, list[Floats]] = {}
    errors: dict[str, list[Floats]] = {}

    support = Support(4 * cell.rows, cell.rows)

    def put(
        name: str,
        result: Interval,
        true: Floats,
        c: VarianceComponents,
        drawn: Floats | None = None,
    ) -> None:
        """Coverage, length and verdict of intervals, by the product's own claim.

        The bias is seen against the very models that were `drawn`, whose mean is the truth: seeds'
        luck, which is the same in both, is not in it.
        """
        difference = name.startswith("d ")
        claimed = [
            not intervals.no_claim(part(c, world), support, difference=difference)
            for world in range(len(true))
        ]
        inside = (result.low <= true) & (true <= result.high)
        claimed &= ~np.isnan(result.value)
        hits.setdefault(name, []).append(np.where(claimed, inside, np.nan))
        errors.setdefault(name, []).append(result.value - (true if drawn is None else drawn))

    def interval(name: str, values: Floats, true: Floats, drawn: Floats) -> None:
        c = intervals.components(values, cell.df)
        put(name, intervals.bounds(c), true, c, drawn)

    step = max(10, min(100, int(2e7 // (4 * cell.seeds * max(cell.rows, RESAMPLES)))))
    for start in range(0, worlds, step):
        number = min(step, worlds - start)
        groups, true = draw(models, cell, number, rng)
        result = measured(groups, start)
        drawn = truths(true).mean(axis=2)
        if cell.seeds == 1:  # the interval is of these very models
            target = drawn
        else:
            means = np.stack([expected(m, cell.sd, cell.together) for m in models])
            target = np.broadcast_to(means, (number, *means.shape))
        for i, metric in enumerate(METRICS):
            v, t, own = result[metric], target[..., i], drawn[..., i]
            interval(metric, v[:, 1], t[:, 1], own[:, 1])
            interval(f"d {metric}", v[:, 1] - v[:, 0], t[:, 1] - t[:, 0], own[:, 1] - own[:, 0])
        gap = result["gap"]
        gaps = intervals.sizes(gap[:, 1], gap[:, 0], cell.df)
        change = abs(target[:, 1, 1]) - abs(target[:, 0, 1])
        put("d size of gap", intervals.size_change(gaps), change, gaps.difference)
        w, t = result["worst"], target[..., 2]
        ratio = intervals.ratio(w[:, 1] - w[:, 3], w[:, 0] - w[:, 2], cell.df)
        true_ratio = (t[:, 1] - t[:, 3]) / (t[:, 0] - t[:, 2])
        put("retention", ratio, true_ratio, intervals.components(w[:, 0] - w[:, 2], cell.df))
    how = "together" if cell.together else "apart"
    print(f"{cell.world}, {how}, sd {cell.sd}, S {cell.seeds}, n {cell.rows}", file=sys.stderr)
    return {
        name: covered(np.concatenate(hits[name]), np.concatenate(errors[name])) for name in hits
    }


def covered(hits: Floats, errors: Floats) -> Covered:
    """Of those that claim anything."""
    claimed = ~np.isnan(hits)
    claims = int(claimed.sum())
    if claims < 50:
        return Covered(float("nan"), float("nan"), claims)
    return Covered(float(hits[claimed].mean()), 100 * float(np.nanmean(errors)), claims)


def grid(args: argparse.Namespace) -> None:
    """For every number how its cells are spread, by rows and seeds."""
    worlds = args.only or list(WORLDS)
    settings = list(itertools.product(args.rows, args.seeds))
    cells = [
        Cell(world, seeds, sd, together, rows)
        for rows, seeds in settings
        for world, sd, together in itertools.product(worlds, SDS, (False, True))
    ]
    result = outcomes(
        functools.partial(simulate, worlds=args.worlds),
        cells,
        args.workers,
        lambda cell: cell.seeds * max(cell.rows, RESAMPLES),
    )
    by_setting: dict[tuple[int, int], list[dict[str, Covered]]] = {}
    for cell, numbers in zip(cells, result, strict=True):
        by_setting.setdefault((cell.rows, cell.seeds), []).append(numbers)
    each = len(cells) // len(settings)
    error = (0.95 * 0.05 / args.worlds) ** 0.5
    print(
        f"\nCoverage of 95% intervals, lowest to highest of {each} cells ({len(worlds)} worlds, "
        "seeds differing by 1, 4 or 8 points, groups together or each alone), and the share of "
        f"cells within [.93, .98]; {args.worlds} draws a cell, Monte-Carlo error {error:.3f}; `d`: "
        "student minus teacher. Bias in points, lowest and highest, of three seeds and more.\n"
    )
    titles = [f"{seeds} seed{'s' * (seeds > 1)}" for seeds in args.seeds]
    print(f"| number | rows a group | {' | '.join(titles)} | bias |")
    print(f"|---|--:|{':-:|' * (len(titles) + 1)}")
    for name, rows in itertools.product(result[0], args.rows):
        spread = [spread_of([n[name] for n in by_setting[rows, seeds]]) for seeds in args.seeds]
        biases = [
            n[name].bias
            for seeds in args.seeds
            for n in by_setting[rows, seeds]
            if seeds >= VerdictRule().min_seeds and not np.isnan(n[name].bias)
        ]
        bias = f"{min(biases):+.1f} to {max(biases):+.1f}" if biases else ""
        print(f"| {name} | {rows:,} | {' | '.join(spread)} | {bias} |")
    print(
        "\n| coverage of all cells that claim | cells | below .93 | by more than chance "
        "| in [.93, .98] | above .98 | lowest |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in result[0]:
        claims = [n[name] for n in result if not np.isnan(n[name].coverage)]
        coverage = np.array([c.coverage for c in claims])
        if coverage.size:
            low, high = (coverage < LOWEST).mean(), (coverage > HIGHEST).mean()
            below = sum(c.below for c in claims)
            shares = f"{low:.1%} | {below} | {1 - low - high:.0%} | {high:.0%}"
            print(f"| {name} | {len(claims)} | {shares} | {coverage.min():.3f} |")


def spread_of(cells: Sequence[Covered]) -> str:
    """`.936-.984, 87%`: of the cells that claim anything."""
    coverage = np.array([c.coverage for c in cells])
    coverage = coverage[~np.isnan(coverage)]
    if not coverage.size:
        return "no claim"
    inside = ((coverage >= LOWEST) & (coverage <= HIGHEST)).mean()
    low, high = (f"{x:.3f}".lstrip("0") for x in (coverage.min(), coverage.max()))
    return f"{low}-{high}, {inside:.0%}"


PARTS = {
    "grid": grid,
    "widths": widths,
    "minimum": minima,
    "verdicts": verdicts,
    "remedies": remedies,
    "clusters": clusters,
}


def options_of(flags: Mapping[str, object]) -> str:
    """As they are typed, those that change numbers."""
    words = []
    for option, value in flags.items():
        if value:
            values = value if isinstance(value, list) else [value]
            words += [option, *(shlex.quote(str(each)) for each in values)]
    return " ".join(["", *words])


def main() -> int:
    """Print one part, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("all", *PARTS), default="all")
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1, help="processes; changes no number")
    parser.add_argument("--only", nargs="*", choices=WORLDS, help="worlds of the grid")
    parser.add_argument("--rows", type=int, nargs="*", help="default 30 100 300 1000")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 3, 5, 10])
    args = parser.parse_args()
    flags = {"--part": args.part, "--worlds": args.worlds, "--rows": args.rows}
    flags |= {"--seeds": args.seeds, "--only": args.only}
    print(f"`python bench/coverage.py{options_of(flags)}`")
    for name in PARTS if args.part == "all" else (args.part,):
        default = [300] if name == "verdicts" else [30, 100, 300, 1000]
        PARTS[name](argparse.Namespace(**{**vars(args), "rows": args.rows or default}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
