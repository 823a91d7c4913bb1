"""Columns of delimited text files that carry CSV quoting, read by name.

Quoting is a property of each data set. CAD, PAWS and CivilComments quote fields that hold quotes,
delimiters or line ends; most NLI releases do not quote, and are read by `text.tables`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from harness_plugin.errors import HarnessError


def read_quoted(
    file: Path, names: Sequence[str], delimiter: str = "\t", *, quoted: bool = True
) -> dict[str, list[str]]:
    """The columns `names` of `file`, whose first line is a header.

    Without `quoted` a quote is a character like any other.

    Raises HarnessError naming file and line (the last one, where a row spans several) for a
    missing file or column, a row that is longer or shorter than the header, a quote that is never
    closed, and bytes that are not UTF-8.
    """
    if not file.is_file():
        raise HarnessError(f"{file}: no such file.")
    columns: dict[str, list[str]] = {name: [] for name in names}
    with file.open(encoding="utf-8-sig", newline="") as text:  # spreadsheets write a mark first
        # strict: without it a file cut off inside quotes would read as a whole one
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        reader = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=True)
        try:
            header = next(reader, [])
            if missing := [name for name in names if name not in header]:
                raise HarnessError(
                    f"{file}: no column {', '.join(missing)} (found {', '.join(header) or 'none'})."
                )
            places = [header.index(name) for name in names]
            for row in reader:
                if len(row) != len(header):
                    raise HarnessError(
                        f"{file}:{reader.line_num}: {len(row)} fields, expected {len(header)}."
                    )
                for values, place in zip(columns.values(), places, strict=True):
                    values.append(row[place])
        except csv.Error as error:
            raise HarnessError(f"{file}:{reader.line_num}: not a quoted table: {error}.") from None
        except UnicodeDecodeError as error:
            raise HarnessError(
                f"{file}: after line {reader.line_num}: not UTF-8 ({error.reason})."
            ) from None
    return columns
