"""Our text tasks as YAML files for lm-evaluation-harness: two an evaluation set, made from tasks.

`debias_hans` is the name that cannot be taken for another's; `hans` is the same for short, and
stands in no tag.

A file names a task and a set; what the set is, and which metrics are defined on it, finds out
`lm_eval_task.TextTask`, which reads the same task.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import Task, find_task
from harness_plugin.errors import HarnessError
from harness_plugin.plugins.registry import load_plugins
from harness_plugin.store.keys import code_version
from harness_plugin.store.stages import Store, default_root

LOG = logging.getLogger(__name__)
FILE = """\
class: !function harness_plugin_hooks.adapters.lm_eval_task.TextTask
task: {name}
{tag}
dataset_kwargs: {{task: {task}, set: {set}}}
metadata: {{version: {version}}}
"""
PREFIX = "debias_"
NOT_GENERATED = "# not among the generated data: give --metadata data=hub or data=DIR"


def folder() -> Path:
    """The folder with the files, which `--include_path` takes.

    It is kept in the store, and made anew when a task or what generates its data has changed.
    """
    tasks = list(text_tasks())
    spec = {task.task: [task.model_dump(mode="json"), version_of(task)] for task in tasks}
    here = code_version(f"{__name__}:write_files")

    def build(target: Path) -> None:
        for task in tasks:
            write_files(task, target)

    return Store(default_root()).run("lm_eval_tasks", {"tasks": spec, "code": here}, build).path


def text_tasks() -> Iterator[Task]:
    """Every installed task that reads text; one that cannot be read is named and left out."""
    registry = load_plugins()["task"]
    for offer in registry:
        try:
            task = find_task(offer.name, registry)
        except HarnessError as error:
            LOG.warning("%s", error)
            continue
        if task.modality == "text":
            yield task


def version_of(task: Task) -> str:
    """The version of the code that generates a task's data; "" where none are generated."""
    targets = task.code_targets("embedded")
    return code_version(*targets) if targets else ""


def write_files(task: Task, target: Path) -> None:
    """A file for each of a task's evaluation sets, as far as they are known without real data.

    Those are the generated ones, which the tags collect, and those that the task names a gap or a
    hub split for.
    """
    generated = []
    if "embedded" in task.sources:
        generated = [split.name for split in load_data(task, "embedded").evaluation]
    gaps = task.primary_gap if isinstance(task.primary_gap, dict) else {}
    for name in dict.fromkeys([*generated, *gaps, *task.hub_sets]):
        lm_eval_name = name if name == task.task else f"{task.task}_{name}"
        tag = f"tag: [debias, debias_{task.task}_sets]" if name in generated else NOT_GENERATED
        for called, tags in ((f"{PREFIX}{lm_eval_name}", tag), (lm_eval_name, "")):
            text = FILE.format(
                name=called, tag=tags, task=task.task, set=name, version=task.version
            )
            (target / f"{called}.yaml").write_text(text, encoding="utf-8")
