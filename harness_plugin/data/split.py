"""One set of labelled rows, and how it is cut smaller."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness_plugin.data.columns import Column, as_numpy, clusters_of
from harness_plugin.errors import HarnessError

if TYPE_CHECKING:  # a second of imports, which scores of predictions do without
    import datasets

Ints: TypeAlias = NDArray[np.int64]
Purpose: TypeAlias = Literal["train", "validation", "in_domain", "ood"]

ALIGNED, CONFLICTING, UNDEFINED = 1, 0, -1


@dataclass(frozen=True, eq=False)
class Split:
    """One set of labelled rows.

    `content` holds the rows: an Arrow table, or a data set where a column is of a type that only
    `datasets` knows (images). `rows` is a data set in either case. It has the task's input columns
    and
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
    content: pa.Table | datasets.Dataset
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    breakdowns: tuple[str, ...] = ()
    collapse: Mapping[str, str] | None = None
    collapse_rule: str = "argmax"
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.content)

    @cached_property
    def rows(self) -> datasets.Dataset:
        """(N,) the rows as a data set."""
        return as_dataset(self.content) if isinstance(self.content, pa.Table) else self.content

    @property
    def column_names(self) -> list[str]:
        """The columns of `rows`."""
        return list(self.content.column_names)

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        """(N,) example ids."""
        return as_numpy(self.texts("id"))

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
        if isinstance(self.content, pa.Table):
            column = self.content.column(name)
            if pa.types.is_string(column.type):
                return as_numpy(column)
            return np.array(column.to_numpy())  # Arrow's own memory cannot be written to
        return self.content.select_columns([name]).with_format("numpy")[:][name]

    def texts(self, name: str) -> Column:
        """(N,) one column of texts, as Arrow holds them."""
        return self.stored([name]).column(name)

    def stored(self, names: Sequence[str], start: int = 0, stop: int | None = None) -> pa.Table:
        """The rows from `start` to `stop` of some columns as they are stored: images encoded."""
        stop = len(self) if stop is None else min(stop, len(self))
        if isinstance(self.content, pa.Table):
            return self.content.select(list(names)).slice(start, stop - start)
        return self.content.select_columns(list(names)).with_format("arrow")[start:stop]

    @cached_property
    def breakdown_values(self) -> dict[str, NDArray[np.str_]]:
        """(N,) the values of each bias type, "" = not applicable."""
        return {name: as_numpy(self.texts(name)) for name in self.breakdowns}

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
        if "cluster" not in self.column_names:
            return None
        return clusters_of(self.texts("cluster"))

    @cached_property
    def overlapping(self) -> bool:
        """Whether a row may belong to several groups."""
        return "members" in self.column_names

    @cached_property
    def membership(self) -> NDArray[np.bool_]:
        """(N, G) whether a row belongs to a group."""
        if not self.overlapping:
            return np.equal(self.group[:, None], np.arange(len(self.groups)))
        out = np.zeros((len(self), len(self.groups)), dtype=np.bool_)
        for row, members in enumerate(self.texts("members").to_pylist()):
            out[row, members] = True
        return out

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything a result can depend on: ids, inputs, labels, groups, rule."""
        digest = hashlib.sha256()
        for name in sorted(self.column_names):
            digest.update(name.encode())
            for chunk in column_bytes(self, name):
                digest.update(chunk)
        for part in (self.labels, self.groups, self.breakdowns, self.collapse, self.collapse_rule):
            digest.update(repr(part).encode())
        return digest.hexdigest()

    def select(self, indices: Sequence[int] | Ints) -> Split:
        """The rows at `indices`, in that order."""
        return replace(self, content=self.rows.select(np.asarray(indices, dtype=np.int64)))


def column_bytes(split: Split, name: str, chunk: int = 4096) -> Iterator[bytes]:
    """The stored bytes of one column, a chunk of rows at a time (images stay encoded).

    An image that is stored as a path counts with the bytes of its file: the same files in another
    folder are the same data, and a file that was replaced is not.
    """
    if not isinstance(split.content, pa.Table) and is_image(split.content.features[name]):
        for start in range(0, len(split), chunk):
            for image in split.stored([name], start, start + chunk).column(name).to_pylist():
                yield hashlib.sha256(image["bytes"] or Path(image["path"]).read_bytes()).digest()
        return
    for start in range(0, len(split), chunk):
        part = split.stored([name], start, start + chunk).replace_schema_metadata(None)
        # a slice writes other bytes than a copy of the same rows
        table = part.take(pa.array(range(len(part)))).combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        yield sink.getvalue().to_pybytes()


def as_dataset(table: pa.Table) -> datasets.Dataset:
    """A table as a data set."""
    import datasets

    types = datasets.Features.from_arrow_schema(table.schema)
    # a random name: the one that `datasets` makes is a hash of the pickled rows, and nothing asks
    return datasets.Dataset(
        datasets.table.InMemoryTable(table.cast(types.arrow_schema)),
        info=datasets.DatasetInfo(features=types),
        fingerprint=uuid.uuid4().hex,
    )


def is_image(feature: Any) -> bool:
    """Whether a column of a data set holds images."""
    import datasets

    return isinstance(feature, datasets.Image)


def stratified(split: Split, limit: int, seed: int) -> Split:
    """At most `limit` rows, in their old order, with every group (or label) kept in proportion.

    Every stratum keeps at least one row, because a group without a test example has no
    accuracy. Raises HarnessError when `limit` is smaller than the number of strata.
    """
    return split if limit >= len(split) else split.select(stratified_rows(split, limit, seed))


def stratified_rows(split: Split, limit: int, seed: int) -> Ints:
    """(limit,) sorted row numbers, every group (or label) in proportion and at least once."""
    strata = strata_of(split)
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


def half(split: Split, seed: int) -> Ints:
    """Sorted row numbers of about half of the rows, every group (or label) in proportion.

    Rows of one cluster are on one side: they are not independent, so that what is chosen on one
    half would be known on the other. The largest clusters are dealt out first, each to the side
    that has less of its groups. Where rows stand alone it is `stratified_rows`.
    """
    if split.clusters is None:
        return stratified_rows(split, len(split) // 2, seed)
    index, names = split.clusters
    alone = np.flatnonzero(index < 0)
    unit = index.copy()
    unit[alone] = len(names) + np.arange(len(alone))
    unit = np.unique(unit, return_inverse=True)[1].reshape(-1)
    strata = np.unique(strata_of(split), return_inverse=True)[1].reshape(-1)
    counts = np.zeros((int(unit.max()) + 1, int(strata.max()) + 1))
    np.add.at(counts, (unit, strata), 1)
    shares = counts / counts.sum(axis=0)
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    first = np.zeros(len(counts), dtype=np.bool_)
    lead = np.zeros(counts.shape[1])  # of the first side, as a share of each group
    for number in order:
        first[number] = lead @ shares[number] <= 0
        lead += shares[number] if first[number] else -shares[number]
    return np.flatnonzero(first[unit]).astype(np.int64)


def strata_of(split: Split) -> Ints:
    """(N,) what a cut keeps in proportion: groups, labels where there are none, or combinations."""
    if split.overlapping:
        found = np.unique(split.membership, axis=0, return_inverse=True)[1]
        return found.reshape(-1).astype(np.int64)
    return split.group if split.groups else split.label
