"""Files of predictions that were made elsewhere: read, checked, and joined to a task's rows by id.

A file has a column of ids and one kind of answers: labels, probabilities or logits. Labels are
matched by name. A column `cluster` says which rows are not independent, where the task does not.
Missing, doubled and unknown rows are an error with counts and examples.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, parquet
from pyarrow import csv as arrow_csv
from pyarrow import json as arrow_json

from harness_plugin.data.columns import Column, as_numpy, clusters_of, coded
from harness_plugin.data.dataset import Split
from harness_plugin.errors import HarnessError
from harness_plugin.records import Predictions, predictions_of
from harness_plugin.scoring.files.answer_columns import (
    Kind,
    as_logits,
    as_text,
    columns_of,
    examples,
    from_labels,
    label_sets,
    only,
    values_of,
)

ID_COLUMNS = ("pairID", "id")
CLUSTER_COLUMN = "cluster"
MANY_COLUMNS, CELLS_A_BYTE, FEW_CELLS = 10_000, 10, 1_000_000
"""Columns of a file, each of which takes some 3 KB beside its values; cells that a byte may stand
for (a key that a line lacks is one, of some 14 bytes), and that a small file may have."""
BLOCK = 1 << 18
"""Bytes of JSON lines that are read at a time."""
FEW_KEYS = 16
"""Of so many it is quicker to count each in a block than to look for every key."""
KEY = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:')
FEW = 1000
"""Rows and characters that are never too many: what is wrong with them is said one by one."""
SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".parquet")


@dataclass(frozen=True, eq=False)
class PredictionFile:
    """Predictions in one file: `logits` (N, C) of rows `ids` (N,), in the order of `labels`.

    `clusters` (N,) are the names in its column `cluster`, None without one.
    """

    file: Path
    kind: Kind
    ids: Column
    logits: NDArray[np.float32]
    labels: tuple[str, ...]
    sha256: str
    clusters: pa.ChunkedArray | None = None

    def joined(self, split: Split, **more: Any) -> Predictions:
        """The predictions of `split`'s rows; `more` says whose they are.

        Raises HarnessError unless every row has an answer. Rows of other sets are left out.
        """
        ids = split.texts("id")
        positions = compute.index_in(ids, value_set=self.ids.combine_chunks())
        if positions.null_count:
            missing = as_numpy(ids.filter(positions.is_null()))
            raise HarnessError(
                f"{self.file}: {missing.size:,} of the {len(split):,} ids of set {split.name!r} "
                f"are missing{examples(missing)}; a set is scored whole."
            )
        rows = positions.to_numpy()
        predictions = predictions_of(split, self.logits[rows], model_labels=self.labels, **more)
        chosen = predictions.targets[predictions.logits.argmax(axis=1)]
        if self.kind == "label" and (outside := split.ids[chosen < 0]).size:
            raise HarnessError(
                f"{self.file}: {outside.size:,} rows of set {split.name!r} have a label that the "
                f"set lacks{examples(outside)}; its labels are {', '.join(split.labels)}."
            )
        if predictions.cluster is None and self.clusters is not None:
            cluster, clusters = clusters_of(self.clusters.take(pa.array(rows)))
            predictions = replace(predictions, cluster=cluster, clusters=clusters)
        return replace(predictions, labels_only=self.kind == "label")


def read_answers(
    file: Path,
    splits: Sequence[Split],
    *,
    kind: Kind | None = None,
    labels: tuple[str, ...] | None = None,
) -> PredictionFile:
    """The answers in a CSV, TSV, JSONL or Parquet file, about rows of `splits`.

    `kind` says which columns count where there are several kinds, and what columns named like
    labels hold. `labels` names the entries of a list column, in order.

    Raises HarnessError for a file that cannot be read, columns that are missing or ambiguous,
    unknown labels, values that are no probabilities, and doubled or unknown ids.
    """
    known_ids = [split.texts("id") for split in splits]
    most = 2 * sum(map(len, known_ids)) + FEW
    table = read_table(file, most)
    longest = max(compute.max(compute.utf8_length(each)).as_py() or 0 for each in known_ids)
    ids = ids_of(file, table, longest)
    check_ids(file, ids, splits)
    known = label_sets(splits)
    columns = columns_of(file, table, known, kind)
    if columns == "label":
        names, logits = from_labels(file, table, ids, known)
    else:
        names, values = values_of(file, table, columns, known, labels)
        logits = as_logits(file, columns, ids, values).astype(np.float32)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    clusters = cluster_names(table)
    return PredictionFile(file, columns, ids, logits, names, digest, clusters)


def covered(answers: PredictionFile, splits: Sequence[Split]) -> list[Split]:
    """The sets that a file has rows of."""
    ids = answers.ids.combine_chunks()
    return [split for split in splits if compute.any(compute.is_in(split.texts("id"), ids)).as_py()]


def read_table(file: Path, most: int) -> pa.Table:
    """The rows of a file as its suffix says. Text columns of CSV stay text.

    More than `most` rows are refused, of Parquet before they are read: a few bytes stand for
    millions there.
    """
    if file.suffix not in SUFFIXES:
        raise HarnessError(f"{file}: expected a file that ends in {', '.join(SUFFIXES)}.")
    try:
        if file.suffix == ".parquet":
            about = parquet.read_metadata(file)
            check_rows(file, about.num_rows, most)
            check_cells(file, about.num_rows, about.num_columns, file.stat().st_size)
            return parquet.read_table(file)
        table = read_lines(file) if file.suffix == ".jsonl" else read_delimited(file)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise HarnessError(f"{file}: cannot be read: {error}.") from None
    check_rows(file, len(table), most)
    return table


def check_rows(file: Path, rows: int, most: int) -> None:
    """Refuse a file that is far longer than the sets: most of its rows are about none of them."""
    if rows > most:
        raise HarnessError(
            f"{file}: {rows:,} rows are more than twice those of the sets; is it about other data?"
        )


def check_cells(file: Path, rows: int, columns: int, size: int) -> None:
    """Refuse so many columns, or cells in so few bytes, that reading them would fill the memory."""
    if columns > MANY_COLUMNS:
        raise HarnessError(
            f"{file}: {columns:,} columns or keys are more than the {MANY_COLUMNS:,} that are "
            f"read; answers to many labels stand in one list column."
        )
    if rows * columns > (most := CELLS_A_BYTE * size + FEW_CELLS):
        raise HarnessError(
            f"{file}: {rows:,} rows of {columns:,} columns or keys are {rows * columns:,} cells, "
            f"most of them empty; at most {most:,} are read from {size:,} bytes."
        )


def further_colons(block: bytes, names: Iterable[bytes]) -> bool:
    """Whether there are colons behind other words than `names`: another key, or a text with one."""
    return block.count(b":") > sum(block.count(b'"%b":' % name) for name in names)


def read_lines(file: Path) -> pa.Table:
    """The rows of a .jsonl, in blocks whose keys are counted first: each line may name others."""
    tables, names, rows, size = [], set[bytes](), 0, 0
    with file.open("rb") as stream:
        while lines := stream.readlines(BLOCK):
            block = b"".join(lines)
            if len(names) > FEW_KEYS or further_colons(block, names):
                names.update(KEY.findall(block))
            rows, size = rows + len(lines), size + len(block)
            check_cells(file, rows, len(names), size)
            try:
                if block.strip():
                    tables.append(arrow_json.read_json(io.BytesIO(block)))
            except pa.ArrowException as error:
                first = rows - len(lines) + 1
                raise HarnessError(f"{file}: from line {first:,}: {error}.") from None
    if not tables:
        raise HarnessError(f"{file}: no rows.")
    return pa.concat_tables(tables, promote_options="permissive")


def read_delimited(file: Path) -> pa.Table:
    """The rows of a .csv, .tsv or .txt; commas or tabs, as its header says.

    Fields may stand in quotes where commas are between them. A tab-separated file has none: a quote
    is a character of its text, as in the releases of NLI.
    """
    with file.open(encoding="utf-8-sig", newline="") as stream:
        first = stream.readline()
    delimiter = "\t" if "\t" in first else ","
    quote = '"' if delimiter == "," else False
    header = next(csv.reader([first], delimiter=delimiter), [])
    check_cells(file, 1, len(header), file.stat().st_size)
    return arrow_csv.read_csv(
        file,
        parse_options=arrow_csv.ParseOptions(delimiter=delimiter, quote_char=quote),
        convert_options=arrow_csv.ConvertOptions(
            column_types={name: pa.string() for name in header},
            strings_can_be_null=False,
        ),
    )


def ids_of(file: Path, table: pa.Table, longest: int) -> Column:
    """(N,) the ids as text; one far longer than `longest` is refused."""
    name = only(file, table, ID_COLUMNS, "ids")
    values = as_text(table.column(name))
    if not len(values):
        raise HarnessError(f"{file}: no rows.")
    if values.null_count:
        row = compute.index(compute.is_null(values), True).as_py()
        raise HarnessError(f"{file}: row {row + 1} has no {name}.")
    lengths = compute.utf8_length(values)
    if compute.max(lengths).as_py() > max(longest, FEW):
        row = compute.index(compute.greater(lengths, max(longest, FEW)), True).as_py()
        raise HarnessError(
            f"{file}: the {name} of row {row + 1} has {lengths[row].as_py():,} characters; those "
            f"of the sets have at most {longest:,}."
        )
    return values


def cluster_names(table: pa.Table) -> pa.ChunkedArray | None:
    """(N,) the cluster of each row as text, "" where it has none; None without such a column."""
    if CLUSTER_COLUMN not in table.column_names:
        return None
    return compute.fill_null(as_text(table.column(CLUSTER_COLUMN)), "")


def check_ids(file: Path, ids: Column, splits: Sequence[Split]) -> None:
    """Refuse doubled ids, unknown ones, and ids that stand in two sets."""
    problems = []
    if (again := repeated(ids)).size:
        problems.append(f"{again.size:,} ids are doubled{examples(again)}")
    chunks = [chunk for split in splits for chunk in split.texts("id").chunks]
    every = pa.chunked_array(chunks, pa.string())
    known = compute.is_in(ids, every.combine_chunks())
    if (strange := np.unique(as_numpy(ids.filter(compute.invert(known))))).size:
        problems.append(f"{strange.size:,} ids are unknown{examples(strange)}")
    if problems:
        sets = ", ".join(f"{split.name} ({split.ids[0]} …)" for split in splits)
        raise HarnessError(f"{file}: {'; '.join(problems)}. The sets are {sets}.")
    shared = repeated(every)
    if shared.size and (shared := np.intersect1d(as_numpy(ids), shared)).size:
        raise HarnessError(
            f"{file}: {shared.size:,} ids stand in several sets{examples(shared)}; say which one "
            f"the file is about with --sets {'|'.join(split.name for split in splits)}."
        )


def repeated(texts: Column) -> NDArray[np.str_]:
    """The texts that occur more than once, sorted."""
    if len(texts.unique()) == len(texts):
        return np.array([], dtype=np.str_)
    codes, names = coded(texts)
    return np.array(sorted(names[code] for code in np.flatnonzero(np.bincount(codes) > 1)))
