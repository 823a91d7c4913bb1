"""scores_<time>.csv and .parquet: all numbers of a run in one tidy table.

One row a number. A row without a seed is the number over all seeds; a row with one is that seed's
value, its interval over examples alone.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa

from harness_plugin.records import RunReport
from harness_plugin.store.files import strict, timestamp, write_table, write_text

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("purpose", pa.string()),
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
    rows = [strict(row) for scores in report.tasks for row in scores.rows(by_seed=True)]
    stamp = timestamp(report.started)
    plain, typed = folder / f"scores_{stamp}.csv", folder / f"scores_{stamp}.parquet"
    text = io.StringIO()
    writer = csv.DictWriter(text, SCHEMA.names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(plain, text.getvalue())
    write_table(typed, rows, SCHEMA)
    return [plain, typed]
