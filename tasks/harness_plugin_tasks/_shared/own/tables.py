"""Columns of a user's table as text: CSV, TSV, JSON lines or Parquet, with errors that name rows.

Every value is the text that the file shows: "None", "NA" and "null" are texts like any other. A
value that is not there (null, NaN, no such key) is null.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from harness_plugin.data.columns import Column, gathered, is_unicode
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.quoted import (
    Form,
    check_encoding,
    long_fields,
    rows_of,
    undecodable,
)

DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Format:
    """How text files are written; None = as the file's name says."""

    delimiter: str | None = None
    quoted: bool = True
    encoding: str = "utf-8"

    def of(self, suffix: str) -> Form:
        """For a delimited file of this suffix."""
        return Form(self.delimiter or DELIMITERS[suffix], self.quoted, self.encoding)


@dataclass(frozen=True)
class Table:
    """Columns (N,) of texts by name, null where there is no value; the rows of one file."""

    file: Path
    form: Format
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def where(self, row: int) -> str:
        """File and row (from 1), with its line where that is another number than the row says."""
        return f"{self.file}: {self.named(row)}"

    def named(self, row: int) -> str:
        """The row (from 1), and its line where the file has lines."""
        suffix = self.file.suffix.lower()
        if suffix == ".parquet":
            return f"row {row + 1}"
        rows: Iterator[tuple[int, object]]
        if suffix == ".jsonl":
            rows = json_rows(self.file)
        else:
            rows = iter(rows_of(self.file, [*self.columns], self.form.of(suffix)))
        line = next(itertools.islice(rows, row, None))[0]
        return f"row {row + 1} (line {line})"


def read_columns(file: Path, names: Sequence[str], form: Format) -> Table:
    """The columns `names` of `file`, in the order of its rows.

    Raises HarnessError naming file and row or line for a missing file or column, another kind of
    file, a value that is a list or a mapping, and bytes of another encoding.
    """
    if not file.is_file():
        raise HarnessError(f"{file}: no such file.")
    names = list(dict.fromkeys(names))
    suffix = file.suffix.lower()
    rows: Iterator[Sequence[str | None]]
    if suffix in DELIMITERS:
        rows = (row.fields for row in rows_of(file, names, form.of(suffix)))
    elif suffix == ".jsonl":
        rows = json_fields(file, names)
    elif suffix == ".parquet":
        rows = parquet_fields(file, names)
    else:
        raise HarnessError(
            f"{file}: is a {suffix or 'file without suffix'}; expected {', '.join(SUFFIXES)}."
        )
    columns = dict(zip(names, gathered(rows, len(names)), strict=True))
    if not len(columns[names[0]]):
        raise HarnessError(f"{file}: holds no row.")
    return Table(file, form, columns)


def header_of(file: Path, form: Format) -> list[str]:
    """The names of all columns of a file; of JSON lines those of the first row."""
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return list(pq.read_schema(file).names)
    if suffix == ".jsonl":
        return list(next(json_rows(file), (0, {}))[1])
    shape = form.of(suffix)
    check_encoding(file, shape.encoding)
    encoding = "utf-8-sig" if shape.encoding == "utf-8" else shape.encoding
    try:
        with file.open(encoding=encoding, newline="") as text, long_fields():
            quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if shape.quoted else csv.QUOTE_NONE
            return next(csv.reader(text, delimiter=shape.delimiter, quoting=quoting), [])
    except UnicodeError:
        raise undecodable(file, shape.encoding) from None


def json_rows(file: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Line and object of every line of a file that is not blank."""
    check_encoding(file, "utf-8")
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{file}:{number}"
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise HarnessError(
                    f"{where}: byte 0x{line[error.start]:02X} is not UTF-8; convert the file: "
                    f"iconv -f cp1252 -t utf-8 {file.name}."
                ) from None
            except ValueError as error:
                raise HarnessError(f"{where}: not a JSON object a line: {error}.") from None
            if not isinstance(row, dict):
                raise HarnessError(f"{where}: a {type(row).__name__}, expected a JSON object.")
            yield number, row


def json_fields(file: Path, names: Sequence[str]) -> Iterator[list[str | None]]:
    """The values of `names` in a file of one JSON object a line; a key may lack in some of them."""
    for count, (line, row) in enumerate(json_rows(file)):
        if not count and (absent := [name for name in names if name not in row]):
            raise missing(f"{file}:{line}", absent, row)
        yield [as_text(row.get(name), name, f"{file}:{line}") for name in names]


def parquet_fields(file: Path, names: Sequence[str]) -> Iterator[list[str | None]]:
    """The values of `names` in a Parquet file."""
    try:
        known = pq.read_schema(file).names
        if absent := [name for name in names if name not in known]:
            raise missing(str(file), absent, known)
        batches = pq.ParquetFile(file).iter_batches(columns=[*names])
        row = 0
        for batch in batches:
            for values in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                row += 1
                where = f"{file}: row {row}"
                yield [as_text(v, n, where) for v, n in zip(values, names, strict=True)]
    except (pa.ArrowException, OSError) as error:
        raise HarnessError(f"{file}: not a Parquet file: {error}.") from None


def as_text(value: object, name: str, where: str) -> str | None:
    """A number, truth value or text as text, None for no value; HarnessError for anything else."""
    if value is None or isinstance(value, str):
        if value is not None and not is_unicode(value):
            raise HarnessError(f"{where}: {name} holds half a character (a lone surrogate).")
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        # what 0 and 1 become where a column also had gaps
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):
        return str(value)
    kind = "list" if isinstance(value, Sequence) else type(value).__name__
    raise HarnessError(
        f"{where}: {name} is a {kind} ({str(value)[:40]}); expected one text or number a row. Rows "
        f"with several labels (multi-label data) are not supported: make a task of each label."
    )


def missing(where: str, absent: Iterable[str], present: Iterable[str]) -> HarnessError:
    """The error for columns that are not there."""
    return HarnessError(
        f"{where}: no column {', '.join(absent)} (found {', '.join(map(str, present)) or 'none'})."
    )
