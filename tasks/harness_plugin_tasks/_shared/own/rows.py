"""A user's own table → the splits of a task: groups are label x attribute, as far as rows exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import DataRequest, Ints, Split, TaskData, make_split
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.crossed import alignment
from harness_plugin_tasks._shared.own.layout import Layout, layout_of
from harness_plugin_tasks._shared.own.tables import Columns, read_columns

MOST_VALUES = 100
"""Attribute values from which on a column is no attribute: each is a group with every label."""


@dataclass(frozen=True)
class Part:
    """The rows of one split as they stand in their file; `row` (n,) counts from 0."""

    name: str
    file: Path
    columns: Columns
    row: Ints

    def where(self, position: int) -> str:
        """The file and 1-based row of the row at `position`."""
        return f"{self.file}: row {self.row[position] + 1}"


def load(request: DataRequest) -> TaskData:
    """The splits of the table that the options of `request` describe.

    Raises HarnessError naming file, row, what was expected and what was found.
    """
    layout = layout_of(request)
    parts = [part for file in layout.files for part in read_parts(layout, file, request.seed)]
    for part in parts:
        check_filled(layout, part)
    order = {"train": 0, "validation": 1, "in_domain": 2, "ood": 3}
    parts.sort(key=lambda part: order[layout.purpose(part.name)])
    if layout.purpose(parts[0].name) != "train":
        raise HarnessError(
            f"task {layout.task}: no training rows; found split {', '.join(p.name for p in parts)}."
        )
    labels = labels_of(layout, parts)
    values = values_of(layout, parts)
    points = pointing(layout, parts[0], labels, values)
    splits = {p.name: split_of(request, layout, p, parts, labels, values, points) for p in parts}
    return TaskData(layout.task, request.source, splits, tuple(notes(layout, splits)))


def read_parts(layout: Layout, split: str, seed: int) -> list[Part]:
    """The splits that stand in one file."""
    file = layout.files[split]
    columns = read_columns(file, layout.columns, layout.form)
    n = len(columns[layout.label])
    if split:
        return [Part(split, file, columns, np.arange(n))]
    if isinstance(layout.split, str):
        named = np.asarray(columns[layout.split], dtype=np.str_)
        if len(odd := np.flatnonzero(named == "")):
            raise HarnessError(f"{file}: row {odd[0] + 1}: {layout.split} is empty.")
        chosen = {name: np.flatnonzero(named == name) for name in dict.fromkeys(named.tolist())}
    else:
        cells = [columns[layout.label], *([columns[layout.attribute]] if layout.attribute else [])]
        chosen = drawn(layout.split, cells, seed)
    return [
        Part(name, file, {c: [v[i] for i in rows] for c, v in columns.items()}, rows)
        for name, rows in chosen.items()
    ]


def drawn(
    shares: Mapping[str, float], cells: Sequence[Sequence[str]], seed: int
) -> dict[str, Ints]:
    """Split name -> sorted row numbers, in the proportions of `shares` within every cell."""
    code = np.unique(np.array(cells, dtype=np.str_), axis=1, return_inverse=True)[1].reshape(-1)
    rng = np.random.default_rng(seed)
    edges = np.cumsum(list(shares.values()))[:-1]
    found: dict[str, list[Ints]] = {name: [] for name in shares}
    for cell in range(int(code.max()) + 1):
        rows = rng.permutation(np.flatnonzero(code == cell))
        cuts = np.round(edges * len(rows)).astype(np.int64)
        for name, piece in zip(shares, np.split(rows, cuts), strict=True):
            found[name].append(piece)
    return {name: np.sort(np.concatenate(pieces)) for name, pieces in found.items()}


def check_filled(layout: Layout, part: Part) -> None:
    """Refuse an empty value of an input, the label or the attribute."""
    for column in (*layout.inputs, layout.label, layout.attribute):
        for position, value in enumerate(part.columns.get(column, ())):
            if not value.strip():
                raise HarnessError(f"{part.where(position)}: {column} is empty.")


def labels_of(layout: Layout, parts: Sequence[Part]) -> tuple[str, ...]:
    """The labels in the order of `labels`, or sorted (numbers by value).

    Raises HarnessError for fewer than two, and for one that no training row has.
    """
    found = layout.labels or ordered({v for part in parts for v in part.columns[layout.label]})
    if len(found) < 2:
        raise HarnessError(
            f"task {layout.task}: column {layout.label} has one value, {found[0]!r}; there is "
            "nothing to predict."
        )
    trained = set(parts[0].columns[layout.label])
    for part in parts[1:]:
        for position, value in enumerate(part.columns[layout.label]):
            if value in found and value not in trained:
                raise HarnessError(
                    f"{part.where(position)}: label {value!r} stands in no row of split "
                    f"{parts[0].name}."
                )
    return found


def values_of(layout: Layout, parts: Sequence[Part]) -> tuple[str, ...]:
    """The attribute's values, sorted; () for data without attribute."""
    if not layout.attribute:
        return ()
    found = ordered({v for part in parts for v in part.columns[layout.attribute]})
    if len(found) > MOST_VALUES:
        raise HarnessError(
            f"task {layout.task}: attribute {layout.attribute} has {len(found):,} values, more "
            f"than {MOST_VALUES}; every one is a group with every label. Put them into few classes."
        )
    return found


def ordered(values: set[str]) -> tuple[str, ...]:
    """Sorted; numbers by their value where all are whole numbers."""
    try:
        return tuple(sorted(values, key=lambda value: (int(value), value)))
    except ValueError:
        return tuple(sorted(values))


def pointing(layout: Layout, train: Part, labels: Sequence[str], values: Sequence[str]) -> Ints:
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
    counts = np.zeros((len(labels), len(values)), dtype=np.int64)
    for y, a in zip(
        train.columns[layout.label], train.columns.get(layout.attribute, ()), strict=False
    ):
        if y in labels:
            counts[labels.index(y), values.index(a)] += 1
    return alignment(counts)


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
    given = columns[layout.label]
    attributes = columns.get(layout.attribute) if layout.attribute else None
    members = [part] if purpose in ("in_domain", "ood") else parts
    present = {cell for p in members for cell in cells_of(layout, p)}
    grouped = attributes is not None
    image = request.task.modality == "image"
    inputs: dict[str, Sequence[Any]] = {name: columns[name] for name in layout.inputs}
    if image:
        inputs = {layout.inputs[0]: image_files(layout, part)}
    column = {y: c for c, y in enumerate(labels)}
    return make_split(
        part.name,
        purpose=purpose,
        inputs=inputs,
        features={layout.inputs[0]: datasets.Image()} if image else None,
        ids=columns[layout.id] if layout.id else [f"{part.name}-{row + 1}" for row in part.row],
        label_texts=given,
        labels=labels,
        missing_labels=(),
        attributes=attributes,
        group_texts=[f"{y}/{a}" for y, a in cells_of(layout, part)] if grouped else None,
        groups=tuple(f"{y}/{a}" for y in labels for a in values if (y, a) in present),
        aligned=[
            int(points[column[y], values.index(a)]) if y in column else -1
            for y, a in cells_of(layout, part)
        ]
        if grouped
        else None,
        breakdowns={name: columns[name] for name in layout.breakdowns},
        clusters=columns[layout.cluster] if layout.cluster else None,
        where=f"{part.file}, split {part.name}",
    )


def cells_of(layout: Layout, part: Part) -> list[tuple[str, str]]:
    """Label and attribute of every row; [] for data without attribute."""
    if not layout.attribute:
        return []
    return list(zip(part.columns[layout.label], part.columns[layout.attribute], strict=True))


def image_files(layout: Layout, part: Part) -> list[str]:
    """The files of a split's images.

    Raises HarnessError naming row and file for one that is missing or lies outside the root.
    """
    root = layout.root.resolve()
    out = []
    for position, name in enumerate(part.columns[layout.inputs[0]]):
        file = (root / name).resolve()
        if PurePath(name).is_absolute() or not file.is_relative_to(root):
            raise HarnessError(
                f"{part.where(position)}: image {name!r} lies outside {layout.root}; name files "
                "relative to it."
            )
        if not file.is_file():
            raise HarnessError(f"{part.where(position)}: image {name!r} is not in {layout.root}.")
        out.append(str(file))
    return out


def notes(layout: Layout, splits: Mapping[str, Split]) -> list[str]:
    """What a reader should know of these rows: how they were cut, what is not scored."""
    found = []
    if not isinstance(layout.split, str) and layout.split:
        found.append("the splits are drawn by data_seed, in proportion within label x attribute")
    if layout.attribute and not layout.points_to:
        found.append("aligned: P(label | attribute) > P(label) among the training rows")
    train = next(iter(splits.values()))
    for split in splits.values():
        if absent := [name for name in train.groups if name not in split.groups]:
            found.append(f"{split.name} has no row of {', '.join(absent)}: not scored there")
    return found


def attribute_features(split: Split) -> NDArray[np.float64]:
    """(N, A) one-hot of the attribute: all that a bias-only model sees."""
    attribute = np.asarray(split.column("attribute"), dtype=np.str_)
    hot: NDArray[np.float64] = (attribute[:, None] == np.unique(attribute)).astype(np.float64)
    return hot
