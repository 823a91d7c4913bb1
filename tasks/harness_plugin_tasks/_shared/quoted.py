"""Columns of delimited text files that carry CSV quoting, read by name.

Quoting is a property of each data set. CAD, PAWS and CivilComments quote fields that hold quotes,
delimiters or line ends; most NLI releases do not quote, and are read by `text.tables`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from harness_plugin.errors import HarnessError

DELIMITERS = (",", "\t", ";", "|")
LONGEST_FIELD = 2**31 - 1
"""Characters; the csv module stops at 131,072 unless it is told otherwise."""
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""First bytes of files that spreadsheets save as "Unicode text"."""


class Form(NamedTuple):
    """How a delimited file is written."""

    delimiter: str = ","
    quoted: bool = True
    encoding: str = "utf-8"


class Row(NamedTuple):
    """The named fields of one row, and the line (from 1) on which it begins."""

    line: int
    fields: list[str]


def read_quoted(
    file: Path, names: Sequence[str], delimiter: str = "\t", *, quoted: bool = True
) -> dict[str, list[str]]:
    """The columns `names` of `file`, whose first line is a header, as `rows_of` reads it."""
    columns: dict[str, list[str]] = {name: [] for name in names}
    for row in rows_of(file, names, Form(delimiter, quoted)):
        for values, field in zip(columns.values(), row.fields, strict=True):
            values.append(field)
    return columns


def rows_of(file: Path, names: Sequence[str], form: Form) -> Iterator[Row]:
    """The fields `names` of every row of `file`, whose first line is a header.

    Without `form.quoted` a quote is a character like any other. Lines and rows without any text are
    left out. Raises HarnessError naming file and line (the last one, where a row spans several) for
    a missing file or column, a column that stands twice, a row that is longer or shorter than the
    header, a quote that is never closed, and bytes of another encoding.
    """
    if not file.is_file():
        raise HarnessError(f"{file}: no such file.")
    check_encoding(file, form.encoding)
    # utf-8-sig: spreadsheets write a mark first
    encoding = "utf-8-sig" if form.encoding == "utf-8" else form.encoding
    with file.open(encoding=encoding, newline="") as text, long_fields():
        # strict: without it a file cut off inside quotes would read as a whole one
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if form.quoted else csv.QUOTE_NONE
        reader = csv.reader(text, delimiter=form.delimiter, quoting=quoting, strict=True)
        try:
            header = next(reader, [])
            check_header(file, header, names, form)
            places = [header.index(name) for name in names]
            line = reader.line_num + 1
            for row in reader:
                if len(row) == len(header) and any(row):
                    yield Row(line, [row[place] for place in places])
                elif any(field.strip() for field in row):
                    raise HarnessError(
                        f"{file}:{reader.line_num}: {len(row)} fields, expected {len(header)}."
                    )
                line = reader.line_num + 1
        except csv.Error as error:
            raise HarnessError(f"{file}:{reader.line_num}: not a quoted table: {error}.") from None
        except UnicodeError:
            raise undecodable(file, form.encoding) from None


@contextmanager
def long_fields() -> Iterator[None]:
    """Fields of any length; the limit belongs to the whole process, and is put back."""
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def check_encoding(file: Path, encoding: str) -> None:
    """Refuse a file whose first bytes say that it is written in another encoding."""
    with file.open("rb") as stream:
        mark = MARKS.get(stream.read(2))
    if mark is not None and not encoding.startswith(mark):
        raise HarnessError(
            f"{file}: begins as {mark.upper()} does, not {encoding.upper()}: save it as UTF-8, or "
            f"say `encoding: {mark}` where the task has that option."
        )


def check_header(file: Path, header: Sequence[str], names: Sequence[str], form: Form) -> None:
    """Refuse a header without one of `names`, or with one twice."""
    if twice := [name for name in names if header.count(name) > 1]:
        raise HarnessError(f"{file}: column {twice[0]} stands {header.count(twice[0])} times.")
    if absent := [name for name in names if name not in header]:
        line = form.delimiter.join(header)
        other = [
            mark
            for mark in DELIMITERS
            if mark != form.delimiter and {*line.split(mark)} >= {*names}
        ]
        hint = f" Did you mean `delimiter: {other[0]!r}`?" if other else ""
        raise HarnessError(
            f"{file}: no column {', '.join(absent)} (found {', '.join(header) or 'none'}).{hint}"
        )


def undecodable(file: Path, encoding: str) -> HarnessError:
    """The error for bytes of another encoding: where they are, and how to read or convert them."""
    content = file.read_bytes()
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        return HarnessError(
            f"{file}:{line}: byte 0x{byte:02X} is not {encoding.upper()}. Written on Windows? Say "
            f"`encoding: cp1252` where the task has that option, or convert the file: iconv -f "
            f"cp1252 -t utf-8 {file.name}."
        )
    return HarnessError(f"{file}: not {encoding.upper()}.")
