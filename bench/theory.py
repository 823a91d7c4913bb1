"""Why the rules are as they are, for coverage.py: intervals and minima of normal numbers."""

from __future__ import annotations

import argparse
import itertools

import numpy as np
from scipy import special, stats

from harness_plugin.records import Floats, VarianceComponents
from harness_plugin.scoring.statistics import intervals
from harness_plugin.scoring.statistics.minimum import ONE_SEED


def widths(args: argparse.Namespace) -> None:
    """Coverage in theory, by how much of the seeds' own row noise counts as known.

    Two normal parts: one of rows, with variance 1, of which `common` is shared by all seeds, and
    one of seeds, with variance 0 to 1,000. Those of rows are known, the other is estimated.
    """
    print(
        "\n| seeds | shared by all | lowest and highest coverage, known: "
        + " | ".join(KNOWN_VALUES)
    )
    print("|--:|--:|" + ":-:|" * len(KNOWN_VALUES))
    before = intervals.KNOWN
    quantiles = (np.arange(20_000) + 0.5) / 20_000
    between = np.array([0, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 64, 1000])[:, None]
    for seeds, common in itertools.product((3, 5, 10), (0.0, 0.3, 0.6, 0.9)):
        chi = stats.chi2.ppf(quantiles, seeds - 1) / (seeds - 1)
        shown = []
        for known in KNOWN_VALUES:
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


KNOWN_VALUES = ("0", "0.3", "0.5", "1")


def minima(args: argparse.Namespace) -> None:
    """Reach of corrections of the minimum of four groups: bias against spread.

    Measured accuracies are the true ones plus noise of deviation 1; one to three groups lie lower
    than the others by 0 to 6 deviations. Tried are h1 + c (h1 - h2), h2 the minimum under twice the
    noise, and the lowest number plus *any* function of the differences of the sorted ones (a sum
    of 216 bumps on a grid of them): for each price of spread the one of the least largest bias, by
    weights that move to the settings of the largest bias (Hedge, Freund and Schapire 1997).
    """
    rng = np.random.default_rng(0)
    low = (0, 0.4, 0.8, 1.2, 1.75, 2.5, 4, 6)
    true = np.array([[-d] * k + [0.0] * (4 - k) for k in (1, 2, 3) for d in low])
    half = rng.standard_normal((1500, 4))
    seen = true[:, None] + np.concatenate([half, -half])
    lowest, features = np.sort(seen)[..., 0], bumps(seen)
    print("\n| correction | bias / noise | sd / noise, equal groups | one 1.75 lower |")
    print("|---|:-:|--:|--:|")

    def show(name: str, estimates: Floats) -> None:
        bias = estimates.mean(axis=1) - true.min(axis=1)
        sd = estimates.std(axis=1)
        one_low = low.index(1.75)
        print(
            f"| {name} | {bias.min():+.2f} to {bias.max():+.2f} | {sd[0]:.2f} | {sd[one_low]:.2f} |"
        )

    noise = rng.standard_normal((500, 4))
    noise = np.concatenate([noise, -noise])
    more = np.stack([(x[:, None] + noise).min(axis=-1).mean(axis=-1) for x in seen])
    corrections = {
        "plain minimum": 0.0,
        "bootstrap": 1.0,
        "ours of one seed": ONE_SEED,
        "exact for equal groups": 1 + 2**0.5,
    }
    for name, c in corrections.items():
        show(name, lowest + c * (lowest - more))
    bias = lowest.mean(axis=1) - true.min(axis=1)
    mean = features.mean(axis=1)
    centred = (features - mean[:, None]).reshape(-1, features.shape[-1])
    spread = centred.T @ centred / len(centred)
    with_lowest = centred.T @ (lowest - lowest.mean(axis=1)[:, None]).ravel() / len(centred)
    for price in (0.3, 0.1, 0.03, 0.01):
        weights = np.ones(len(true))
        for _ in range(60):
            share = (weights / weights.sum())[:, None]
            left = mean.T @ (share * mean) + price * spread + 1e-6 * np.eye(len(spread))
            best = np.linalg.solve(left, -mean.T @ (share[:, 0] * bias) - price * with_lowest)
            off = abs(mean @ best + bias)
            weights = np.maximum(weights * np.exp(2 * off / off.max()), 1e-4 * weights.max())
        show(f"least bias of any function, spread at {price:g}", lowest + features @ best)


def bumps(seen: Floats) -> Floats:
    """(..., 216) bumps on a grid of the three differences of sorted numbers (..., 4)."""
    steps = np.log1p(np.minimum(np.diff(np.sort(seen)), 6))[..., None]
    each = np.exp(-0.5 * ((steps - np.linspace(0, np.log(7), 6)) / 0.45) ** 2)
    product = np.einsum("...i,...j,...k->...ijk", each[..., 0, :], each[..., 1, :], each[..., 2, :])
    return product.reshape(*seen.shape[:-1], -1)
