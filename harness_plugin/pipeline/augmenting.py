"""A student that learns from further rows: what is added, who labels it, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import pyarrow as pa
from scipy.special import softmax

from harness_plugin.config.settings import RoleSettings
from harness_plugin.data.dataset import UNDEFINED, Ints, Split
from harness_plugin.errors import HarnessError
from harness_plugin.pipeline.distilling import Distillation, label_order
from harness_plugin.records import TrainedModel
from harness_plugin.training.contracts import Augmentation

if TYPE_CHECKING:
    from harness_plugin.pipeline.roles import Workshop


def trained(
    shop: Workshop,
    role: str,
    settings: RoleSettings,
    method_name: str,
    seed: int,
    distillation: Distillation,
) -> TrainedModel:
    """The student of a role on the task's rows and those its augmentations add.

    With `equal_budget` it sees as many examples as without: fewer epochs of more rows.
    """
    train = shop.data.train
    split, added = joined(shop, distillation)
    splits = {**shop.data.splits, train.name: split}
    larger = replace(shop, data=replace(shop.data, splits=splits), vocabulary=train)
    if distillation.settings.equal_budget:
        share = len(train) / len(split)
        shares = {"epochs": settings.epochs * share, "erm_epochs": settings.erm_epochs * share}
        settings = settings.model_copy(update=shares)
    model = larger.trained_on_rows(role, settings, method_name, seed, distillation)
    return replace(model, settings={**model.settings, "augmented_rows": added})


def joined(shop: Workshop, distillation: Distillation) -> tuple[Split, dict[str, int]]:
    """The training rows with what the augmentations add, and how many rows each adds."""
    train, seed = shop.data.train, shop.config.data_seed
    parts, added = [train.rows], {}
    for name, given in distillation.settings.augmentations.items():
        kind: type[Augmentation] = shop.plugins["augmentation"].get(name)
        options = kind.resolved(given, shop.task.modality)
        count = 0
        for more in kind.rows(shop.task, train, options, seed):
            split = more.split
            if not more.labelled:
                split = labelled(shop, distillation, split, float(options.get("confidence", 0)))
            parts.append(split.rows)
            count += len(split)
        if not count:
            raise HarnessError(f"task {shop.task.task}: augmentation {name} adds no row.")
        added[name] = count
    rows = datasets.concatenate_datasets(parts)
    whole = replace(train, rows=rows)
    if len(np.unique(whole.ids)) < len(whole):
        values, counts = np.unique(whole.ids, return_counts=True)
        raise HarnessError(
            f"task {shop.task.task}: augmentations give the id {values[counts.argmax()]!r} to "
            "several rows."
        )
    return whole, added


def labelled(shop: Workshop, distillation: Distillation, split: Split, confidence: float) -> Split:
    """`split` with the first teacher's answers as labels, where it is `confidence` sure."""
    teacher = distillation.teacher
    stage = shop.logits(teacher, split)
    order = label_order(teacher, split.labels)
    p = softmax(np.load(stage.path / "logits.npy")[:, order].astype(np.float64), axis=1)
    label, kept = p.argmax(axis=1), np.flatnonzero(p.max(axis=1) >= confidence)
    return changed(split, kept, {"label": label[kept]})


def changed(split: Split, rows: Ints, columns: Mapping[str, Any]) -> Split:
    """The rows at `rows` (R,), in that order, with other values in some columns."""
    table = split.rows.with_format("arrow")[rows.tolist()]
    schema = split.rows.features.arrow_schema
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, pa.array(values, schema.field(name).type))
    info = datasets.DatasetInfo(features=split.rows.features)
    return replace(split, rows=datasets.Dataset(datasets.table.InMemoryTable(table), info=info))


def additional(
    train: Split,
    name: str,
    *,
    inputs: Mapping[str, Sequence[Any]],
    ids: Sequence[str],
    label: Ints,
    attribute: Sequence[str] | None = None,
) -> Split:
    """A split `name` of further rows like those of `train`, with new inputs.

    Groups and alignment are those that the training rows give a label and an attribute; rows
    without a known attribute belong to no group.
    """
    attribute = [""] * len(ids) if attribute is None else list(attribute)
    cells = cells_of(train)
    keys = zip(label.tolist(), attribute, strict=True)
    found = [cells.get(cell, (-1, UNDEFINED)) for cell in keys]
    columns: dict[str, Any] = {
        **inputs,
        "id": list(ids),
        "label": label,
        "attribute": attribute,
        "group": [group for group, _ in found],
        "aligned": [aligned for _, aligned in found],
        **{column: [""] * len(ids) for column in train.breakdowns},
    }
    if train.overlapping:
        columns["members"] = [[] for _ in ids]
    return replace(
        train,
        name=name,
        rows=datasets.Dataset.from_dict(
            {column: columns[column] for column in train.rows.column_names},
            features=train.rows.features,
        ),
    )


def cells_of(train: Split) -> dict[tuple[int, str], tuple[int, int]]:
    """(label, attribute) -> (group, alignment) where all its rows have the same."""
    keys = zip(train.label.tolist(), train.column("attribute").tolist(), strict=True)
    found: dict[tuple[int, str], set[tuple[int, int]]] = {}
    for key, *value in zip(keys, train.group.tolist(), train.aligned.tolist(), strict=True):
        found.setdefault(key, set()).add((value[0], value[1]))
    return {key: next(iter(values)) for key, values in found.items() if len(values) == 1 and key[1]}
