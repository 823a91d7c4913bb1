"""A user's own table → the splits of a task: groups are label x attribute, as far as rows exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from harness_plugin.data.columns import Column, clusters_of, coded
from harness_plugin.data.dataset import DataRequest, Ints, Split, TaskData, make_split
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.crossed import alignment
from harness_plugin_tasks._shared.own.examine import (
    check_classes,
    complete,
    oddities,
    repeated,
    spelled_alike,
)
from harness_plugin_tasks._shared.own.layout import Layout, layout_of
from harness_plugin_tasks._shared.own.tables import Table, header_of, read_columns

MOST_VALUES = 100
"""Attribute values from which on a column is no attribute: each is a group with every label."""


@dataclass(frozen=True)
class Part:
    """The rows of one split as they stand in their table; `row` (n,) counts from 0."""

    name: str
    table: Table
    row: Ints

    @cached_property
    def columns(self) -> dict[str, Column]:
        """(n,) the values of each column."""
        rows = pa.array(self.row)
        return {name: values.take(rows) for name, values in self.table.columns.items()}

    def where(self, position: int) -> str:
        """The file, the 1-based row of the row at `position`, and its line."""
        return self.table.where(int(self.row[position]))


def load(request: DataRequest) -> TaskData:
    """The splits of the table that the options of `request` describe.

    Raises HarnessError naming file, row, what was expected and what was found.
    """
    layout = layout_of(request)
    problems: list[str] = []
    parts = [
        part for file in layout.files for part in read_parts(layout, file, request.seed, problems)
    ]
    order = {"train": 0, "validation": 1, "in_domain": 2, "ood": 3}
    parts.sort(key=lambda part: order[layout.purpose(part.name)])
    train = trained_on(layout, parts, request.trains)
    whole = {
        name: joined_column([part.columns[name] for part in parts])
        for name in (layout.label, *filter(None, [layout.attribute]))
    }
    labels = labels_of(layout, parts, train, whole[layout.label])
    values = values_of(layout, whole)
    points = pointing(layout, train, labels, values)
    splits = {p.name: split_of(request, layout, p, parts, labels, values, points) for p in parts}
    odd = dict.fromkeys(part.table.file for part in parts)
    return TaskData(
        layout.task,
        request.source,
        splits,
        (*problems, *notes(layout, splits, train)),
        warnings=(
            *(warning for file in odd for warning in repeated(header_of(file, layout.form))),
            *oddities(whole, layout.labels, layout.label),
            *spelled_alike("splits", {name: len(split) for name, split in splits.items()}),
        ),
    )


def trained_on(layout: Layout, parts: Sequence[Part], needed: bool) -> Part | None:
    """The one part to train on; None where there is none and none is needed."""
    training = [part for part in parts if layout.purpose(part.name) == "train"]
    if len(training) > 1:
        raise HarnessError(
            f"task {layout.task}: splits {' and '.join(repr(p.name) for p in training)} are both "
            "to train on: write one name in all rows, or say by `purposes` what each is for."
        )
    if not training and needed:
        raise HarnessError(
            f"task {layout.task}: no training rows; found split {', '.join(p.name for p in parts)}."
        )
    return training[0] if training else None


def joined_column(columns: Sequence[Column]) -> Column:
    """The values of all parts after each other."""
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())


def read_parts(layout: Layout, split: str, seed: int, problems: list[str]) -> list[Part]:
    """The splits that stand in one file; what a reader should know of it goes to `problems`."""
    table = read_columns(layout.files[split], layout.columns, layout.form)
    named = layout.split if isinstance(layout.split, str) else ""
    needed = (*layout.inputs, layout.label, layout.attribute, named, layout.id)
    rows, note = complete(table, [*filter(None, needed)], layout.drop_missing)
    if note:
        problems.append(f"{table.file.name}: {note}")
    if split:
        return [Part(split, table, rows)]
    kept = pa.array(rows)
    if named:
        codes, names = coded(table.columns[named].take(kept))
        return [Part(name, table, rows[codes == code]) for code, name in enumerate(names)]
    assert isinstance(layout.split, Mapping)
    cells = np.zeros(len(rows), dtype=np.int64)
    for name in filter(None, (layout.label, layout.attribute)):
        codes, values = clusters_of(table.columns[name].take(kept))
        cells = cells * len(values) + codes
    chosen = drawn(layout.split, cells, seed)
    if idle := [name for name, some in chosen.items() if not len(some)]:
        if not layout.labels:  # a quantity has a cell for each row, and a reason of its own
            check_classes(layout.task, layout.label, table.columns[layout.label].take(kept))
        raise HarnessError(
            f"task {layout.task}: the shares of `split` leave {', '.join(idle)} without a row of "
            f"the {len(rows):,} there are, drawn within label x attribute."
        )
    return [Part(name, table, rows[some]) for name, some in chosen.items()]


def drawn(shares: Mapping[str, float], cells: Ints, seed: int) -> dict[str, Ints]:
    """Split name -> sorted row numbers, in the proportions of `shares` within every cell."""
    rng = np.random.default_rng(seed)
    edges = np.cumsum(list(shares.values()))[:-1]
    parts: dict[str, list[Ints]] = {name: [] for name in shares}
    for cell in np.unique(cells):
        rows = rng.permutation(np.flatnonzero(cells == cell))
        cuts = np.round(edges * len(rows)).astype(np.int64)
        for name, piece in zip(shares, np.split(rows, cuts), strict=True):
            parts[name].append(piece)
    return {name: np.sort(np.concatenate(pieces)) for name, pieces in parts.items()}


def labels_of(
    layout: Layout, parts: Sequence[Part], train: Part | None, whole: Column
) -> tuple[str, ...]:
    """The labels in the order of `labels`, or sorted (numbers by value).

    Raises HarnessError for labels that are no classes, and for one that no training row has.
    """
    if not layout.labels:
        check_classes(layout.task, layout.label, whole)
    labels = layout.labels or ordered({*whole.unique().to_pylist()})
    if train is None:
        return labels
    trained = {*train.columns[layout.label].unique().to_pylist()}
    for part in parts:
        codes, texts = coded(part.columns[layout.label])
        if new := [c for c, text in enumerate(texts) if text in labels and text not in trained]:
            position = int(np.isin(codes, new).argmax())
            raise HarnessError(
                f"{part.where(position)}: label {texts[codes[position]]!r} stands in no row of "
                f"split {train.name}."
            )
    known = {*labels} >= {*whole.unique().to_pylist()}  # a row of another label is reported as such
    if known and (absent := [label for label in labels if label not in trained]):
        raise HarnessError(
            f"task {layout.task}: labels: {absent[0]!r} stands in no row; no model can learn it."
        )
    return labels


def values_of(layout: Layout, whole: Mapping[str, Column]) -> tuple[str, ...]:
    """The attribute's values, sorted; () for data without attribute."""
    if not layout.attribute:
        return ()
    values = ordered({*whole[layout.attribute].unique().to_pylist()})
    if len(values) > MOST_VALUES:
        raise HarnessError(
            f"task {layout.task}: attribute {layout.attribute} has {len(values):,} values, more "
            f"than {MOST_VALUES}; every one is a group with every label. Put them into few classes."
        )
    return values


def ordered(values: set[str]) -> tuple[str, ...]:
    """Sorted; numbers by their value where all are whole numbers."""
    try:
        return tuple(sorted(values, key=lambda value: (int(value), value)))
    except ValueError:
        return tuple(sorted(values))


def pointing(
    layout: Layout, train: Part | None, labels: Sequence[str], values: Sequence[str]
) -> Ints:
    """(C, A) whether the bias points from an attribute value to a label; see `alignment`."""
    if layout.points_to:
        for value, label in layout.points_to.items():
            if value not in values or label not in labels:
                raise HarnessError(
                    f"task {layout.task}: aligned: {value}: {label} names no value of "
                    f"{layout.attribute or 'an attribute'} ({', '.join(values) or 'none'}) and "
                    f"label ({', '.join(labels)})."
                )
        return np.array(
            [
                [int(layout.points_to[a] == y) if a in layout.points_to else -1 for a in values]
                for y in labels
            ]
        )
    if train is None:
        return np.full((len(labels), len(values)), -1)
    return alignment(counts_of(layout, train, labels, values))


def counts_of(layout: Layout, part: Part, labels: Sequence[str], values: Sequence[str]) -> Ints:
    """(C, A) rows of every label with every value of the attribute."""
    counts = np.zeros((len(labels), len(values)), dtype=np.int64)
    if layout.attribute:
        label, value = cells_of(layout, part, labels, values)
        np.add.at(counts, (label[label >= 0], value[label >= 0]), 1)
    return counts


def split_of(
    request: DataRequest,
    layout: Layout,
    part: Part,
    parts: Sequence[Part],
    labels: tuple[str, ...],
    values: tuple[str, ...],
    points: Ints,
) -> Split:
    """One checked split. A split that is scored has the groups of its own rows."""
    columns, purpose = part.columns, layout.purpose(part.name)
    image = request.task.modality == "image"
    inputs: dict[str, Any] = {name: columns[name] for name in layout.inputs}
    features = None
    if image:
        import datasets

        features = {layout.inputs[0]: datasets.Image()}
        inputs = {layout.inputs[0]: image_files(layout, part)}
    grouped: dict[str, Any] = {}
    if layout.attribute:
        members = [part] if purpose in ("in_domain", "ood") else parts
        counts = np.sum([counts_of(layout, each, labels, values) for each in members], axis=0)
        label, value = cells_of(layout, part, labels, values)
        texts = columns[layout.label], columns[layout.attribute]
        grouped = {
            "attributes": texts[1],
            "group_texts": pc.binary_join_element_wise(*texts, "/"),
            "groups": tuple(
                f"{y}/{a}"
                for i, y in enumerate(labels)
                for j, a in enumerate(values)
                if counts[i, j]
            ),
            "aligned": np.where(label >= 0, points[label, value], -1),
        }
    return make_split(
        part.name,
        purpose=purpose,
        inputs=inputs,
        features=features,
        ids=columns[layout.id] if layout.id else row_ids(part),
        label_texts=columns[layout.label],
        labels=labels,
        missing_labels=(),
        breakdowns={name: pc.fill_null(columns[name], "") for name in layout.breakdowns},
        clusters=pc.fill_null(columns[layout.cluster], "") if layout.cluster else None,
        where=f"{part.table.file}, split {part.name}",
        **grouped,
    )


def row_ids(part: Part) -> Column:
    """`<split>-<row>`, rows counted from 1 in the file."""
    numbers = pa.chunked_array([pa.array(part.row + 1)]).cast(pa.string())
    return pc.binary_join_element_wise(part.name, numbers, "-")


def cells_of(
    layout: Layout, part: Part, labels: Sequence[str], values: Sequence[str]
) -> tuple[Ints, Ints]:
    """(n,) index of each row's label, -1 = no label of the task, and of its attribute value."""
    cells = []
    for name, known in ((layout.label, labels), (layout.attribute, values)):
        codes, texts = coded(part.columns[name])
        index = {text: i for i, text in enumerate(known)}
        cells.append(np.array([index.get(text, -1) for text in texts], dtype=np.int64)[codes])
    return cells[0], cells[1]


def image_files(layout: Layout, part: Part) -> list[str]:
    """The files of a split's images.

    Raises HarnessError naming row and file for one that is missing or lies outside the root.
    """
    root = layout.root.resolve()
    out = []
    for position, name in enumerate(part.columns[layout.inputs[0]].to_pylist()):
        file = (root / name).resolve()  # an absolute name stays what it is
        if not file.is_relative_to(root):
            raise HarnessError(
                f"{part.where(position)}: image {name!r} lies outside {layout.root}; `images` "
                "names the folder below which all files lie."
            )
        if not file.is_file():
            place = layout.root.resolve()
            raise HarnessError(f"{part.where(position)}: image {name!r} is not in {place}.")
        out.append(str(file))
    return out


def notes(layout: Layout, splits: Mapping[str, Split], train: Part | None) -> list[str]:
    """Notes for a reader of these rows: how they were cut, what is not scored."""
    lines = []
    if not isinstance(layout.split, str) and layout.split:
        lines.append("the splits are drawn by data_seed, in proportion within label x attribute")
    if layout.attribute and not layout.points_to:
        lines.append(
            "aligned: P(label | attribute) > P(label) among the training rows"
            if train
            else "aligned: undefined, without training rows and without `aligned`"
        )
    known = splits[train.name].groups if train else ()
    for split in splits.values():
        if absent := [name for name in known if name not in split.groups]:
            lines.append(f"{split.name} has no row of {', '.join(absent)}: not scored there")
    return lines


def attribute_features(split: Split) -> NDArray[np.float64]:
    """(N, A) one-hot of the attribute: all that a bias-only model sees."""
    attribute = np.asarray(split.column("attribute"), dtype=np.str_)
    hot: NDArray[np.float64] = (attribute[:, None] == np.unique(attribute)).astype(np.float64)
    return hot
