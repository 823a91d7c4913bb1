"""Columns of a user's table as text: CSV, TSV, JSON lines or Parquet, with errors that name rows.

Every value is the text that the file shows: "None", "NA" and "null" are texts like any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.quoted import read_quoted

Columns: TypeAlias = dict[str, list[str]]

DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Format:
    """How delimited files are written; None = as the file's name says."""

    delimiter: str | None = None
    quoted: bool = True


def read_columns(file: Path, names: Sequence[str], form: Format) -> Columns:
    """The columns `names` of `file`, in the order of its rows.

    Raises HarnessError naming file and row or line for a missing file or column, another kind of
    file, a value that is missing, a list or a mapping, and bytes that are not UTF-8.
    """
    if not file.is_file():
        raise HarnessError(f"{file}: no such file.")
    suffix = file.suffix.lower()
    if suffix in DELIMITERS:
        columns = read_quoted(file, names, form.delimiter or DELIMITERS[suffix], quoted=form.quoted)
    elif suffix == ".jsonl":
        columns = read_json_lines(file, names)
    elif suffix == ".parquet":
        columns = read_parquet(file, names)
    else:
        raise HarnessError(
            f"{file}: is a {suffix or 'file without suffix'}; expected {', '.join(SUFFIXES)}."
        )
    if not columns[names[0]]:
        raise HarnessError(f"{file}: holds no row.")
    return columns


def read_json_lines(file: Path, names: Sequence[str]) -> Columns:
    """The values of `names` in a file of one JSON object a line."""
    columns: Columns = {name: [] for name in names}
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{file}:{number}"
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise HarnessError(f"{where}: not UTF-8 ({error.reason}).") from None
            except ValueError as error:
                raise HarnessError(f"{where}: not a JSON object a line: {error}.") from None
            if not isinstance(row, dict):
                raise HarnessError(f"{where}: a {type(row).__name__}, expected a JSON object.")
            for name, values in columns.items():
                if name not in row:
                    raise missing(where, [name], row)
                values.append(as_text(row[name], name, where))
    return columns


def read_parquet(file: Path, names: Sequence[str]) -> Columns:
    """The values of `names` in a Parquet file."""
    try:
        known = pq.read_schema(file).names
        if absent := [name for name in names if name not in known]:
            raise missing(str(file), absent, known)
        table = pq.read_table(file, columns=list(dict.fromkeys(names)))
    except (pa.ArrowException, OSError) as error:
        raise HarnessError(f"{file}: not a Parquet file: {error}.") from None
    return {
        name: [
            as_text(value, name, f"{file}: row {row}")
            for row, value in enumerate(table.column(name).to_pylist(), 1)
        ]
        for name in names
    }


def as_text(value: object, name: str, where: str) -> str:
    """A number, truth value or text as text; HarnessError for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # what 0 and 1 become where a column also had gaps
    found = "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
    raise HarnessError(f"{where}: {name} is {found}; expected text or a whole number.")


def missing(where: str, absent: Iterable[str], found: Iterable[str]) -> HarnessError:
    """The error for columns that are not there."""
    return HarnessError(
        f"{where}: no column {', '.join(absent)} (found {', '.join(map(str, found)) or 'none'})."
    )
