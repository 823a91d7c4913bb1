"""From a recipe, a file, flags and assignments to the settings of a run and of its tasks.

Order, later wins: the defaults of the models in `settings` < the task's recipe for the data source
< `--config` file < command line flags < `--set key=value`. What comes out is written beside the
results and can be given back as `--config`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from harness_plugin.config.mappings import check_names, fitting, problems
from harness_plugin.config.run_config import RunConfig
from harness_plugin.config.settings import RoleSettings, TaskSettings
from harness_plugin.data.task import Source, Task
from harness_plugin.data.yaml_files import TWICE, load_yaml, merge, read_yaml, yaml_problem
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.store.files import located


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`["hans.collapse=sum", "teacher.epochs=3"]` as nested mappings; values are YAML."""
    out: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not all(key.split(".")):
            raise HarnessError(f"--set {assignment!r}: expected key=value, e.g. teacher.epochs=3.")
        try:
            value, _ = load_yaml(text)
        except yaml.YAMLError as error:
            _, problem = yaml_problem(error)
            why = problem if problem.startswith(TWICE) else f"{text[:80]!r} is not a YAML value"
            raise HarnessError(f"--set {assignment[:80]!r}: {why}.") from None
        for name in keys_with_a_colon(value):
            raise HarnessError(
                f"--set {assignment!r}: key {name!r} has no value; YAML needs a space after ':'."
            )
        for part in reversed(key.split(".")):
            value = {part: value}
        out = merge_settings(out, value)
    return out


def keys_with_a_colon(value: Any) -> Iterator[str]:
    """The keys `name:value` without a value in a YAML value: `{a:1}` is {"a:1": None}."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            if each is None and isinstance(key, str) and ":" in key:
                yield key
            yield from keys_with_a_colon(each)
    elif isinstance(value, list):
        for each in value:
            yield from keys_with_a_colon(each)


def merge_settings(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, where a student that `base` has and `over` leaves out is false.

    Null must name a student of the recipe; this one need not be one, `base` itself has brought it.
    """
    merged = merge(base, over)
    for key, value in over.items():
        before = base.get(key)
        if not isinstance(value, Mapping) or not isinstance(before, Mapping):
            continue
        if key == "students":
            out = [n for n, one in value.items() if one is None and before.get(n) is not None]
            merged[key].update(dict.fromkeys(out, False))
        else:
            merged[key] = merge_settings(before, value)
    return merged


def over_settings(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`: what it sets for all tasks wins over what `base` sets for one."""
    general = {key: value for key, value in over.items() if key in TaskSettings.model_fields}
    tasks = {
        key: merge_settings(value, general)
        for key, value in base.items()
        if key not in TaskSettings.model_fields and isinstance(value, Mapping)
    }
    for layer in (tasks, general, over):
        base = merge_settings(base, layer)
    return dict(base)


def task_settings(
    task: Task, source: Source, tasks: Iterable[str], settings: Mapping[str, Any]
) -> TaskSettings:
    """The settings of `task`: its recipe, then `settings` for all tasks, then `given[task]`.

    `settings` may hold setting names, names of `tasks`, and below a task's name also that task's
    own options. Raises HarnessError naming the key and near matches.
    """
    known = set(TaskSettings.model_fields)
    names = set(tasks)
    for key in settings:
        if key not in known | names:
            raise unknown("setting", key, known | names)
    own = dict(settings.get(task.task, {}))
    for option in [key for key in own if key in task.options]:
        own["options"] = {**own.get("options", {}), option: own.pop(option)}
    for key in own:
        if key not in known:
            raise unknown(f"setting of task {task.task}", key, known | set(task.options))
    changes = merge_settings({key: value for key, value in settings.items() if key in known}, own)
    recipe = merge(task.recipe.get("all", {}), task.recipe.get(source, {}))
    check_left_out(task.task, changes, recipe)
    merged = merge(fitting(recipe, changes), changes)
    for role in ("teacher", "student"):
        if isinstance(merged.get(role), dict):
            check_names(f"{task.task}.{role}", merged[role], RoleSettings)
    try:
        return TaskSettings.model_validate(merged)
    except ValidationError as error:
        raise HarnessError(problems(f"task {task.task}", error)) from None


def check_left_out(task: str, changes: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    """Refuse `null` for a student that the task does not have, with near matches."""
    students = changes.get("students")
    known = recipe.get("students", {"student": {}})
    for name, one in students.items() if isinstance(students, Mapping) else ():
        if one is None and name not in known:
            raise unknown(f"student of task {task}, to leave out,", name, known)


def names_in(tasks: object) -> set[str]:
    """The names in a list of tasks, before it is known to be one."""
    return (
        {name for name in tasks if isinstance(name, str)}
        if isinstance(tasks, list | tuple)
        else set()
    )


def run_config(
    file: Path | None,
    flags: Mapping[str, Any],
    sets: Iterable[str] | Mapping[str, Any],
    shortcuts: Mapping[str, Any] | None = None,
    where: str = "command line",
) -> RunConfig:
    """The configuration from a file, flags (None = not given), and assignments.

    `sets`: `key=value` texts, or the nested mapping that they stand for. `shortcuts` are the task
    settings that have a flag of their own; assignments win over them. `where` the flags come from,
    for messages.
    """
    base: dict[str, Any] = {}
    if file is not None:
        written, _ = read_yaml(file)
        base = located(written, file.parent)
        check_names(str(file), base, RunConfig)
    merged = merge(base, {key: value for key, value in flags.items() if value is not None})
    over = dict(sets) if isinstance(sets, Mapping) else parse_assignments(sets)
    assigned = merge_settings(shortcuts or {}, over)
    top = {key: assigned.pop(key) for key in list(assigned) if key in RunConfig.model_fields}
    merged = merge(merged, top)
    if merged.get("eval_only"):  # a checkpoint is one model, of one seed
        merged.setdefault("seeds", (0,))
    settings = merged.get("settings") or {}
    if not isinstance(settings, Mapping):
        raise HarnessError(
            f"{file or where}: settings: expected a mapping, found {settings!r:.80}."
        )
    settings = dict(settings)
    for task in names_in(base.get("tasks")) - names_in(merged.get("tasks")):
        settings.pop(task, None)  # the file has more tasks than this run
    merged["settings"] = over_settings(settings, assigned)
    if not merged.get("tasks"):
        raise HarnessError("no task given: --tasks NAME[,NAME] (see `harness ls tasks`).")
    try:
        return RunConfig.model_validate(merged)
    except ValidationError as error:
        raise HarnessError(problems(str(file) if file else where, error)) from None
