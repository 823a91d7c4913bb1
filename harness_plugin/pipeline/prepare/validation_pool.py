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
    # of both the larger one, which has rows of more groups
    like = data.train if data.train.groups == before.groups else before
    if pool.cluster:
        like, before = with_clusters(like), with_clusters(before)
    reader = plugins["augmentation"].offer(POOL).subclass(Augmentation)
    options = reader.resolved(pool.model_dump(), task.modality)
    (rows,) = reader.rows(task, like, options, 0)
    if rows.groups and (lost := np.flatnonzero(rows.group < 0)).size:
        column = f"column {pool.attribute!r}" if pool.attribute else "no column is named"
        raise HarnessError(
            f"task {task.task}: validation_pool: {lost.size:,} of {len(rows):,} rows belong to no "
            f"group, the first {str(rows.ids[lost[0]])!r}: no {like.name} row has its label and "
            f"attribute ({column})."
        )
    import datasets

    columns = before.column_names
    content = datasets.concatenate_datasets([before.rows, rows.rows.select_columns(columns)])
    whole = replace(before, content=content)
    note = f"validation: {len(rows):,} rows of {pool.file} beside {len(before):,} of the task"
    return replace(data, splits={**data.splits, whole.name: whole}, notes=(*data.notes, note))


def with_clusters(split: Split) -> Split:
    """The split with a column of clusters; without one its rows stand alone."""
    if split.clusters is not None:
        return split
    rows = split.rows.add_column("cluster", [""] * len(split))
    return replace(split, content=rows)
