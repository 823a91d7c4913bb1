"""Records in strict JSON and tables in Parquet, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness_plugin.pipeline.outputs import strict
from harness_plugin.store.stages import whole, write_text


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Strict JSON: null for what is undefined."""
    write_text(path, json.dumps(strict(record), indent=1, allow_nan=False) + "\n")


def write_table(
    path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema | None = None
) -> None:
    """Parquet; null for nan. Without a `schema` the types are those of the values."""
    table = pa.Table.from_pylist([strict(row) for row in rows], schema)
    with whole(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
