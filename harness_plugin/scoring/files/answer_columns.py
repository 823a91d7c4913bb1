"""Answers in the columns of a table: which hold them, and the logits that they stand for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from harness_plugin.data.columns import Column, coded
from harness_plugin.data.dataset import Split
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.records import label_spelling

Kind: TypeAlias = Literal["label", "probabilities", "logits"]

KINDS: tuple[Kind, ...] = ("label", "probabilities", "logits")
LABEL_COLUMNS = ("gold_label", "label", "prediction")
"""HANS submissions call a predicted label `gold_label`."""
SHOWN = 3
TOLERANCE = 1e-3
"""How far from 1 probabilities may sum, besides rounding to two decimals."""
LOWEST = 1e-38
"""Log-probabilities are taken of at least this: the smallest normal float32."""


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as it is, numbers in words; null stays null."""
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_integer(column.type):
        return column.cast(pa.string())
    texts = [None if value is None else str(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())])


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
    file: Path, table: pa.Table, known: Sequence[tuple[str, ...]], required: Kind | None
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
    if required:
        if required in present:
            return required
        raise HarnessError(
            f"{file}: no {required}; the columns are {', '.join(table.column_names)}."
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
    spellings = [label_spelling(text) for text in texts]
    names = next((names for names in known if set(spellings) <= spelled(names)), None)
    if names is None:
        every = set().union(*map(spelled, known))
        if not (odd := [code for code, text in enumerate(spellings) if text not in every]):
            mixed = ", ".join(sorted(set(spellings)))
            raise HarnessError(f"{file}: labels {mixed} do not go together.")
        rows = np.flatnonzero(np.isin(codes, odd))
        raise unknown(
            f"label in {len(rows):,} rows of {file}, first for id {ids[int(rows[0])]}",
            texts[codes[rows[0]]],
            sorted(set().union(*known)),
        )
    index = {label_spelling(label): i for i, label in enumerate(names)}
    answer = np.array([index[text] for text in spellings], dtype=np.int64)[codes]
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
