"""Files written whole or not at all, values as strict JSON has them, and the time in file names."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def timestamp(seconds: float) -> str:
    """The moment a run started, as it stands in file names."""
    from datetime import datetime

    moment = datetime.fromtimestamp(seconds, tz=UTC)
    return moment.strftime("%Y-%m-%dT%H-%M-%S.%f")


def strict(value: Any) -> Any:
    """`value` as JSON knows it: no NaN (null instead), no tuples, no NumPy scalars."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:  # nearly every value there is
        return value
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file to be written beside `path`: it takes its place at the end, and is gone on failure."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


STRICT = json.JSONEncoder(allow_nan=False)
"""One for all lines: `json.dumps` makes an encoder each time."""


def json_line(value: Any) -> str:
    """`value` as one line of strict JSON, with its line end."""
    try:
        return STRICT.encode(value) + "\n"
    except (TypeError, ValueError):  # it holds a NaN, or what is no JSON
        return json.dumps(strict(value), allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically: a reader never sees half a file."""
    write_parts(path, [text])


def write_parts(path: Path, parts: Iterable[str]) -> None:
    """Write a text that need not fit in memory, atomically."""
    with whole(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(parts)
        stream.flush()
        os.fsync(stream.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as strict JSON, atomically. Raises ValueError for a nan."""
    text = json.dumps(value, indent=2, allow_nan=False, default=str, ensure_ascii=False)
    write_text(path, text + "\n")


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Strict JSON: null for what is undefined."""
    write_text(path, json.dumps(strict(record), indent=1, allow_nan=False) + "\n")


def write_table(
    path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema | None = None
) -> None:
    """Parquet; null for nan. Without a `schema` the types are those of the values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([strict(row) for row in rows], schema)
    with whole(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
