"""One set of labelled rows, how it is built from plain columns, and how it is cut smaller."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import datasets
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness_plugin.data.clusters import coded
from harness_plugin.errors import HarnessError

Ints: TypeAlias = NDArray[np.int64]
Purpose: TypeAlias = Literal["train", "validation", "in_domain", "ood"]

ALIGNED, CONFLICTING, UNDEFINED = 1, 0, -1
MISSING_LABELS = frozenset({"-", "-1", ""})


@dataclass(frozen=True, eq=False)
class Split:
    """One set of labelled rows.

    `rows` has the task's input columns and
      id         string, unique within the split, stable between loads
      label      int64 in [0, C), index into `labels`
      group      int64 in [0, G), index into `groups`; -1 = belongs to no group
      attribute  string, the value of the spurious attribute ("" = not annotated)
      aligned    int64: 1 the bias points to the label, 0 it points away, -1 undefined
    and one string column for each name in `breakdowns` (bias types, "" = not applicable).
    Where rows are not independent there is a string column `cluster`: rows of one value were made
    from one template, person or document ("" = a row that stands alone).
    Where groups overlap there is a column `members`, the indices of all groups of a row, and
    `group` is -1.
    `collapse` maps every label a model may predict to a label of this split when the two sets
    differ (3-way NLI on 2-way HANS); `collapse_rule` says how ("argmax" | "sum"), or
    that a model chooses among the labels of this split ("restrict").
    """

    name: str
    purpose: Purpose
    rows: datasets.Dataset
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    breakdowns: tuple[str, ...] = ()
    collapse: Mapping[str, str] | None = None
    collapse_rule: str = "argmax"
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        """(N,) example ids."""
        return np.asarray(self.rows["id"], dtype=np.str_)

    @cached_property
    def label(self) -> Ints:
        """(N,) indices into `labels`."""
        return self.integers("label")

    @cached_property
    def group(self) -> Ints:
        """(N,) indices into `groups`, -1 = none."""
        return self.integers("group")

    @cached_property
    def aligned(self) -> Ints:
        """(N,) 1 bias-aligned, 0 bias-conflicting, -1 undefined."""
        return self.integers("aligned")

    def integers(self, name: str) -> Ints:
        """(N,) one integer column."""
        return np.asarray(self.column(name), dtype=np.int64)

    def column(self, name: str) -> Any:
        """(N,) one column, without decoding the others (reading ids opens no image)."""
        return self.rows.select_columns([name]).with_format("numpy")[:][name]

    @cached_property
    def group_counts(self) -> Ints:
        """(G,) number of rows of each group."""
        counts: Ints = self.membership.sum(axis=0, dtype=np.int64)
        return counts

    @cached_property
    def clusters(self) -> tuple[Ints, tuple[str, ...]] | None:
        """(N,) index of each row's cluster, -1 = stands alone, and the clusters' names, sorted.

        None where all rows are independent.
        """
        if "cluster" not in self.rows.column_names:
            return None
        return coded(self.column("cluster"))

    @cached_property
    def overlapping(self) -> bool:
        """Whether a row may belong to several groups."""
        return "members" in self.rows.column_names

    @cached_property
    def membership(self) -> NDArray[np.bool_]:
        """(N, G) whether a row belongs to a group."""
        if not self.overlapping:
            return np.equal(self.group[:, None], np.arange(len(self.groups)))
        out = np.zeros((len(self), len(self.groups)), dtype=np.bool_)
        for row, members in enumerate(self.rows["members"]):
            out[row, members] = True
        return out

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything a result can depend on: ids, inputs, labels, groups, rule."""
        digest = hashlib.sha256()
        for name in sorted(self.rows.column_names):
            digest.update(name.encode())
            for chunk in column_bytes(self.rows, name):
                digest.update(chunk)
        for part in (self.labels, self.groups, self.breakdowns, self.collapse, self.collapse_rule):
            digest.update(repr(part).encode())
        return digest.hexdigest()

    def select(self, indices: Sequence[int] | Ints) -> Split:
        """The rows at `indices`, in that order."""
        return replace(self, rows=self.rows.select(np.asarray(indices, dtype=np.int64)))


def column_bytes(rows: datasets.Dataset, name: str, chunk: int = 4096) -> Iterator[bytes]:
    """The stored bytes of one column, a chunk of rows at a time (images stay encoded).

    An image that is stored as a path counts with the bytes of its file: the same files in another
    folder are the same data, and a file that was replaced is not.
    """
    column = rows.select_columns([name]).with_format("arrow")
    if isinstance(rows.features[name], datasets.Image):
        for start in range(0, len(rows), chunk):
            for image in column[start : start + chunk].column(name).to_pylist():
                yield hashlib.sha256(image["bytes"] or Path(image["path"]).read_bytes()).digest()
        return
    for start in range(0, len(rows), chunk):
        part = column[start : start + chunk].replace_schema_metadata(None)
        # a slice writes other bytes than a copy of the same rows
        table = part.take(pa.array(range(len(part)))).combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        yield sink.getvalue().to_pybytes()


def make_split(
    name: str,
    *,
    purpose: Purpose,
    inputs: Mapping[str, Sequence[Any]],
    ids: Sequence[str],
    label_texts: Sequence[Any],
    labels: tuple[str, ...],
    attributes: Sequence[str] | None = None,
    group_texts: Sequence[str] | None = None,
    member_texts: Sequence[Sequence[str]] | None = None,
    groups: tuple[str, ...] = (),
    aligned: Sequence[int] | Ints | None = None,
    breakdowns: Mapping[str, Sequence[str]] | None = None,
    clusters: Sequence[str] | None = None,
    collapse: Mapping[str, str] | None = None,
    collapse_rule: str = "argmax",
    features: Mapping[str, Any] | None = None,
    missing_labels: Collection[str] = MISSING_LABELS,
    where: str = "",
) -> Split:
    """Build a split from columns of plain values, naming the first bad row.

    Rows whose label is one of `missing_labels` ("-", -1, empty) are dropped and counted.
    `member_texts` are the names of all groups of each row, for groups that overlap; it stands in
    the place of `group_texts`. `clusters` names what rows have in common that are not independent:
    a template, a person, a document; "" for a row that stands alone.
    `features` overrides the Arrow type of an input column (images: `datasets.Image()`).

    Raises HarnessError for an unknown label or group, a repeated id, or columns of unequal
    length; the message names `where` (a file), the 1-based row and the value.
    """
    if group_texts is not None and member_texts is not None:
        raise HarnessError(f"{where or name}: give group_texts or member_texts, not both.")
    where = where or name
    n = len(ids)
    breakdowns = dict(breakdowns or {})
    columns: dict[str, Sequence[Any]] = {"label": label_texts, **inputs, **breakdowns}
    optional: dict[str, Sequence[Any] | Ints | None] = {
        "attribute": attributes,
        "group": group_texts,
        "members": member_texts,
        "aligned": aligned,
        "cluster": clusters,
    }
    columns |= {name: list(values) for name, values in optional.items() if values is not None}
    for column, values in columns.items():
        if len(values) != n:
            raise HarnessError(f"{where}: column {column!r} has {len(values)} rows, expected {n}.")

    label_texts = [str(value) for value in label_texts]
    keep = [i for i in range(n) if label_texts[i] not in missing_labels]
    label_index = {text: i for i, text in enumerate(labels)}
    group_index = {text: i for i, text in enumerate(groups)}
    seen: dict[str, int] = {}
    for i in keep:
        if label_texts[i] not in label_index:
            raise HarnessError(
                f"{where}: row {i + 1}: unknown label {label_texts[i]!r}; expected one of "
                f"{', '.join(labels)}."
            )
        if group_texts is not None and group_texts[i] and group_texts[i] not in group_index:
            raise HarnessError(
                f"{where}: row {i + 1}: unknown group {group_texts[i]!r}; expected one of "
                f"{', '.join(groups)}."
            )
        if member_texts is not None and (
            odd := [g for g in member_texts[i] if g not in group_index]
        ):
            raise HarnessError(
                f"{where}: row {i + 1}: unknown group {odd[0]!r}; expected some of "
                f"{', '.join(groups)}."
            )
        if (first := seen.setdefault(str(ids[i]), i)) != i:
            raise HarnessError(
                f"{where}: row {i + 1}: id {ids[i]!r} was already used in row {first + 1}."
            )
    if not keep:
        raise HarnessError(f"{where}: no labelled row (of {n} read).")

    def pick(values: Sequence[Any]) -> list[Any]:
        return [values[i] for i in keep]

    data: dict[str, Any] = {"id": [str(ids[i]) for i in keep]}
    schema: dict[str, Any] = {"id": datasets.Value("string")}
    for column, values in inputs.items():
        data[column] = pick(values)
        schema[column] = (features or {}).get(column, datasets.Value("string"))
    data["label"] = [label_index[label_texts[i]] for i in keep]
    data["group"] = [group_index.get(group_texts[i], -1) if group_texts else -1 for i in keep]
    data["attribute"] = [str(attributes[i]) if attributes is not None else "" for i in keep]
    data["aligned"] = [int(aligned[i]) if aligned is not None else UNDEFINED for i in keep]
    if member_texts is not None:
        data["members"] = [[group_index[name] for name in member_texts[i]] for i in keep]
        schema["members"] = datasets.List(datasets.Value("int64"))
    if clusters is not None:
        data["cluster"] = [str(value) for value in pick(clusters)]
        schema["cluster"] = datasets.Value("string")
    for column in ("label", "group", "aligned"):
        schema[column] = datasets.Value("int64")
    schema["attribute"] = datasets.Value("string")
    for column, values in breakdowns.items():
        data[column] = [str(value) for value in pick(values)]
        schema[column] = datasets.Value("string")
    return Split(
        name=name,
        purpose=purpose,
        rows=datasets.Dataset.from_dict(data, features=datasets.Features(schema)),
        labels=labels,
        groups=groups,
        breakdowns=tuple(breakdowns),
        collapse=collapse,
        collapse_rule=collapse_rule,
        dropped=n - len(keep),
    )


def stratified(split: Split, limit: int, seed: int) -> Split:
    """At most `limit` rows, in their old order, with every group (or label) kept in proportion.

    Every stratum keeps at least one row, because a group without a test example has no
    accuracy. Raises HarnessError when `limit` is smaller than the number of strata.
    """
    return split if limit >= len(split) else split.select(stratified_rows(split, limit, seed))


def stratified_rows(split: Split, limit: int, seed: int) -> Ints:
    """(limit,) sorted row numbers, every group (or label) in proportion and at least once."""
    strata = split.group if split.groups else split.label
    if split.overlapping:
        strata = np.unique(split.membership, axis=0, return_inverse=True)[1].reshape(-1)
    present, counts = np.unique(strata, return_counts=True)
    if limit < len(present):
        raise HarnessError(
            f"{limit} rows cannot hold each of the {len(present)} groups of split {split.name!r}; "
            "raise --limit, or validation_fraction where rows are held out."
        )
    share = counts * limit / len(split)
    take = np.maximum(np.floor(share).astype(np.int64), 1)
    # largest remainders get the rows that rounding down left over
    for i in np.argsort(take - share, kind="stable"):
        if take.sum() >= limit:
            break
        take[i] += int(take[i] < counts[i])
    while take.sum() > limit:
        take[int(np.argmax(take))] -= 1
    rng = np.random.default_rng(seed)
    chosen = [
        rng.choice(np.flatnonzero(strata == value), size=size, replace=False)
        for value, size in zip(present, take, strict=True)
    ]
    return np.sort(np.concatenate(chosen))
