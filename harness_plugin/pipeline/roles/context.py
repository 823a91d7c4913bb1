"""Context of a task's run: a record without behaviour that every step takes."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from harness_plugin.config.run_config import RunConfig
from harness_plugin.config.settings import TaskSettings
from harness_plugin.data.dataset import TaskData
from harness_plugin.data.split import Split
from harness_plugin.data.task import Task
from harness_plugin.pipeline.prepare.hardware import HardwareSettings
from harness_plugin.pipeline.prepare.plan import RunPlan
from harness_plugin.plugins.registry import Plugins
from harness_plugin.store.stages import Store


@dataclass(frozen=True)
class RunContext:
    """One task's data, its plan, and the machine it runs on.

    `vocabulary` are the rows whose words a tokenizer made here knows, where the training rows are
    not the task's own. `trained_ahead` are keys of models that workers of this run have trained.
    `processors` keeps those that were loaded.
    """

    task: Task
    settings: TaskSettings
    data: TaskData
    config: RunConfig
    plan: RunPlan
    hardware: HardwareSettings
    accelerator: Accelerator
    store: Store
    plugins: Plugins
    vocabulary: Split | None = None
    trained_ahead: frozenset[str] = frozenset()
    processors: dict[str, tuple[Any, Path]] = field(default_factory=dict, compare=False, repr=False)


def is_quiet(ctx: RunContext) -> bool:
    """No progress is shown off the main process, and in a worker."""
    worker = multiprocessing.parent_process() is not None
    return worker or not ctx.accelerator.is_main_process


def hardware_key(ctx: RunContext) -> list[str]:
    """The part of the hardware settings that numbers depend on."""
    return [ctx.hardware.device, ctx.hardware.precision, ctx.hardware.attention]
