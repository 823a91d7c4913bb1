"""predictions_*.csv: what every model answers on one evaluation set, from which all numbers follow.

One row an example, sorted by id: its gold label, groups, alignment, bias types and cluster, then
one column for each label of every role and seed. What the columns mean stands in `sets` of
transfer_*.json. Logits are float32 with nine digits, which is all they hold: read back they are the
same numbers.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from harness_plugin.data.columns import (
    CHUNK,
    Column,
    as_numpy,
    clusters_of,
    coded,
    gathered,
    longest_of,
)
from harness_plugin.errors import HarnessError
from harness_plugin.records import Predictions, TaskScores
from harness_plugin.scoring.pairing import by_id, check_same_rows

LONGEST = 256
"""Characters of an id, a bias type's value or a cluster; NumPy pads all rows to the longest one."""


class Answers(BaseModel):
    """One model's columns of the predictions file."""

    model_config = ConfigDict(extra="forbid")

    role: str
    seed: int
    labels: list[str] = Field(description="the labels it knows, one column of logits each")
    labels_only: bool = Field(description="it gave labels: 0 for the one it gave, -inf elsewhere")


class EvaluationSet(BaseModel):
    """One evaluation set, and how its predictions file is read."""

    model_config = ConfigDict(extra="forbid")

    name: str
    purpose: Literal["in_domain", "ood"]
    rows: int = Field(ge=1)
    rows_sha256: str = Field(
        description="of all rows, sorted by id: gold label, groups, bias types, clusters"
    )
    labels: list[str] = Field(min_length=1)
    groups: list[str]
    overlapping: bool = Field(description="whether a row may be in several groups")
    breakdowns: list[str] = Field(description="its bias types")
    clustered: bool = Field(description="whether rows of one cluster are not independent")
    train_groups: dict[str, int] = Field(description="rows of the training set by group")
    collapse: dict[str, str] | None = Field(description="label of a model -> label of this set")
    collapse_rule: Literal["argmax", "sum", "restrict"]
    answers: list[Answers]

    def header(self) -> list[str]:
        """The columns of the predictions file."""
        groups = [f"group: {name}" for name in self.groups] if self.overlapping else ["group"]
        return [
            "id",
            "label",
            *groups,
            "aligned",
            *(f"bias type: {name}" for name in self.breakdowns),
            *(["cluster"] if self.clustered else []),
            *(f"logit: {a.role}/{a.seed}/{label}" for a in self.answers for label in a.labels),
        ]


def file_name(task: str, split: str, stamp: str) -> str:
    """Name of the file of one evaluation set."""
    return f"predictions_{task}_{split}_{stamp}.csv"


def answers_on(scores: TaskScores, split: str) -> list[Predictions]:
    """Predictions of every role and seed on one set, rows sorted by id."""
    return [by_id(p) for p in scores.predictions if p.split == split]


def set_of(scores: TaskScores, split: str) -> EvaluationSet:
    """The record of one evaluation set."""
    answers = [p for p in scores.predictions if p.split == split]
    first = answers[0]
    return EvaluationSet(
        name=split,
        purpose=scores.purposes[split],
        rows=len(first),
        rows_sha256=rows_sha256(by_id(first)),
        labels=list(first.labels),
        groups=list(first.groups),
        overlapping=first.members is not None,
        breakdowns=list(first.breakdowns),
        clustered=first.cluster is not None,
        train_groups=dict(first.train_groups or {}),
        collapse=None if first.collapse is None else dict(first.collapse),
        collapse_rule=first.collapse_rule,
        answers=[
            Answers(
                role=p.role, seed=p.seed, labels=list(p.model_labels), labels_only=p.labels_only
            )
            for p in answers
        ],
    )


def rows_sha256(p: Predictions) -> str:
    """SHA-256 of what is known of the rows themselves, whoever answered."""
    more = [p.members is not None, p.cluster is not None]
    names = json.dumps([p.labels, p.groups, list(p.breakdowns), *more])
    digest = hashlib.sha256(names.encode())
    for rows in slices(len(p)):
        columns = [map(encode_basestring_ascii, column) for column in row_columns(p, rows)]
        lines = (f"\n[{', '.join(row)}]" for row in zip(*columns, strict=True))
        digest.update("".join(lines).encode())
    return digest.hexdigest()


def slices(n: int) -> Iterator[slice]:
    """All rows, few at a time: as text a row is some hundred bytes."""
    return (slice(start, start + CHUNK) for start in range(0, n, CHUNK))


def row_columns(p: Predictions, rows: slice) -> Iterator[Sequence[str]]:
    """The columns of the rows themselves, as text."""
    yield p.ids[rows].tolist()
    yield [p.labels[label] for label in p.label[rows]]
    if p.members is None:
        yield [p.groups[group] if group >= 0 else "" for group in p.group[rows]]
    else:
        flags = p.members[rows].T.astype(int)
        yield from (["01"[member] for member in column] for column in flags)
    yield ["" if aligned < 0 else str(aligned) for aligned in p.aligned[rows]]
    for values in p.breakdowns.values():
        yield values[rows].tolist()
    if p.cluster is not None:
        yield [p.clusters[cluster] if cluster >= 0 else "" for cluster in p.cluster[rows]]


def csv_parts(known: EvaluationSet, answers: Sequence[Predictions]) -> Iterator[str]:
    """The file of one set, a part at a time; `answers` are sorted by id.

    Raises HarnessError for rows that differ, and for text that the file cannot hold.
    """
    first = answers[0]
    for p in answers:
        check_same_rows(p, first)
    yield csv_text([known.header()])
    for rows in slices(len(first)):
        columns = [*row_columns(first, rows)]
        for column in columns:
            check_length(column, f"set {known.name!r}")
        for p in answers:
            columns += [[f"{value:.9g}" for value in c] for c in p.logits[rows].T.tolist()]
        yield csv_text(zip(*columns, strict=True))


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows as lines of CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def from_csv(
    text: str, known: EvaluationSet, task: str, names: Mapping[tuple[str, int], str], where: str
) -> list[Predictions]:
    """The predictions of every role and seed; `names` are the models' by role and seed.

    Raises HarnessError that names `where`, the column and the row for whatever does not fit.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if header != known.header():
            raise HarnessError(
                f"{where}: expected the columns {', '.join(known.header())}; found "
                f"{', '.join(header)}."
            )
        parts = gathered(checked_rows(reader, len(header), where), len(header))
    except (csv.Error, ValueError) as error:
        raise (
            error
            if isinstance(error, HarnessError)
            else HarnessError(f"{where}: is no CSV file ({error}).")
        ) from None
    if len(parts[0]) != known.rows:
        raise HarnessError(f"{where}: expected {known.rows:,} rows, found {len(parts[0]):,}.")
    columns = iter(parts)
    ids = next(columns)
    check_length(ids, where)
    if twice := len(ids) - len(ids.unique()):
        raise HarnessError(f"{where}: {twice:,} ids are doubled.")
    label = codes(next(columns), known.labels, where, "label")
    group, members = np.full(len(ids), -1), None
    if known.overlapping:
        flags = [codes(next(columns), ["0", "1"], where, name) for name in known.groups]
        members = np.array(flags, dtype=bool).T.reshape(len(ids), len(flags))
    else:
        group = codes(next(columns), ["", *known.groups], where, "group") - 1
    aligned = codes(next(columns), ["", "0", "1"], where, "aligned") - 1
    breakdowns = {name: next(columns) for name in known.breakdowns}
    texts = next(columns) if known.clustered else None
    for values in (*breakdowns.values(), *([] if texts is None else [texts])):
        check_length(values, where)
    cluster, clusters = (None, ()) if texts is None else clusters_of(texts)
    return [
        Predictions(
            task=task,
            split=known.name,
            role=a.role,
            model=names[a.role, a.seed],
            seed=a.seed,
            ids=as_numpy(ids),
            logits=logits(
                [next(columns) for _ in a.labels], a.labels_only, f"{where}: {a.role} seed {a.seed}"
            ),
            model_labels=tuple(a.labels),
            label=label,
            labels=tuple(known.labels),
            group=group,
            groups=tuple(known.groups),
            aligned=aligned,
            breakdowns={name: as_numpy(values) for name, values in breakdowns.items()},
            cluster=cluster,
            clusters=clusters,
            collapse=known.collapse,
            collapse_rule=known.collapse_rule,
            train_groups=known.train_groups,
            members=members,
            labels_only=a.labels_only,
        )
        for a in known.answers
    ]


def checked_rows(rows: Iterable[Sequence[str]], width: int, where: str) -> Iterator[Sequence[str]]:
    """The rows as they come; HarnessError for one of another width."""
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise HarnessError(f"{where}: row {number}: expected {width} cells, found {len(row)}.")
        yield row


def codes(column: Column, names: Sequence[str], where: str, what: str) -> NDArray[np.int64]:
    """(N,) index into `names` of every cell."""
    index = {name: i for i, name in enumerate(names)}
    numbers, texts = coded(column)
    if strange := [code for code, text in enumerate(texts) if text not in index]:
        row = int(np.isin(numbers, strange).argmax())
        raise HarnessError(
            f"{where}: row {row + 1}: {what} is {texts[numbers[row]][:LONGEST]!r}, expected one of "
            f"{', '.join(map(repr, names))}."
        )
    return np.array([index[text] for text in texts], dtype=np.int64)[numbers]


def logits(columns: Sequence[Column], labels_only: bool, where: str) -> NDArray[np.float32]:
    """(N, C) finite numbers, or 0 for the label that was given and -inf elsewhere."""
    values = np.empty((len(columns[0]), len(columns)), dtype=np.float32)
    try:
        with np.errstate(over="ignore"):
            for rows in slices(len(values)):
                for place, column in enumerate(columns):
                    cells = column.slice(rows.start, CHUNK).to_pylist()
                    values[rows, place] = [float(cell) for cell in cells]
    except ValueError as error:
        raise HarnessError(f"{where}: {error}.") from None
    allowed = np.isfinite(values) | (labels_only & (values == -math.inf))
    bad = ~allowed.all(axis=1) | ~np.isfinite(values).any(axis=1)
    if bad.any():
        row = int(bad.argmax())
        raise HarnessError(
            f"{where}: {int(bad.sum()):,} rows hold what is no logit, first row {row + 1}: "
            f"{', '.join(column[row].as_py()[:LONGEST] for column in columns)}."
        )
    return values


def check_length(column: Sequence[str] | Column, where: str) -> None:
    """Refuse text that is longer than an id, a bias type or a cluster ever is."""
    longest = max(map(len, column)) if isinstance(column, list) else longest_of(column)
    if longest > LONGEST:
        raise HarnessError(
            f"{where}: an id, a bias type or a cluster has {longest:,} characters, expected at "
            f"most {LONGEST}."
        )
