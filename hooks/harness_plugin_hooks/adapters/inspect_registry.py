"""The entry point of inspect_ai: `harness_plugin/<task>`, scorer, metrics, `seqcls/`.

inspect_ai imports this module before it knows what is asked for, so that the bodies import.
"""

from __future__ import annotations

from typing import Any

from inspect_ai import Task, task
from inspect_ai.model import ModelAPI, modelapi

from harness_plugin.data.task import find_task
from harness_plugin.errors import HarnessError
from harness_plugin.plugins.registry import load_plugins

# importing these registers scorer and metrics
from harness_plugin_hooks.adapters import inspect_scoring as inspect_scoring
from harness_plugin_hooks.adapters.inspect_scoring import offered


def text_task(name: str, summary: str) -> None:
    """Offer one of our tasks."""

    def build(
        data: str | None = None,
        split: str | None = None,
        limit: int | None = None,
        data_seed: int = 0,
        resamples: int = 1000,
        **options: Any,
    ) -> Task:
        from harness_plugin_hooks.adapters.inspect_tasks import build

        return build(name, data, split, limit, data_seed, resamples, options)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"{summary}.\n\n{ARGUMENTS}"
    offered(task)(build)


ARGUMENTS = """\
    Args:
        data: embedded (generated), hub, or a folder with a copy; default: what the task has itself.
        split: one evaluation set; default: all of them.
        limit: rows of each set, stratified by group; --limit would take the first rows.
        data_seed: of the rows that are generated or drawn, and of the resamples.
        resamples: of the rows, for intervals and corrected minima.
        **options: the task's own options (tasks/README.md).
"""


def register_tasks() -> None:
    """Offer every installed task that reads text; models here are not shown images."""
    registry = load_plugins()["task"]
    for offer in registry:
        try:
            reads_text = find_task(offer.name, registry).modality == "text"
        except HarnessError:  # a stranger's broken file raises when it is asked for
            reads_text = True
        if reads_text:
            text_task(offer.name, offer.summary)


register_tasks()


@offered(task)
def task_file(
    file: str,
    data: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    data_seed: int = 0,
    resamples: int = 1000,
    **options: Any,
) -> Task:
    """A task of one's own, from its YAML file; the other arguments as of the tasks here."""
    from harness_plugin_hooks.adapters.inspect_tasks import build

    return build(file, data, split, limit, data_seed, resamples, options)


@offered(modelapi, "seqcls")
def seqcls() -> type[ModelAPI]:
    """`seqcls/<checkpoint>`: a sequence classifier, in a folder or on the hub."""
    from harness_plugin_hooks.adapters.inspect_model import SequenceClassifier

    return SequenceClassifier
