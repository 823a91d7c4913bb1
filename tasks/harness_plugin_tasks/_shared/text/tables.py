"""Columns of sentence pairs, read by name from the text files of the releases and from the hub's.

The releases carry no quoting: a `"` is a character like any other, and a CSV reader with default
quoting would silently fuse lines. Their rows may end early, before the annotators' labels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness_plugin.data.dataset import MISSING_LABELS
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import row_variant
from harness_plugin_tasks._shared.text.cues import NLI_LABELS

if TYPE_CHECKING:
    import datasets


class Column(NamedTuple):
    """A column by our name, the names it has in files, and whether every file must have it."""

    name: str
    aliases: tuple[str, ...]
    required: bool = True

    def among(self, names: Sequence[str] | Mapping[str, Any]) -> str | None:
        """Name of the column among `names`, None when it is not there."""
        return next((name for name in self.aliases if name in names), None)


PAIR_ID = Column("id", ("pairID",), required=False)
NLI_COLUMNS = (
    Column("premise", ("sentence1", "premise")),
    Column("hypothesis", ("sentence2", "hypothesis")),
    Column("label", ("gold_label", "label")),
    PAIR_ID,
)


@dataclass(frozen=True)
class Table:
    """The columns of one file or hub split by our names, all rows in their order.

    `name` tells data sets apart ("multinli_1.0_train"), `where` is for messages. Missing labels
    are still among the rows, as they are written.
    """

    name: str
    where: str
    columns: Mapping[str, list[str]]

    def __len__(self) -> int:
        return len(self.columns["label"])

    @property
    def labelled(self) -> int:
        """Rows whose label is not missing."""
        return sum(label not in MISSING_LABELS for label in self.columns["label"])

    def select(self, indices: Sequence[int]) -> Table:
        """The rows at `indices`."""
        columns = {name: [values[i] for i in indices] for name, values in self.columns.items()}
        return Table(self.name, self.where, columns)


def read_nli(file: Path, name: str = "") -> Table:
    """Labelled pairs from a .jsonl, .txt, .tsv or .parquet file; labels are those of NLI.

    An id is `name` (default: that of the file) with the pairID; with the row's number where the
    file has no pairIDs, or not a different one in every row.

    Raises HarnessError naming file and row for anything missing or malformed.
    """
    return nli_table(name or table_name(file), str(file), read_columns(file, NLI_COLUMNS))


def nli_from_hub(rows: datasets.Dataset, name: str, where: str) -> Table:
    """Labelled pairs from rows in the hub's layout (premise, hypothesis, label).

    Raises HarnessError naming `where` for a missing column or an unnamed or unknown label.
    """
    return nli_table(name, where, hub_columns(rows, NLI_COLUMNS, where))


def table_name(file: Path) -> str:
    """The stem of a file's name; GLUE's files say only in their folder which data they are."""
    return f"MNLI/{file.stem}" if file.parent.name == "MNLI" else file.stem


def row_variants(tables: Iterable[Table], rows: Mapping[str, int]) -> list[str]:
    """A note for every table that is in `rows` by its name, but has other labelled rows."""
    known = [table for table in tables if table.name in rows]
    return [
        note
        for table in known
        for note in row_variant(table.where, table.labelled, rows[table.name])
    ]


def nli_table(
    name: str, where: str, columns: dict[str, list[str]], labels: Sequence[str] = NLI_LABELS
) -> Table:
    """A checked table of pairs with `labels`, with ids."""
    pair_ids = columns["id"]
    if not all(pair_ids) or len(set(pair_ids)) < len(pair_ids):
        pair_ids = [f"{row:06d}" for row in range(len(columns["label"]))]
    columns["id"] = [f"{name}:{pair_id}" for pair_id in pair_ids]
    return checked(Table(name, where, columns), labels)


def checked(table: Table, labels: Sequence[str]) -> Table:
    """`table`, if it has rows and no label but `labels` and the missing ones."""
    if not len(table):
        raise HarnessError(f"{table.where}: is empty: no rows.")
    if odd := set(table.columns["label"]) - set(labels) - MISSING_LABELS:
        row, label = next((i, x) for i, x in enumerate(table.columns["label"]) if x in odd)
        raise HarnessError(
            f"{table.where}: row {row + 1}: unknown label {label!r}; expected "
            f"{', '.join(labels)}, or - where there is none."
        )
    return table


def read_columns(file: Path, schema: Sequence[Column]) -> dict[str, list[str]]:
    """The columns of `schema` in a file; one that is not required and not there is all ""."""
    if not file.is_file():
        raise HarnessError(f"{file}: no such file.")
    if file.suffix == ".parquet":
        import datasets

        return hub_columns(datasets.Dataset.from_parquet(str(file)), schema, str(file))
    readers = {".jsonl": json_rows, ".txt": tab_rows, ".tsv": tab_rows}
    if file.suffix not in readers:
        raise HarnessError(
            f"{file}: cannot read {file.suffix or 'a file without a suffix'}; "
            f"expected {', '.join(readers)} or .parquet."
        )
    columns: dict[str, list[str]] = {column.name: [] for column in schema}
    for row in readers[file.suffix](file, schema):
        for values, value in zip(columns.values(), row, strict=True):
            values.append(value)
    return columns


def text_lines(file: Path) -> Iterator[tuple[int, str]]:
    """(number, text) of every line that is not blank; only a newline ends a line."""
    with file.open("rb") as raw:
        for number, line in enumerate(raw, 1):
            try:
                # editors may write a mark before the first line
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise HarnessError(
                    f"{file}:{number}: byte {error.start + 1} of the line is not UTF-8."
                ) from None
            if text and not text.isspace():
                yield number, text


def tab_rows(file: Path, schema: Sequence[Column]) -> Iterator[list[str]]:
    """The fields of `schema` in every row of a tab-separated file with a header, unquoted."""
    lines = text_lines(file)
    names = next(lines, (1, ""))[1].split("\t")
    if names == [""]:
        raise HarnessError(f"{file}: is empty: no header.")
    require(schema, names, str(file))
    columns = [column.among(names) for column in schema]
    places = [None if name is None else names.index(name) for name in columns]
    # a label that a short row lacks is a missing label; a sentence it lacks is damage
    shortest = 1 + max(
        place
        for place, column in zip(places, schema, strict=True)
        if place is not None and column.required and column.name != "label"
    )
    for number, line in lines:
        fields = line.split("\t")
        if len(fields) < shortest:
            raise HarnessError(
                f"{file}:{number}: {len(fields)} of {len(names)} fields; at least {shortest} are "
                f"needed to reach {names[shortest - 1]}."
            )
        if any(fields[len(names) :]):
            raise HarnessError(
                f"{file}:{number}: {len(fields)} fields, but the header names {len(names)}; is "
                "there a tab inside a sentence?"
            )
        yield [fields[i] if i is not None and i < len(fields) else "" for i in places]


def json_rows(file: Path, schema: Sequence[Column]) -> Iterator[list[str]]:
    """The values of `schema` in every line of a file with one JSON object a line."""
    for number, line in text_lines(file):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise HarnessError(
                f"{file}:{number}: not a line of JSON: {error.msg} at character {error.pos + 1}."
            ) from None
        if not isinstance(record, dict):
            raise HarnessError(f"{file}:{number}: {type(record).__name__}, expected an object.")
        require(schema, record, f"{file}:{number}")
        row = [record[key] if (key := column.among(record)) else "" for column in schema]
        for column, value in zip(schema, row, strict=True):
            if not isinstance(value, str | int):
                raise HarnessError(
                    f"{file}:{number}: {column.among(record)} is {value!r}; expected text."
                )
        yield [str(value) for value in row]


def generated_table(name: str, columns: Mapping[str, list[str]]) -> Table:
    """The table of generated rows, which are numbered: `columns` without ids."""
    ids = [f"{name}-{row:06d}" for row in range(len(columns["label"]))]
    return Table(name, name, {**columns, "id": ids})


def require(schema: Sequence[Column], names: Sequence[str] | Mapping[str, Any], where: str) -> None:
    """Refuse names among which a required column is missing."""
    missing = [c.aliases for c in schema if c.required and c.among(names) is None]
    if missing:
        raise HarnessError(
            f"{where}: no column {', '.join(' or '.join(names) for names in missing)} "
            f"(found {', '.join(names)})."
        )


def hub_columns(
    rows: datasets.Dataset, schema: Sequence[Column], where: str
) -> dict[str, list[str]]:
    """The columns of `schema` of rows in the hub's layout, labels by their names."""
    require(schema, rows.column_names, where)
    names = {column.name: column.among(rows.column_names) for column in schema}
    loaded = rows.select_columns([key for key in names.values() if key])[:]
    columns = {name: loaded[key] if key else [""] * len(rows) for name, key in names.items()}
    for name, values in columns.items():
        if (row := next((i for i, value in enumerate(values) if value is None), None)) is not None:
            raise HarnessError(f"{where}: row {row + 1}: {names[name]} is null; expected text.")
    columns["label"] = label_texts(columns["label"], rows.features[names["label"]], where)
    return columns


def label_texts(values: list[Any], feature: Any, where: str) -> list[str]:
    """Label names; numbers are translated by the names stored with them, -1 stays "-1"."""
    import datasets

    if isinstance(feature, datasets.ClassLabel):
        return [feature.names[value] if value >= 0 else str(value) for value in values]
    if feature == datasets.Value("string"):
        return values
    raise HarnessError(
        f"{where}: labels are {feature} without names; sources number them differently, so they "
        "must be words or a ClassLabel."
    )
