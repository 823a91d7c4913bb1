"""From a task and a run's configuration to its settings and its checked data: the one recipe.

And what makes numbers of these data weaker than they look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from harness_plugin.config.merge import task_settings
from harness_plugin.config.run_config import RunConfig
from harness_plugin.config.settings import TaskSettings
from harness_plugin.data.dataset import TaskData, held_out, load_data
from harness_plugin.data.split import Split, stratified
from harness_plugin.data.task import Task, find_task
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.plugins.registry import Plugins, load_plugins


class OpenTask(NamedTuple):
    """A task of a run, what the run's configuration makes of it, and its splits."""

    task: Task
    settings: TaskSettings
    data: TaskData


def open_task(task: Task, config: RunConfig, names: Sequence[str] = ()) -> OpenTask:
    """The settings of `task` in a run, and its data, loaded and checked.

    `names`: the tasks that the configuration may have settings for; by default those of the run.

    Raises HarnessError for settings that name none of them, and as `load_data` does.
    """
    settings = task_settings(task, config.source_of(task), names or config.tasks, config.settings)
    data = load_for(task, settings, config, training=not config.eval_only)
    if data.source != "embedded" and not config.eval_only and starts_untrained(settings):
        data = replace(data, notes=(*data.notes, UNTRAINED_MODELS))
    if config.limit is not None and not config.eval_only:
        settings, note = with_smaller_batches(settings, len(data.train))
        data = replace(data, notes=(*data.notes, *note))
    return OpenTask(task, settings, data)


def with_smaller_batches(settings: TaskSettings, rows: int) -> tuple[TaskSettings, list[str]]:
    """Batches of no more rows than `--limit` has left, and a note where that changes them."""
    sizes = {settings.teacher.batch_size, settings.student.batch_size}
    if not (larger := sorted(size for size in sizes if size > rows)):
        return settings, []
    fitted = {
        role: one.model_copy(update={"batch_size": min(one.batch_size, rows)})
        for role, one in (("teacher", settings.teacher), ("student", settings.student))
    }
    too_large = " and ".join(map(str, larger))
    note = f"--limit leaves {rows} training rows: batches of {rows} rows, not of {too_large}"
    return settings.model_copy(update=fitted), [note]


UNTRAINED_MODELS = (
    "models start untrained, nothing is fetched; --teacher and --student name checkpoints (a "
    "folder or a hub id), which read much better"
)


def starts_untrained(settings: TaskSettings) -> bool:
    """Whether teacher and student are presets with random weights."""
    return all(
        role.init == "scratch" and "/" not in role.model and not Path(role.model).is_dir()
        for role in (settings.teacher, settings.student)
    )


def load_for(
    task: Task, settings: TaskSettings, config: RunConfig, *, training: bool = True
) -> TaskData:
    """The data a run asks for, loaded and checked; with the validation rows it holds out or adds.

    Without `training` the evaluation sets alone are needed. Raises HarnessError as `load_data`.
    """
    data = load_data(
        task,
        config.source_of(task),
        path=config.data_path,
        options=settings.options,
        limit=config.limit,
        seed=config.data_seed,
        sets=config.sets,
        training=training,
    )
    if training and settings.validation_fraction and data.validation is None:
        data = held_out(data, settings.validation_fraction, config.data_seed)
    if training and settings.validation_pool:
        from harness_plugin.pipeline.prepare.validation_pool import with_pool  # imports torch

        data = with_pool(task, data, settings.validation_pool, load_plugins(["augmentation"]))
        if config.limit is not None and (whole := data.validation):
            cut = stratified(whole, config.limit, config.data_seed)
            data = replace(data, splits={**data.splits, whole.name: cut})
    return data


def load_tasks(config: RunConfig, plugins: Plugins) -> list[OpenTask]:
    """Every task of a run, its settings and its data, all checked."""
    check_option_names(config.settings, plugins)
    tasks = [find_task(name, plugins["task"], config.include_path) for name in config.tasks]
    for task in tasks:
        check_gaps(task, plugins)
    names = [task.task for task in tasks]
    if twice := {name for name in names if names.count(name) > 1}:
        raise HarnessError(f"--tasks names task {', '.join(sorted(twice))} twice.")
    return [open_task(task, config, names) for task in tasks]


def check_gaps(task: Task, plugins: Plugins) -> None:
    """Refuse a primary gap that is no metric: the task's answer would be without it."""
    named = task.primary_gap.values() if isinstance(task.primary_gap, dict) else [task.primary_gap]
    for gap in named:
        if gap is not None and gap not in plugins["metric"]:
            raise unknown(
                f"metric in primary_gap of task {task.task}", gap, plugins["metric"].offers
            )


OPTIONS_OF = {
    "method_options": "method",
    "bias_model_options": "bias_model",
    "group_inference_options": "group_inference",
}
"""Settings that hold the options of several things by their names, in use or not."""


def check_option_names(settings: Mapping[str, Any], plugins: Plugins) -> None:
    """Refuse a bias model, and options of a method or its like, that nobody offers.

    One that is not in use is no error, so that a misspelt one would be ignored.
    """
    for key, value in settings.items():
        if key == "bias_model" and isinstance(value, str):
            plugins["bias_model"].offer(value)
        if not isinstance(value, Mapping):
            continue
        if key in OPTIONS_OF:
            for name in value:
                plugins[OPTIONS_OF[key]].offer(name)
        elif key not in TaskSettings.model_fields:  # a task's name
            check_option_names(value, plugins)


FEW = 30
"""Test rows below which a group's accuracy says little."""
SHOWN = 6
"""Groups that a warning names."""


def warnings(data: TaskData, inputs: Sequence[str]) -> list[str]:
    """Weaknesses of this data (leaks, small groups), one line a kind."""
    train = data.train_groups
    untrained = []
    for split in data.evaluation:
        untrained += [f"{split.name} {group}" for group in split.groups if train.get(group) == 0]
    out = [*data.warnings, *small_groups(data)]
    if untrained:
        out.append(f"test groups without a training row: {listed(untrained)}")
    return out + list(leaks(data, inputs))


def small_groups(data: TaskData) -> Iterator[str]:
    """A line an evaluation set that has groups too small for a number to stand on."""
    for split in data.evaluation:
        counts = dict(zip(split.groups, split.group_counts.tolist(), strict=True))
        few = sorted((count, group) for group, count in counts.items() if count < FEW)
        if few:
            yield (
                f"{split.name}: {len(few)} of {len(counts)} groups have under {FEW} rows, "
                f"smallest {few[0][1]} ({few[0][0]})"
            )


def listed(names: Sequence[str]) -> str:
    """The names, or the first of them and how many more."""
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def leaks(data: TaskData, inputs: Sequence[str]) -> Iterator[str]:
    """A warning for every split to learn from that shares rows, inputs compared byte for byte.

    Two evaluation sets may be made of the same rows on purpose; they are not compared.
    """
    sources = [s for s in data.splits.values() if s.purpose in ("train", "validation")]
    hashes = {s.name: stored_inputs(s, inputs) for s in (*sources, *data.evaluation)}
    for number, first in enumerate(sources):
        seen = set(hashes[first.name])
        shared = {
            second.name: sum(row in seen for row in hashes[second.name])
            for second in (*sources[number + 1 :], *data.evaluation)
        }
        if parts := [f"{name} {count:,}" for name, count in shared.items() if count]:
            yield f"rows that also stand in {first.name}: {listed(parts)}"


def stored_inputs(split: Split, inputs: Sequence[str]) -> list[bytes]:
    """(N,) a hash of the inputs of each row as they are stored; image files by their bytes."""
    out = []
    for start in range(0, len(split), 1024):
        for row in split.stored(inputs, start, start + 1024).to_pylist():
            digest = hashlib.sha256()
            for value in row.values():
                if isinstance(value, dict):  # an image: its bytes, or the file it lies in
                    value = value.get("bytes") or Path(value["path"]).read_bytes()
                digest.update(value if isinstance(value, bytes) else repr(value).encode())
            out.append(digest.digest())
    return out
