"""Faults and doubts in the values of a user's table, each stated once, with counts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from harness_plugin.data.columns import Column, coded
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.own.tables import Table

SHOWN = 3
"""Examples that a message names."""
NOTHING = frozenset({"nan", "na", "n/a", "none", "null", "nil", "missing", "unknown", "?", "-"})
"""Texts that often stand for a missing value."""
SEPARATORS = ("|", ";", ",")
MANY_NUMBERS = 30
"""Whole numbers as labels from which on they may be a quantity."""


def blank(column: Column) -> NDArray[np.bool_]:
    """(N,) whether there is no value, or no character but blanks."""
    nothing = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(column, "")), "")
    return np.asarray(nothing.to_numpy(), np.bool_)


def complete(table: Table, names: Sequence[str], drop: bool) -> tuple[NDArray[np.int64], str]:
    """(M,) the rows that have a value in all columns `names`, and what a reader should know.

    Raises HarnessError with counts and the first rows where some lack a value, unless `drop`.
    """
    lacking = {name: rows for name in names if (rows := blank(table.columns[name])).any()}
    if not lacking:
        return np.arange(len(table)), ""
    rows = np.logical_or.reduce([*lacking.values()])
    counted = f"{int(rows.sum()):,} of {len(table):,} rows lack a value"
    if drop:
        each = ", ".join(f"{name} {int(missing.sum()):,}" for name, missing in lacking.items())
        if rows.all():
            raise HarnessError(f"{table.file}: all rows lack a value ({each}).")
        return np.flatnonzero(~rows), f"dropped {counted} ({each})"
    details = "; ".join(
        f"{name} is empty in {examples(table, np.flatnonzero(missing))}"
        for name, missing in lacking.items()
    )
    raise HarnessError(
        f"{table.file}: {counted}: {details}. Fill them in or remove them, or write `drop_missing: "
        f"true` in the task's file."
    )


def examples(table: Table, rows: NDArray[np.int64]) -> str:
    """`row 5 (line 7), row 9 (line 11), …`, with the number of rows where not all are named."""
    named = ", ".join(table.named(int(row)) for row in rows[:SHOWN])
    return named if len(rows) <= SHOWN else f"{len(rows):,} rows, first {named}"


def check_classes(task: str, name: str, column: Column) -> None:
    """Refuse a column of labels that are quantities, several labels in one, or one for each row."""
    codes, texts = coded(column)
    if len(texts) < 2:
        raise HarnessError(
            f"task {task}: column {name} has one value, {texts[0]!r}; there is nothing to predict."
        )
    numbers = [as_float(text) for text in texts]
    if None not in numbers and any(n != int(n) for n in numbers if n is not None):
        raise HarnessError(
            f"task {task}: column {name} holds numbers such as {some(texts)}: to predict a "
            f"quantity is regression, and models here choose among classes. Put the numbers into "
            f"few classes (low, high), or name another `label` column."
        )
    if joined := [text for text in texts if is_several(text, {*texts})]:
        raise HarnessError(
            f"task {task}: column {name} holds several labels in one, {some(joined)}: data with "
            f"several labels a row (multi-label) are not supported. Make a task of each label, or "
            f"list all values under `labels` if each is one class."
        )
    if len(codes) > 20 and len(texts) > len(codes) / 2:
        raise HarnessError(
            f"task {task}: column {name} has {len(texts):,} different values in {len(codes):,} "
            f"rows, {some(texts)}: are these classes? Name the `label` column."
        )


def as_float(text: str) -> float | None:
    """A finite number that a text writes, else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def is_several(text: str, labels: set[str]) -> bool:
    """Whether a label is a list, or other labels with a separator between them."""
    if re.fullmatch(r"\s*\[.*\]\s*", text):
        return True
    return any(
        mark in text and {part.strip() for part in text.split(mark)} < labels for mark in SEPARATORS
    )


def some(texts: Sequence[str]) -> str:
    """`'a', 'b', 'c', …`."""
    return ", ".join(repr(text[:40]) for text in texts[:SHOWN]) + (
        ", …" if len(texts) > SHOWN else ""
    )


def oddities(columns: Mapping[str, Column], labels: Sequence[str], label: str) -> Iterator[str]:
    """Warnings about values that may be one or none: spelling, blanks, words for nothing.

    `columns` are those of few values by name. `labels` are the label names that the user lists,
    `label` the column they are of.
    """
    for name, column in columns.items():
        codes, texts = coded(column)
        rows = dict(zip(texts, np.bincount(codes, minlength=len(texts)).tolist(), strict=True))
        yield from spelled_alike(name, rows)
        if nothing := [text for text in texts if text.strip().casefold() in NOTHING]:
            shown = ", ".join(f"{text!r} ({rows[text]:,} rows)" for text in nothing)
            yield f"{name}: {shown} counts as a value like any other"
        if name == label and not labels and len(texts) > MANY_NUMBERS and all(map(is_whole, texts)):
            yield (
                f"{name}: {len(texts)} whole numbers are {len(texts)} classes; a quantity "
                "(regression) should be put into few"
            )
        if name == label and (idle := [text for text in labels if text not in rows]):
            yield f"labels: no row of {', '.join(idle)}"


def spelled_alike(name: str, rows: Mapping[str, int]) -> Iterator[str]:
    """A warning where some texts, with how many rows each, may be one."""
    alike: dict[str, list[str]] = defaultdict(list)
    for text in rows:
        alike[" ".join(text.split()).casefold()].append(text)
    same = [names for names in alike.values() if len(names) > 1]
    if same:
        shown = "; ".join(
            " and ".join(f"{text!r} ({rows[text]:,} rows)" for text in names)
            for names in same[:SHOWN]
        )
        more = f", and {len(same) - SHOWN} more" if len(same) > SHOWN else ""
        yield f"{name}: differ in blanks or case alone, and count apart: {shown}{more}"


def is_whole(text: str) -> bool:
    """Whether a text is a whole number."""
    return re.fullmatch(r"[+-]?\d+", text.strip()) is not None


def repeated(names: Sequence[str]) -> Iterator[str]:
    """A warning about columns of a table that have one name; those that are read are refused."""
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        yield f"columns of one name: {', '.join(map(repr, twice))}"
