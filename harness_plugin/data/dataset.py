"""Task + source → checked splits of rows (id, inputs, label, attribute, group, aligned, …)."""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness_plugin.data.build_split import MISSING_LABELS, make_split
from harness_plugin.data.split import (
    ALIGNED,
    CONFLICTING,
    UNDEFINED,
    Ints,
    Purpose,
    Split,
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
    """The request that a task's loader answers.

    `options` holds every option of the task (defaults filled in). `path` is set for the source
    `path` only. `seed` is the data seed: it is the same for all training seeds of a run.
    `sets` are the evaluation sets to load where nothing is trained, () = all that are
    there; None where models are trained. A loader may then leave out training rows and other sets.
    """

    task: Task
    source: str
    path: Path | None
    options: Mapping[str, Any]
    seed: int = 0
    sets: tuple[str, ...] | None = None

    @property
    def trains(self) -> bool:
        """Whether training rows are needed."""
        return self.sets is None

    def parts(self, names: Iterable[str]) -> list[str]:
        """The parts of a release that are needed: not "train" where nothing is trained."""
        return [name for name in names if self.trains or name != "train"]

    def asks_for(self, *names: str) -> bool:
        """Whether one of these evaluation sets is to be loaded."""
        return not self.sets or bool({*names} & {*self.sets})


@dataclass(frozen=True, eq=False)
class TaskData:
    """All splits of one task from one source, and what a reader should know about them."""

    task: str
    source: str
    splits: Mapping[str, Split]
    notes: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())
    """Suspicious values of the data, one warning a kind, with counts."""

    @property
    def train(self) -> Split:
        """The one training split. Raises HarnessError where none was loaded."""
        for split in self.splits.values():
            if split.purpose == "train":
                return split
        raise HarnessError(f"task {self.task}: no training rows were loaded.")

    @property
    def train_groups(self) -> dict[str, int]:
        """Rows of each group of the training split; {} where it was not loaded."""
        return {
            name: int(count)
            for split in self.splits.values()
            if split.purpose == "train"
            for name, count in zip(split.groups, split.group_counts, strict=True)
        }

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


def resolve_options(task: Task, values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `task` with `values` over the defaults; refuses unknown ones."""
    options = {name: option.default for name, option in task.options.items()}
    for name, value in values.items():
        if name not in options:
            raise unknown(f"option of task {task.task}", name, options)
        if isinstance(options[name], list) and isinstance(value, str):
            value = [value]  # one is a list of one: --set hans.train_files=mine.jsonl
        check_kind(f"{task.task}.{name}", value, options[name])
        choices = task.options[name].choices
        if choices is not None and value not in choices:
            raise unknown(f"value of {task.task}.{name}", str(value), map(str, choices))
        options[name] = value
    return options


KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def check_kind(where: str, value: Any, default: Any) -> None:
    """Refuse an option's value of another kind than its default; null fits a text, and any null."""
    kind = type(default)
    if default is None or (value is None and kind is str):
        return
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or isinstance(value, bool) != (kind is bool):
        expected = KINDS.get(kind, f"a {kind.__name__}")
        raise HarnessError(f"{where}: expected {expected}, found {value!r:.80}.")


def load_data(
    task: Task,
    source: str,
    *,
    path: Path | None = None,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    seed: int = 0,
    sets: Sequence[str] | None = None,
    training: bool = True,
) -> TaskData:
    """Load and check the splits of `task` from the source that was asked for, and no other.

    `limit` keeps that many rows of every split, drawn with `seed`, stratified by group. `sets` are
    the evaluation sets to keep, by default all. Without `training` no training rows are needed;
    they are kept where a loader has them at no cost.

    Raises HarnessError for a source the task lacks, and for data that cannot be scored.
    """
    if source not in task.sources:
        raise unknown(f"data source of task {task.task}", source, task.sources)
    request = DataRequest(
        task,
        source,
        path,
        resolve_options(task, options or {}),
        seed,
        None if training else tuple(sets or ()),
    )
    task.check_functions(source)
    data = loaded(task, request)
    if sets:
        data = with_sets(data, sets)
    if not training and not any(split.purpose == "train" for split in data.splits.values()):
        data = replace(data, notes=(*data.notes, UNTRAINED))
    check(task, data, training=training)
    if limit is None:
        return data
    splits = {name: stratified(split, limit, seed) for name, split in data.splits.items()}
    limited = replace(data, splits=splits, notes=(*data.notes, f"limited to {limit} rows a split"))
    check(task, limited, training=training)
    return limited


def loaded(task: Task, request: DataRequest) -> TaskData:
    """The loaded data of a task; a loader's exception becomes a HarnessError naming the loader."""
    target = task.sources[request.source]  # type: ignore[index]
    loader = task.load_attribute(target)
    try:
        data = loader(request)
    except (HarnessError, OSError):  # OSError: the disk's, or a file's that it names
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = " ".join(str(error).split())
        raise HarnessError(
            f"task {task.task}: its loader {target} failed at {place.filename}:{place.lineno}: "
            f"{type(error).__name__}: {message[:300]}"
        ) from error
    if not isinstance(data, TaskData):
        raise HarnessError(
            f"task {task.task}: its loader {target} gave a {type(data).__name__}, not TaskData."
        )
    return data


UNTRAINED = "training rows were not read: what is weighted by them is undefined"


def with_sets(data: TaskData, sets: Sequence[str]) -> TaskData:
    """The data without the evaluation sets that are not among `sets`."""
    known = [split.name for split in data.evaluation]
    for name in sets:
        if name not in known:
            raise unknown(f"evaluation set of task {data.task}", name, known)
    left = {name: s for name, s in data.splits.items() if name in sets or name not in known}
    return replace(data, splits=left)


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


def check(task: Task, data: TaskData, *, training: bool = True) -> None:
    """Refuse data that cannot answer the question: no train or test rows, an empty test group.

    Without `training` no training rows are needed.
    """
    where = f"task {task.task}, {data.source} data"
    purposes = Counter(split.purpose for split in data.splits.values())
    if purposes["train"] != 1 and (training or purposes["train"]):
        raise HarnessError(f"{where}: expected one training split, found {purposes['train']}.")
    if not data.evaluation:
        raise HarnessError(f"{where}: no split to evaluate on.")
    for split in data.splits.values():
        missing = sorted(set(task.inputs) - set(split.column_names))
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
