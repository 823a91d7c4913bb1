"""Why the rules are as they are, for coverage.py: intervals and minima of normal numbers."""

from __future__ import annotations

import argparse
import itertools

import numpy as np
from scipy import optimize, special, stats

from harness_plugin.records import VarianceComponents
from harness_plugin.scoring.statistics import intervals
from harness_plugin.scoring.statistics.minimum import CORRECTION


def widths(args: argparse.Namespace) -> None:
    """Coverage in theory, by how much of the seeds' own row noise counts as known.

    Two normal parts: one of rows, with variance 1, of which `common` is shared by all seeds, and
    one of seeds, with variance 0 to 1,000. Those of rows are known, the other is estimated.
    """
    print(
        "\n| seeds | shared by all | lowest and highest coverage, known: " + " | ".join(KNOWN_TRIED)
    )
    print("|--:|--:|" + ":-:|" * len(KNOWN_TRIED))
    before = intervals.KNOWN
    quantiles = (np.arange(20_000) + 0.5) / 20_000
    between = np.array([0, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 64, 1000])[:, None]
    for seeds, common in itertools.product((3, 5, 10), (0.0, 0.3, 0.6, 0.9)):
        chi = stats.chi2.ppf(quantiles, seeds - 1) / (seeds - 1)
        shown = []
        for known in KNOWN_TRIED:
            intervals.KNOWN = float(known.split()[0])
            c = VarianceComponents(
                np.zeros(1),
                np.ones(1),
                np.array([1 - common]),
                (1 - common + between) * chi,
                seeds,
                1e9,
            )
            inside = 1 - 2 * special.ndtr(-intervals.half_width(c) / np.sqrt(1 + between))
            coverage = inside.mean(axis=1)
            shown.append(f"{coverage.min():.3f}-{coverage.max():.3f}")
        print(f"| {seeds} | {common:.0%} | {' | '.join(shown)} |")
    intervals.KNOWN = before


KNOWN_TRIED = ("0", "0.3", "0.5", "1")


def minima(args: argparse.Namespace) -> None:
    """What corrections of the minimum of four groups can reach: bias against spread.

    Measured accuracies are the true ones plus noise of deviation 1; one to three groups lie lower
    than the others by 0 to 6 deviations. Tried are sums c_k h_k, h_k the minimum under k times the
    noise, sum c_k = 1: ours has c = (1 + CORRECTION, -CORRECTION). For each bound on sum |c_k| the
    least largest bias (linear program), and what it costs: the deviation of the estimate.
    """
    rng = np.random.default_rng(0)
    times = np.array([1, 2, 3, 4, 6, 9.0])
    half = rng.standard_normal((100_000, 4))
    noise = np.concatenate([half, -half])
    low = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 6]
    true = np.array([[-d] * k + [0.0] * (4 - k) for k in (1, 2, 3) for d in low])
    h = np.array([[(m + k**0.5 * noise).min(axis=1).mean() for k in times] for m in true])
    target = true.min(axis=1)
    bounds = {
        "plain minimum": None,
        "bootstrap": 1.0,
        "ours": CORRECTION,
        "exact for equal groups": 1 + 2**0.5,
    }
    tried = {
        name: np.eye(6)[0] * (1 + (c or 0)) - np.eye(6)[1] * (c or 0) for name, c in bounds.items()
    }
    for cap in (5, 10, 25, 60):
        upper = np.vstack([np.hstack([s * h, -s * h, -np.ones((len(h), 1))]) for s in (1, -1)])
        limit = np.concatenate([target, -target])
        upper = np.vstack([upper, [*[1.0] * 12, 0]])
        solved = optimize.linprog(
            [*[0.0] * 12, 1],
            A_ub=upper,
            b_ub=[*limit, cap],
            A_eq=[[*[1.0] * 6, *[-1.0] * 6, 0]],
            b_eq=[1],
        ).x
        tried[f"least bias, sum of \\|c\\| up to {cap}"] = solved[:6] - solved[6:12]
    print("\n| correction | bias / noise | sd / noise, equal groups | one 1.75 lower |")
    print("|---|:-:|--:|--:|")
    seen = rng.standard_normal((400, 4))
    for name, c in tried.items():
        bias = h @ c - target
        sd = [
            float(
                np.std(
                    [
                        c
                        @ [
                            (x - np.array([d, 0, 0, 0]) + (k - 1) ** 0.5 * noise[:2000])
                            .min(axis=1)
                            .mean()
                            for k in times
                        ]
                        for x in seen
                    ]
                )
            )
            for d in (0, 1.75)
        ]
        print(f"| {name} | {bias.min():+.2f} to {bias.max():+.2f} | {sd[0]:.2f} | {sd[1]:.2f} |")
