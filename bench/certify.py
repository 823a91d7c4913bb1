"""How often a certificate is false, and how often a right one is given.

    python docs/fill_tables.py certify    # runs this, fills the table in docs/remedies.md

Students of every remedy retain exactly the level, the worst case of a false certificate; groups,
seeds and rows are drawn anew in each run, and the one rule gives the bounds, with the corrected
worst group. The share of runs with any certificate must not exceed delta.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from harness_plugin.records import Floats
from harness_plugin.scoring.statistics.intervals import components
from harness_plugin.scoring.statistics.minimum import minimum
from harness_plugin_hooks.remedies.certify.rule import Candidate, in_order, steps_of

GROUPS = {"teacher": 0.80, "erm_teacher": 0.50, "erm_student": 0.48}
"""Expected accuracy of the worst group; the others are 10 points better each."""


def replicates(
    rng: np.random.Generator, worst: float, seeds: int, rows: int, resamples: int, spread: float
) -> Floats:
    """(S, 1 + B) corrected worst group of a model with four groups of `rows` rows."""
    expected = np.minimum(worst + np.array([0, 0.1, 0.12, 0.15]), 0.99)
    seeded = np.clip(expected + spread * rng.standard_normal((seeds, 1)), 0.01, 0.99)
    plain = rng.binomial(rows, seeded) / rows
    drawn = rng.binomial(rows, plain[:, None, :], (seeds, resamples, 4)) / rows
    cells = np.concatenate([plain[:, None, :], drawn], axis=1)
    return minimum(cells, 0)


def certified(
    rng: np.random.Generator,
    *,
    seeds: int,
    rows: int,
    remedies: int,
    level: float = 0.95,
    keeps: float = 0.95,
    delta: float = 0.05,
    resamples: int = 200,
    spread: float = 0.02,
) -> bool:
    """Whether any of `remedies` students that keep `keeps` of the gain is certified for `level`."""
    made = {
        role: replicates(rng, worst, seeds, rows, resamples, spread)
        for role, worst in GROUPS.items()
    }
    gain = made["teacher"] - made["erm_teacher"]
    kept = GROUPS["erm_student"] + keeps * (GROUPS["teacher"] - GROUPS["erm_teacher"])
    candidates = []
    for number in range(remedies):
        student = replicates(rng, kept, seeds, rows, resamples, spread)
        candidates.append(
            Candidate(
                f"remedy {number}",
                value=1.0,
                cost=1.0 + number,
                kept=components(student - made["erm_student"] - level * gain, rows - 1),
                gain=components(gain, rows - 1),
                fall=components(made["teacher"] - student, rows - 1),
            )
        )
    margin = 1.0  # the fall is no obstacle: retention alone is at its limit
    return any(step.certified for step in steps_of(in_order(candidates), delta, margin))


CASES = ((3, 200, 3), (5, 200, 3), (5, 1000, 3), (5, 1000, 8), (10, 1000, 3))
"""Seeds, rows a group, remedies."""


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    rng = np.random.default_rng(0)
    print(f"`python bench/certify.py --runs {runs}`; in brackets the standard error\n")
    print("| seeds | rows a group | remedies | false | right |\n|--:|--:|--:|--:|--:|")
    for seeds, rows, remedies in CASES:
        of = {"seeds": seeds, "rows": rows, "remedies": remedies}
        cells = []
        for keeps in (0.95, 1.1):
            rate = float(np.mean([certified(rng, **of, keeps=keeps) for _ in range(runs)]))
            cells.append(f"{rate:.3f} ({math.sqrt(rate * (1 - rate) / runs):.3f})")
        print(f"| {seeds} | {rows:,} | {remedies} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
