"""Task + source → checked splits of rows (id, inputs, label, attribute, group, aligned, …)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness_plugin.data.split import (
    ALIGNED,
    CONFLICTING,
    MISSING_LABELS,
    UNDEFINED,
    Ints,
    Purpose,
    Split,
    make_split,
    stratified,
    stratified_rows,
)
from harness_plugin.data.task import Task
from harness_plugin.errors import HarnessError, unknown

__all__ = [
    "ALIGNED",
    "CONFLICTING",
    "MISSING_LABELS",
    "UNDEFINED",
    "DataRequest",
    "Ints",
    "Purpose",
    "Split",
    "TaskData",
    "check",
    "held_out",
    "load_data",
    "make_split",
    "resolve_options",
    "stratified",
    "stratified_rows",
]


@dataclass(frozen=True)
class DataRequest:
    """What a task's loader is asked for.

    `options` holds every option of the task (defaults filled in). `path` is set for the source
    `path` only. `seed` is the data seed: it is the same for all training seeds of a run.
    """

    task: Task
    source: str
    path: Path | None
    options: Mapping[str, Any]
    seed: int = 0


@dataclass(frozen=True, eq=False)
class TaskData:
    """All splits of one task from one source, and what a reader should know about them."""

    task: str
    source: str
    splits: Mapping[str, Split]
    notes: tuple[str, ...] = field(default=())

    @property
    def train(self) -> Split:
        """The one training split."""
        return next(split for split in self.splits.values() if split.purpose == "train")

    @property
    def validation(self) -> Split | None:
        """The validation split, if there is one."""
        return next((s for s in self.splits.values() if s.purpose == "validation"), None)

    @property
    def evaluation(self) -> tuple[Split, ...]:
        """In-domain sets first, then out-of-distribution sets."""
        order = {"in_domain": 0, "ood": 1}
        chosen = [split for split in self.splits.values() if split.purpose in order]
        return tuple(sorted(chosen, key=lambda split: order[split.purpose]))

    @cached_property
    def fingerprint(self) -> str:
        """Hash over the splits."""
        parts = [f"{name}:{self.splits[name].fingerprint}" for name in sorted(self.splits)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def resolve_options(task: Task, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `task` with `given` values over the defaults; refuses unknown ones."""
    options = {name: option.default for name, option in task.options.items()}
    for name, value in given.items():
        if name not in options:
            raise unknown(f"option of task {task.task}", name, options)
        choices = task.options[name].choices
        if choices is not None and value not in choices:
            raise unknown(f"value of {task.task}.{name}", str(value), map(str, choices))
        options[name] = value
    return options


def load_data(
    task: Task,
    source: str,
    *,
    path: Path | None = None,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> TaskData:
    """Load and check the splits of `task` from the source that was asked for, and no other.

    `limit` keeps that many rows of every split, drawn with `seed`, stratified by group.

    Raises HarnessError for a source the task lacks, and for data that cannot be scored.
    """
    if source not in task.sources:
        raise unknown(f"data source of task {task.task}", source, task.sources)
    request = DataRequest(task, source, path, resolve_options(task, options or {}), seed)
    data: TaskData = task.load_attribute(task.sources[source])(request)
    check(task, data)
    if limit is None:
        return data
    splits = {name: stratified(split, limit, seed) for name, split in data.splits.items()}
    limited = replace(data, splits=splits, notes=(*data.notes, f"limited to {limit} rows a split"))
    check(task, limited)
    return limited


def held_out(data: TaskData, fraction: float, seed: int) -> TaskData:
    """`data` with a share of the training rows as validation split, stratified by group."""
    size = max(1, round(fraction * len(data.train)))
    chosen = stratified_rows(data.train, size, seed)
    rest = np.setdiff1d(np.arange(len(data.train)), chosen)
    validation = replace(data.train.select(chosen), name="validation", purpose="validation")
    splits = dict(data.splits) | {
        data.train.name: data.train.select(rest),
        "validation": validation,
    }
    note = f"{len(chosen):,} of {len(data.train):,} training rows are the validation split"
    return replace(data, splits=splits, notes=(*data.notes, note))


def check(task: Task, data: TaskData) -> None:
    """Refuse data that cannot answer the question: no train or test rows, an empty test group."""
    where = f"task {task.task}, {data.source} data"
    purposes = Counter(split.purpose for split in data.splits.values())
    if purposes["train"] != 1:
        raise HarnessError(f"{where}: expected one training split, found {purposes['train']}.")
    if not data.evaluation:
        raise HarnessError(f"{where}: no split to evaluate on.")
    for split in data.splits.values():
        missing = sorted(set(task.inputs) - set(split.rows.column_names))
        if missing:
            raise HarnessError(f"{where}: split {split.name!r} lacks column {', '.join(missing)}.")
        if len(split) == 0:
            raise HarnessError(f"{where}: split {split.name!r} is empty.")
        if split.collapse is not None:
            unmapped = sorted(set(split.collapse.values()) - set(split.labels))
            if unmapped:
                raise HarnessError(
                    f"{where}: split {split.name!r} collapses onto unknown labels {unmapped}."
                )
    for split in data.evaluation:
        empty = [split.groups[g] for g in np.flatnonzero(split.group_counts == 0)]
        if empty:
            raise HarnessError(
                f"{where}: split {split.name!r} has no example of group "
                f"{', '.join(empty)}; its worst group would be undefined. Use more data, or a "
                f"larger --limit."
            )
