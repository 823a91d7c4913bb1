"""scores_<time>.csv and .parquet: all numbers of a run in one tidy table.

One row a number. A row without a seed is the number over all seeds; a row with one is that seed's
value, its interval over examples alone.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness_plugin.files import strict, timestamp, write_table, write_text
from harness_plugin.records import Estimate, RunReport, TaskScores

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("split_role", pa.string()),
        ("subset", pa.string()),
        ("role", pa.string()),
        ("metric", pa.string()),
        ("measure", pa.string()),
        ("seed", pa.int64()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("sd", pa.float64()),
        ("seeds", pa.int64()),
        ("n", pa.int64()),
        ("higher_is_better", pa.bool_()),
        ("reason", pa.string()),
    ]
)


def write(report: RunReport, folder: Path) -> list[Path]:
    """The table of all tasks, twice."""
    rows = [strict(row) for scores in report.tasks for row in rows_of(scores)]
    stamp = timestamp(report.started)
    plain, typed = folder / f"scores_{stamp}.csv", folder / f"scores_{stamp}.parquet"
    text = io.StringIO()
    writer = csv.DictWriter(text, SCHEMA.names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(plain, text.getvalue())
    write_table(typed, rows, SCHEMA)
    return [plain, typed]


def rows_of(scores: TaskScores) -> Iterator[dict[str, Any]]:
    """Scores first, then what is measured between models."""
    for found in scores.scores:
        for subset, metrics in found.by_subset().items():
            for metric, estimate in metrics.items():
                yield from rows(scores, found.split, subset, found.role, metric, "score", estimate)
    for t in scores.transfer:
        yield from rows(scores, t.split, t.subset, t.student, t.metric, t.measure, t.estimate)


def rows(
    scores: TaskScores,
    split: str,
    subset: str,
    role: str,
    metric: str,
    measure: str,
    estimate: Estimate,
) -> Iterator[dict[str, Any]]:
    """The number over all seeds, then that of each seed."""
    known = {
        "task": scores.task,
        "source": scores.source,
        "split": split,
        "split_role": scores.split_roles[split],
        "subset": subset,
        "role": role,
        "metric": metric,
        "measure": measure,
        "n": estimate.n,
        "higher_is_better": scores.higher_is_better[metric],
        "reason": estimate.reason,
    }
    yield known | {
        "seed": None,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "sd": estimate.sd,
        "seeds": len(scores.seeds),
    }
    # a ratio of means over seeds has none of its own
    of_seeds = zip(estimate.seeds, estimate.intervals, strict=True)
    for seed, (value, (low, high)) in zip(scores.seeds, of_seeds, strict=False):
        yield known | {
            "seed": seed,
            "value": value,
            "low": low,
            "high": high,
            "sd": math.nan,
            "seeds": 1,
        }
