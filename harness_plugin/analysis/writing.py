"""analysis_*.json and the Parquet tables beside it, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness_plugin.output import strict
from harness_plugin.stages import write_text


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Strict JSON: null for what is undefined."""
    write_text(path, json.dumps(strict(record), indent=1, allow_nan=False) + "\n")


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Parquet; null for nan."""
    table = pa.Table.from_pylist([strict(row) for row in rows])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(table, temporary, compression="zstd")
    os.replace(temporary, path)
