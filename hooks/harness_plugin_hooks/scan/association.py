"""How well an attribute alone tells the label: corrected Cramér's V, interval and test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from harness_plugin.records import Floats, Ints
from harness_plugin.scoring.statistics.significance import holm

RESAMPLES = 1000
ALIKE = 0.3
"""Attributes whose correlation is above are one candidate: the stronger one stands for them."""
COMPARED_ON = 20_000
"""Rows, drawn, on which attributes are compared with each other."""


@dataclass(frozen=True)
class Association:
    """One attribute: `share` of the rows have it; `strength` in [0, 1] with its 95% interval.

    `rates`: among the rows with it and without it, the share of the label that it speaks for most,
    `label` (an index). `p`: of independence, adjusted by Holm for all attributes that were tried.
    """

    name: str
    share: float
    strength: float
    low: float
    high: float
    label: int
    rates: tuple[float, float]
    p: float


def strength_of(tables: Floats) -> Floats:
    """(B,) Cramér's V of tables (B, 2, C) with the bias correction of Bergsma (2013).

    phi2 = max(0, chi2 / n - (C - 1) / (n - 1)), V = sqrt(phi2 / min(1 - 1/(n-1), C' - 1)) where the
    2 and the C of the table shrink by (k - 1)^2 / (n - 1). 0 where a row or column is empty.
    """
    n = tables.sum(axis=(1, 2))
    statistic = chi_square(tables)
    columns = tables.shape[2]
    phi = np.maximum(0.0, statistic / n - (columns - 1) / (n - 1))
    smaller = np.minimum(1 - 1 / (n - 1), columns - 1 - (columns - 1) ** 2 / (n - 1))
    values: Floats = np.sqrt(np.minimum(1.0, phi / smaller))
    return values


def chi_square(tables: Floats) -> Floats:
    """(B,) Pearson's statistic of tables (B, 2, C)."""
    n = tables.sum(axis=(1, 2), keepdims=True)
    expected = tables.sum(axis=2, keepdims=True) * tables.sum(axis=1, keepdims=True) / n
    terms = np.divide(
        (tables - expected) ** 2, expected, out=np.zeros_like(tables), where=expected > 0
    )
    total: Floats = terms.sum(axis=(1, 2))
    return total


def associations(
    attributes: Iterable[tuple[str, NDArray[np.bool_]]], label: Ints, labels: int, seed: int
) -> list[Association]:
    """All attributes with their labels (N,) of `labels` kinds, the strongest first."""
    rng = np.random.default_rng(seed)
    parts = []
    for name, has in attributes:
        table = np.stack(
            [np.bincount(label[has == there], minlength=labels) for there in (True, False)]
        )
        counts = table.astype(np.float64)
        drawn = rng.multinomial(len(label), (counts / len(label)).ravel(), RESAMPLES)
        spread = strength_of(drawn.reshape(-1, *table.shape).astype(np.float64))
        low, high = np.quantile(spread, [0.025, 0.975])
        rates = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
        most = int((rates[0] - rates[1]).argmax())
        p = float(chi2.sf(chi_square(counts[None])[0], labels - 1))
        strength = float(strength_of(counts[None])[0])
        pair = (float(rates[0, most]), float(rates[1, most]))
        parts.append((name, float(has.mean()), strength, float(low), float(high), most, pair, p))
    adjusted = holm([part[-1] for part in parts]).tolist() if parts else []
    results = [Association(*part[:-1], p=p) for part, p in zip(parts, adjusted, strict=True)]
    return sorted(results, key=lambda one: (-one.strength, one.name))


def distinct(
    names: Sequence[str], has: Mapping[str, NDArray[np.bool_]], seed: int
) -> list[tuple[int, int]]:
    """Of attributes, the strongest first: position of each that is like none before it, and how
    many of those after it are like it (absolute correlation above ALIKE) and are left out.
    """
    if not names:
        return []
    rows = np.arange(len(has[names[0]]))
    if len(rows) > COMPARED_ON:
        rows = np.random.default_rng(seed).choice(rows, COMPARED_ON, replace=False)
    values = np.array([has[name][rows] for name in names], np.float32)
    values -= values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    values /= np.where(length > 0, length, 1)
    left = np.ones(len(names), dtype=bool)
    out = []
    for position in range(len(names)):
        if left[position]:
            like = left & (np.abs(values @ values[position]) > ALIKE)
            like[: position + 1] = False
            left &= ~like
            out.append((position, int(like.sum())))
    return out
