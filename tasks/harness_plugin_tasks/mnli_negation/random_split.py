"""The random 50/20/30 split of MultiNLI on which worst-group accuracies are published.

It stands in the file metadata_random.csv of the group_DRO code (Sagawa et al. 2020).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from harness_plugin.data.dataset import MISSING_LABELS
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.text.cues import NEGATION, NO_NEGATION, negation
from harness_plugin_tasks._shared.text.nli_hub import Training
from harness_plugin_tasks._shared.text.splits import concatenated
from harness_plugin_tasks._shared.text.tables import Table

FOLDERS = ("", "dataset_metadata/multinli/", "multinli/")
LABELS = {"0": "contradiction", "1": "entailment", "2": "neutral"}
CUES = {"0": NO_NEGATION, "1": NEGATION, "False": NO_NEGATION, "True": NEGATION}
PARTS = ("0", "1", "2")
HEADER = ("gold_label", "sentence2_has_negation", "split")


class Entry(NamedTuple):
    """One line of the file: a row of the concatenated releases, its label, cue and part."""

    line: int
    row: int
    label: str
    cue: str
    part: int


def draw(corpus: Training, file: Path) -> tuple[Table, Table, Table]:
    """Training, validation and test rows of train, dev_matched and dev_mismatched, in that order.

    The file's index counts rows of the three releases one after the other, those without a gold
    label included. Copies that dropped these rows have the labelled ones in the same order, so that
    the k-th line is the k-th labelled row of either; label and negation of every row are compared.

    Raises HarnessError naming file and line where the file is malformed or is not about these rows.
    """
    if {"id", "id_mismatched"} - {*corpus.in_domain}:
        raise HarnessError(
            f"{file}: the random split needs MultiNLI's mismatched development set as well."
        )
    whole = concatenated(
        [*corpus.train, *corpus.in_domain["id"], *corpus.in_domain["id_mismatched"]]
    )
    labels, hypotheses = whole.columns["label"], whole.columns["hypothesis"]
    labelled = [i for i, label in enumerate(labels) if label not in MISSING_LABELS]
    entries = read_entries(file)
    if len(entries) != len(labelled):
        raise HarnessError(
            f"{file}: {len(entries):,} rows, but {whole.where} have {len(labelled):,} with a label."
        )
    as_released = len(labelled) < len(labels)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for entry, row in zip(entries, labelled, strict=True):
        if as_released and entry.row != row:
            raise mismatch(file, entry, "index", str(entry.row), str(row))
        if entry.label != labels[row]:
            raise mismatch(file, entry, "gold_label", entry.label, labels[row])
        cue = negation("", hypotheses[row])
        if entry.cue != cue:
            raise mismatch(file, entry, HEADER[1], entry.cue, cue)
        parts[entry.part].append(row)
    for name, rows in zip(PARTS, parts, strict=True):
        if not rows:
            raise HarnessError(f"{file}: no row of split {name}.")
    train, validation, test = (whole.select(rows) for rows in parts)
    return train, validation, test


def mismatch(
    file: Path, entry: Entry, column: str, actual: object, expected: object
) -> HarnessError:
    """The error for a line that is about another row than the data have in its place."""
    return HarnessError(
        f"{file}:{entry.line}: {column} is {actual}, but the data have {expected} there; the file "
        "is for MultiNLI's train, dev_matched and dev_mismatched in this order."
    )


def read_entries(file: Path) -> list[Entry]:
    """The lines of the file by rising index. Raises HarnessError naming a malformed line."""
    try:
        with file.open(encoding="utf-8", newline="") as text:
            lines = [(number, line) for number, line in enumerate(csv.reader(text), 1) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise HarnessError(f"{file}: not a CSV file in UTF-8: {error}.") from None
    header = [name.strip() for name in lines[0][1]] if lines else []
    if missing := [name for name in HEADER if name not in header]:
        raise HarnessError(f"{file}:1: no column {', '.join(missing)}; found {', '.join(header)}.")
    places = [0, *(header.index(name) for name in HEADER)]
    entries = [entry_of(file, number, line, places) for number, line in lines[1:]]
    entries.sort(key=lambda entry: entry.row)
    for before, entry in pairwise(entries):
        if before.row == entry.row:
            raise HarnessError(
                f"{file}:{entry.line}: index {entry.row} was already used in line {before.line}."
            )
    return entries


def entry_of(file: Path, number: int, line: Sequence[str], places: Sequence[int]) -> Entry:
    """One line, its values checked."""
    values = [line[place] if place < len(line) else "" for place in places]
    row, label, cue, part = values
    if not row.isdecimal():
        raise HarnessError(f"{file}:{number}: index {row!r} is not a row number.")
    for name, value, known in zip(HEADER, values[1:], (LABELS, CUES, PARTS), strict=True):
        if value not in known:
            raise HarnessError(
                f"{file}:{number}: {name} is {value!r}; expected {', '.join(known)}."
            )
    return Entry(number, int(row), LABELS[label], CUES[cue], int(part))
