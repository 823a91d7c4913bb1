"""How a model's accuracy differs with an attribute, labels held equal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from harness_plugin.records import Floats, Ints
from harness_plugin.scoring.statistics.significance import holm

Bools = NDArray[np.bool_]
Z = 1.959963984540054
"""Of a 95% interval."""


@dataclass(frozen=True)
class Gap:
    """Accuracy with an attribute minus accuracy without it, within labels, with its 95% interval.

    `share`: of the rows that have it. `p`: of no difference within any label, adjusted by Holm for
    all attributes that were tried.
    """

    name: str
    share: float
    value: float
    low: float
    high: float
    p: float


def gaps(attributes: Iterable[tuple[str, Bools]], label: Ints, correct: Bools) -> list[Gap]:
    """All attributes that rows of one label have and lack, the largest difference first.

    The difference is Mantel and Haenszel's: labels weigh n_with n_without / n, so that an attribute
    which tells the label makes none by that; the test is Cochran, Mantel and Haenszel's without
    correction for continuity, the interval is by the differences' binomial variances.
    """
    parts = []
    for name, has in attributes:
        tables = tables_of(has, label, correct)
        if len(tables):
            value, half, p = compared(tables)
            parts.append((name, float(has.mean()), value, value - half, value + half, p))
    adjusted = holm([part[-1] for part in parts]).tolist() if parts else []
    results = [Gap(*part[:-1], p=p) for part, p in zip(parts, adjusted, strict=True)]
    return sorted(results, key=lambda one: (-abs(one.value), one.name))


def tables_of(has: Bools, label: Ints, correct: Bools) -> Floats:
    """(L, 2, 2) right and wrong rows with the attribute, then without, of labels with both."""
    tables = np.array(
        [
            [
                [np.sum(correct[rows]), np.sum(~correct[rows])]
                for rows in ((label == each) & has, (label == each) & ~has)
            ]
            for each in np.unique(label)
        ],
        dtype=np.float64,
    )
    both: Floats = tables[(tables.sum(axis=2) > 0).all(axis=1)]
    return both


def compared(tables: Floats) -> tuple[float, float, float]:
    """The weighted difference of tables (L, 2, 2), half of its interval, and the test's p."""
    rows = tables.sum(axis=2)
    n, right = rows.sum(axis=1), tables[:, :, 0]
    share = right / rows
    weight = rows[:, 0] * rows[:, 1] / n
    value = float((weight * (share[:, 0] - share[:, 1])).sum() / weight.sum())
    variance = (share * (1 - share) / rows).sum(axis=1)
    half = Z * float(np.sqrt((weight**2 * variance).sum()) / weight.sum())
    many = n > 1
    total, all_right = n[many], right[many].sum(axis=1)
    expected = rows[many, 0] * all_right / total
    spread = rows[many, 0] * rows[many, 1] * all_right * (total - all_right)
    spread = float((spread / (total**2 * (total - 1))).sum())
    if spread <= 0:
        return value, half, 1.0
    statistic = float((right[many, 0] - expected).sum()) ** 2 / spread
    return value, half, float(chi2.sf(statistic, 1))
