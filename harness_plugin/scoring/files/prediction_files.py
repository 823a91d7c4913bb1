"""Files of predictions that were made elsewhere: read, checked, and joined to a task's rows by id.

A file has a column of ids and one kind of answers: labels, probabilities or logits. Labels are
matched by name. A column `cluster` says which rows are not independent, where the task does not.
What is missing, doubled or unknown is an error with counts and examples.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, parquet
from pyarrow import csv as arrow_csv
from pyarrow import json as arrow_json

from harness_plugin.data.columns import Column, as_numpy, clusters_of, coded
from harness_plugin.data.dataset import Split
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.records import Predictions, label_spelling, predictions_of

Kind: TypeAlias = Literal["label", "probabilities", "logits"]

KINDS: tuple[Kind, ...] = ("label", "probabilities", "logits")
ID_COLUMNS = ("pairID", "id")
LABEL_COLUMNS = ("gold_label", "label", "prediction")
"""HANS submissions call a predicted label `gold_label`."""
CLUSTER_COLUMN = "cluster"
FEW = 1000
"""Rows and characters that are never too many: what is wrong with them is said one by one."""
SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".parquet")
SHOWN = 3
TOLERANCE = 1e-3
"""How far from 1 probabilities may sum, besides rounding to two decimals."""
LOWEST = 1e-38
"""Log-probabilities are taken of at least this: the smallest normal float32."""


@dataclass(frozen=True, eq=False)
class PredictionFile:
    """What one file says: `logits` (N, C) of the rows `ids` (N,), in the order of `labels`.

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
        found_at = compute.index_in(ids, value_set=self.ids.combine_chunks())
        if found_at.null_count:
            missing = as_numpy(ids.filter(found_at.is_null()))
            raise HarnessError(
                f"{self.file}: {missing.size:,} of the {len(split):,} ids of set {split.name!r} "
                f"are missing{examples(missing)}; a set is scored whole."
            )
        rows = found_at.to_numpy()
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
            check_rows(file, parquet.read_metadata(file).num_rows, most)
            return parquet.read_table(file)
        table = arrow_json.read_json(file) if file.suffix == ".jsonl" else read_delimited(file)
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
    return arrow_csv.read_csv(
        file,
        parse_options=arrow_csv.ParseOptions(delimiter=delimiter, quote_char=quote),
        convert_options=arrow_csv.ConvertOptions(
            column_types={name: pa.string() for name in header},
            strings_can_be_null=False,
        ),
    )


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as it is, numbers in words; null stays null."""
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_integer(column.type):
        return column.cast(pa.string())
    texts = [None if value is None else str(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())])


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


def only(file: Path, table: pa.Table, names: Iterable[str], what: str) -> str:
    """The one column of `names` that the table has."""
    present = [name for name in names if name in table.column_names]
    if len(present) == 1:
        return present[0]
    problem = f"{' and '.join(present)} are both there" if present else "there is none"
    raise HarnessError(
        f"{file}: expected one column of {what} ({' or '.join(names)}), {problem}; the columns are "
        f"{', '.join(table.column_names)}."
    )


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


def examples(values: NDArray[Any]) -> str:
    """` (a, b, c, …)`."""
    more = ", …" if len(values) > SHOWN else ""
    return f" ({', '.join(map(str, values[:SHOWN]))}{more})"


def label_sets(splits: Sequence[Split]) -> list[tuple[str, ...]]:
    """The sets of labels a model may use: each split's own, then those that collapse onto them."""
    sets = [split.labels for split in splits]
    sets += [tuple(split.collapse) for split in splits if split.collapse]
    return list(dict.fromkeys(sets))


def columns_of(
    file: Path, table: pa.Table, known: Sequence[tuple[str, ...]], asked_kind: Kind | None
) -> Kind:
    """Which kind of answers the file holds; an error where it holds several, none asked for."""
    present: list[Kind] = []
    if any(name in table.column_names for name in LABEL_COLUMNS):
        present.append("label")
    present += [kind for kind in KINDS[1:] if kind in table.column_names]
    named = any(spelled(names) <= spelled(table.column_names) for names in known)
    if named:
        # columns called like the labels do not say what they hold
        present += [kind for kind in KINDS[1:] if kind not in present]
    if asked_kind:
        if asked_kind in present:
            return asked_kind
        raise HarnessError(
            f"{file}: no {asked_kind}; the columns are {', '.join(table.column_names)}."
        )
    if len(present) == 1:
        return present[0]
    if present:
        raise HarnessError(
            f"{file}: the columns {', '.join(table.column_names)} may hold {' or '.join(present)}; "
            f"say which with --kind."
        )
    raise HarnessError(
        f"{file}: no answers; expected a column {' or '.join((*LABEL_COLUMNS, *KINDS[1:]))}, or "
        f"one for each label ({' or '.join(', '.join(names) for names in known)}); the columns "
        f"are {', '.join(table.column_names)}."
    )


def spelled(names: Iterable[str]) -> set[str]:
    """Labels as they are compared."""
    return {label_spelling(name) for name in names}


def from_labels(
    file: Path, table: pa.Table, ids: Column, known: Sequence[tuple[str, ...]]
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """The labels in use, and logits (N, C) that are 0 for the given label and -inf elsewhere."""
    name = only(file, table, LABEL_COLUMNS, "labels")
    codes, texts = coded(compute.fill_null(as_text(table.column(name)), "None"))
    said = [label_spelling(text) for text in texts]
    names = next((names for names in known if set(said) <= spelled(names)), None)
    if names is None:
        every = set().union(*map(spelled, known))
        if not (odd := [code for code, text in enumerate(said) if text not in every]):
            raise HarnessError(f"{file}: labels {', '.join(sorted(set(said)))} do not go together.")
        rows = np.flatnonzero(np.isin(codes, odd))
        raise unknown(
            f"label in {len(rows):,} rows of {file}, first for id {ids[int(rows[0])]}",
            texts[codes[rows[0]]],
            sorted(set().union(*known)),
        )
    index = {label_spelling(label): i for i, label in enumerate(names)}
    answer = np.array([index[text] for text in said], dtype=np.int64)[codes]
    logits = np.full((len(ids), len(names)), -np.inf, dtype=np.float32)
    logits[np.arange(len(ids)), answer] = 0
    return names, logits


def values_of(
    file: Path,
    table: pa.Table,
    kind: Kind,
    known: Sequence[tuple[str, ...]],
    labels: tuple[str, ...] | None,
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The label names and (N, C) numbers of a list column, a mapping, or a column a label."""
    columns = {label_spelling(name): name for name in table.column_names}
    if kind not in table.column_names:
        # the largest set of labels whose columns are there: three rather than the two they hold
        fitting = [names for names in known if spelled(names) <= set(columns)]
        names = max(fitting, key=len)
        return names, numbers(
            file, {name: table.column(columns[label_spelling(name)]) for name in names}
        )
    column = table.column(kind)
    if pa.types.is_struct(column.type):
        names = tuple(field.name for field in column.type)
        check_names(file, names, known)
        return names, numbers(file, {n: compute.struct_field(column, n) for n in names})
    if not (pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)):
        raise HarnessError(f"{file}: column {kind} holds {column.type}, expected lists.")
    if labels is None:
        raise HarnessError(
            f"{file}: the entries of column {kind} have no names; give them in order with "
            f"--labels, e.g. --labels {','.join(known[-1])}."
        )
    check_names(file, labels, known)
    lengths = compute.fill_null(compute.list_value_length(column), 0).to_numpy()
    if (odd := lengths != len(labels)).any():
        row = int(odd.argmax())
        raise HarnessError(
            f"{file}: row {row + 1}: {kind} has {lengths[row]} entries, --labels {len(labels)}."
        )
    return labels, numbers(
        file, {name: compute.list_element(column, i) for i, name in enumerate(labels)}
    )


def check_names(file: Path, names: tuple[str, ...], known: Sequence[tuple[str, ...]]) -> None:
    """Refuse label names that are no set of labels of the task."""
    if not any(spelled(names) == spelled(other) for other in known):
        raise HarnessError(
            f"{file}: labels {', '.join(names)}; the task has "
            f"{' or '.join(', '.join(other) for other in known)}."
        )


def numbers(file: Path, columns: Mapping[str, pa.ChunkedArray]) -> NDArray[np.float64]:
    """(N, C) finite numbers; the first bad one is named."""
    out = np.empty((len(next(iter(columns.values()))), len(columns)))
    for place, (name, column) in enumerate(columns.items()):
        try:
            values = column.cast(pa.float64())
        except pa.ArrowException:
            values = pa.chunked_array([[as_number(value) for value in column.to_pylist()]])
        out[:, place] = compute.fill_null(values, math.nan).to_numpy()
        if (bad := ~np.isfinite(out[:, place])).any():
            row = int(bad.argmax())
            raise HarnessError(
                f"{file}: row {row + 1}: {name} is {column[row].as_py()!r}, expected a number."
            )
    return out


def as_number(value: object) -> float:
    """A number, or nan for what is none."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def as_logits(
    file: Path, kind: Kind, ids: Column, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Logits as they are; of probabilities, which must be some, their logarithms."""
    if kind == "logits":
        return values
    total = values.sum(axis=1)
    # rounded to two decimals, each of C entries may be off by .005
    bad = (values < 0).any(axis=1) | (np.abs(total - 1) > 0.005 * values.shape[1] + TOLERANCE)
    if bad.any():
        first = int(bad.argmax())
        numbers = ", ".join(f"{value:g}" for value in values[first])
        raise HarnessError(
            f"{file}: {int(bad.sum()):,} rows are no probabilities, first that of id {ids[first]} "
            f"({numbers}, of sum {total[first]:g}): they must lie in [0, 1] and sum to 1. Logits? "
            f"Then --kind logits."
        )
    logits: NDArray[np.float64] = np.log(np.maximum(values / total[:, None], LOWEST))
    return logits
