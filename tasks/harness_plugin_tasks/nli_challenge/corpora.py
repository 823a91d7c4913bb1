"""Files of sentence pairs in the layouts of several releases, told apart by their headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness_plugin_tasks._shared.quoted import Form, rows_of
from harness_plugin_tasks._shared.text.tables import Table, nli_table, read_nli, table_name


class Layout(NamedTuple):
    """Columns of premise, hypothesis and label in a tab-separated release, and how it is written.

    Ids are row numbers, because some of these releases repeat theirs.
    """

    columns: tuple[str, str, str]
    quoted: bool = False
    encoding: str = "utf-8"


SICK = Layout(("sentence_A", "sentence_B", "entailment_judgment"))
CONJNLI = Layout(("Premise", "Hypothesis", "Label"))
NEGATION = Layout(("Text", "Hypothesis", "gold_label"), encoding="cp1252")
CAD = Layout(("sentence1", "sentence2", "gold_label"), quoted=True)
MED = Layout(("sentence1", "sentence2", "gold_label"))
"""GLUE's layout; MED numbers its pairs within their sources."""

BY_HEADER = {layout.columns: layout for layout in (SICK, CONJNLI, NEGATION)}


def read_pairs(file: Path, name: str = "") -> Table:
    """Labelled pairs of any layout that is known: SICK, ConjNLI, negation pairs, CAD, or an NLI
    release as `read_nli` reads it.

    Raises HarnessError naming file and row for anything missing or malformed.
    """
    header = header_of(file) if file.suffix in (".txt", ".tsv") else ()
    if header == CAD.columns:  # these three alone: the release is a quoted table
        return read_layout(file, CAD, name)
    for columns, layout in BY_HEADER.items():
        if {*columns} <= {*header}:
            return read_layout(file, layout, name)
    return read_nli(file, name)


def header_of(file: Path) -> tuple[str, ...]:
    """The column names of a tab-separated file; () where there is none to read."""
    if not file.is_file():
        return ()
    with file.open("rb") as stream:
        line = stream.readline().decode("utf-8-sig", errors="replace")
    return tuple(line.rstrip("\r\n").split("\t"))


def read_layout(
    file: Path, layout: Layout, name: str = "", more: Mapping[str, str] | None = None
) -> Table:
    """The pairs of a file in `layout`, and the columns `more`: our name -> that of the file."""
    names = {**dict(zip(("premise", "hypothesis", "label"), layout.columns, strict=True))}
    names |= more or {}
    form = Form("\t", layout.quoted, layout.encoding)
    read = [row.fields for row in rows_of(file, tuple(names.values()), form)]
    columns = {key: [row[place] for row in read] for place, key in enumerate(names)}
    columns["label"] = [label.lower() for label in columns["label"]]
    columns["id"] = [""] * len(read)
    return nli_table(name or table_name(file), str(file), columns)


def without_premises(tables: Sequence[Table], premises: Iterable[str]) -> list[Table]:
    """`tables` without the rows whose premise is one of `premises`, and without empty tables."""
    held = {*premises}
    kept = [
        table.select([i for i, p in enumerate(table.columns["premise"]) if p not in held])
        for table in tables
    ]
    return [table for table in kept if len(table)]
