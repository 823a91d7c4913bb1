"""Further validation rows from a file: counterexamples to choose and to certify by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness_plugin.config.settings import ValidationPool
from harness_plugin.data.dataset import TaskData
from harness_plugin.data.split import Split
from harness_plugin.data.task import Task
from harness_plugin.errors import HarnessError
from harness_plugin.plugins.registry import Plugins
from harness_plugin.training.contracts import Augmentation

POOL = "pool"
"""The augmentation that reads such a file: one of validation rows has the same layout."""


def with_pool(task: Task, data: TaskData, pool: ValidationPool, plugins: Plugins) -> TaskData:
    """The data whose validation split, which may be empty before, has the rows of a file as well.

    Raises HarnessError as `pool` does, and for rows without a group in a task that has groups.
    """
    nothing = replace(data.train.select([]), name="validation", purpose="validation")
    before = data.validation or nothing
    if before.overlapping:
        raise HarnessError(
            f"task {task.task}: validation_pool: groups of this task overlap; an attribute names "
            "one only."
        )
    if pool.cluster:
        before = with_clusters(before)
    like = with_rows_of(before, data.train)
    reader = plugins["augmentation"].offer(POOL).subclass(Augmentation)
    options = reader.resolved(pool.model_dump(), task.modality)
    (rows,) = reader.rows(task, like, options, 0)
    if rows.groups and (lost := np.flatnonzero(rows.group < 0)).size:
        column = f"column {pool.attribute!r}" if pool.attribute else "no column is named"
        raise HarnessError(
            f"task {task.task}: validation_pool: {lost.size:,} of {len(rows):,} rows belong to no "
            f"group, the first {str(rows.ids[lost[0]])!r}: no row of the task with its label and "
            f"attribute does ({column})."
        )
    import datasets

    content = datasets.concatenate_datasets([before.rows, rows.rows])
    whole = replace(before, content=content)
    note = f"validation: {len(rows):,} rows of {pool.file} beside {len(before):,} of the task"
    return replace(data, splits={**data.splits, whole.name: whole}, notes=(*data.notes, note))


def with_rows_of(before: Split, train: Split) -> Split:
    """The validation rows and, where they are alike, those of training, for groups of either."""
    if (before.labels, before.groups) != (train.labels, train.groups):
        return before
    train = with_clusters(train) if "cluster" in before.column_names else train
    if not {*before.column_names} <= {*train.column_names}:
        return before
    import datasets

    rows = train.rows.select_columns(before.column_names)
    if rows.features != before.rows.features:
        return before
    return replace(before, content=datasets.concatenate_datasets([before.rows, rows]))


def with_clusters(split: Split) -> Split:
    """The split with a column of clusters; without one its rows stand alone."""
    if split.clusters is not None:
        return split
    import datasets

    text = datasets.Value("string")  # which no empty list would say
    rows = split.rows.add_column("cluster", np.full(len(split), ""), feature=text)
    return replace(split, content=rows)
