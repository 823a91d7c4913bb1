"""Further training rows of a role: what is added, who labels it, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import softmax

from harness_plugin.data.dataset import TaskData
from harness_plugin.data.split import UNDEFINED, Ints, Split
from harness_plugin.errors import HarnessError
from harness_plugin.pipeline.prepare.plan import ResolvedRole
from harness_plugin.pipeline.roles.context import RunContext
from harness_plugin.pipeline.roles.split_stages import label_order, logits_stage
from harness_plugin.records import TrainedModel


class NoRowsError(HarnessError):
    """An augmentation of `role` adds no row, which shows where its rows are made."""

    def __init__(self, message: str, role: str) -> None:
        super().__init__(message)
        self.role = role


def augment(
    ctx: RunContext, role: ResolvedRole, teacher: TrainedModel | None
) -> tuple[TaskData, dict[str, int]]:
    """The data with the rows that a role's augmentations add, and how many rows each adds.

    Rows without labels of their own are labelled by `teacher`. Raises NoRowsError where one adds
    none, and HarnessError for ids that are given twice.
    """
    train, seed = ctx.data.train, ctx.config.data_seed
    parts, added = [train.rows], {}
    for each in role.augmentations:
        count = 0
        for split in each.cls.rows(ctx.task, train, each.options, seed):
            if teacher is not None and not each.cls.labelled(each.options):
                confidence = float(each.options.get("confidence", 0))
                split = labelled(ctx, teacher, split, confidence)
            parts.append(split.rows)
            count += len(split)
        if not count:
            reason = f"augmentation {each.name} adds no row"
            raise NoRowsError(f"task {ctx.task.task}: {role.name}: {reason}.", role.name)
        added[each.name] = count
    import datasets

    whole = replace(train, content=datasets.concatenate_datasets(parts))
    if len(np.unique(whole.ids)) < len(whole):
        values, counts = np.unique(whole.ids, return_counts=True)
        raise HarnessError(
            f"task {ctx.task.task}: augmentations give the id {values[counts.argmax()]!r} to "
            "several rows."
        )
    return replace(ctx.data, splits={**ctx.data.splits, train.name: whole}), added


def labelled(ctx: RunContext, teacher: TrainedModel, split: Split, confidence: float) -> Split:
    """`split` with the teacher's predictions as labels, where it is `confidence` sure."""
    stage = logits_stage(ctx, teacher, split)
    order = label_order(teacher, split.labels)
    p = softmax(np.load(stage.path / "logits.npy")[:, order].astype(np.float64), axis=1)
    label, kept = p.argmax(axis=1), np.flatnonzero(p.max(axis=1) >= confidence)
    return changed(split, kept, {"label": label[kept]})


def changed(split: Split, rows: Ints, columns: Mapping[str, Any]) -> Split:
    """The rows at `rows` (R,), in that order, with other values in some columns."""
    import datasets

    table = split.rows.with_format("arrow")[rows.tolist()]
    schema = split.rows.features.arrow_schema
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, pa.array(values, schema.field(name).type))
    info = datasets.DatasetInfo(features=split.rows.features)
    changed_rows = datasets.Dataset(datasets.table.InMemoryTable(table), info=info)
    return replace(split, content=changed_rows)


def additional(
    train: Split,
    name: str,
    *,
    inputs: Mapping[str, Sequence[Any]],
    ids: Sequence[str],
    label: Ints,
    attribute: Sequence[str] | None = None,
    cluster: Sequence[str] | None = None,
) -> Split:
    """A split `name` of further rows like those of `train`, with new inputs.

    Groups and alignment are those that the training rows give a label and an attribute; rows
    without a known attribute belong to no group. Clusters count where `train` has such a column;
    rows without one stand alone.
    """
    import datasets

    attribute = [""] * len(ids) if attribute is None else list(attribute)
    cells = cells_of(train)
    keys = zip(label.tolist(), attribute, strict=True)
    members = [cells.get(cell, (-1, UNDEFINED)) for cell in keys]
    columns: dict[str, Any] = {
        **inputs,
        "id": list(ids),
        "label": label,
        "attribute": attribute,
        "group": [group for group, _ in members],
        "aligned": [aligned for _, aligned in members],
        **{column: [""] * len(ids) for column in train.breakdowns},
    }
    if train.overlapping:
        columns["members"] = [[] for _ in ids]
    if train.clusters is not None:
        columns["cluster"] = [""] * len(ids) if cluster is None else list(cluster)
    return replace(
        train,
        name=name,
        content=datasets.Dataset.from_dict(
            {column: columns[column] for column in train.rows.column_names},
            features=train.rows.features,
        ),
    )


def cells_of(train: Split) -> dict[tuple[int, str], tuple[int, int]]:
    """(label, attribute) -> (group, alignment) where all its rows have the same."""
    keys = zip(train.label.tolist(), train.column("attribute").tolist(), strict=True)
    members: dict[tuple[int, str], set[tuple[int, int]]] = {}
    for key, *value in zip(keys, train.group.tolist(), train.aligned.tolist(), strict=True):
        members.setdefault(key, set()).add((value[0], value[1]))
    return {
        key: next(iter(values)) for key, values in members.items() if len(values) == 1 and key[1]
    }
