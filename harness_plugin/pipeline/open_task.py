"""Open a task: its settings, its data, its plan and the machine, in one way for all commands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness_plugin.config.merge import task_settings
from harness_plugin.config.settings import RunConfig, TaskSettings
from harness_plugin.data.dataset import TaskData, load_for
from harness_plugin.data.task import Task, find_task
from harness_plugin.errors import HarnessError
from harness_plugin.pipeline.checks import check_comparable, check_plan
from harness_plugin.pipeline.context import RunContext
from harness_plugin.pipeline.hardware import machine_of, processes_of
from harness_plugin.pipeline.plan import RunPlan, resolve, resolve_checkpoints
from harness_plugin.pipeline.train_role import checkpoint_model
from harness_plugin.plugins.registry import Plugins
from harness_plugin.store.stages import Store, default_root


@dataclass(frozen=True)
class OpenTask:
    """A task with its settings and data, checked; nothing of the machine is known yet."""

    task: Task
    settings: TaskSettings
    data: TaskData


def load_tasks(config: RunConfig, plugins: Plugins) -> list[OpenTask]:
    """Every task of a run, its settings and its data, all checked."""
    tasks = [find_task(name, plugins["task"], config.include_path) for name in config.tasks]
    names = [task.task for task in tasks]
    if twice := {name for name in names if names.count(name) > 1}:
        raise HarnessError(f"--tasks names task {', '.join(sorted(twice))} twice.")
    opened = []
    for task in tasks:
        settings = task_settings(task, config.source_of(task), names, config.settings)
        opened.append(OpenTask(task, settings, load_for(task, settings, config)))
    return opened


def store_root(config: RunConfig) -> Path:
    """The folder of the stage store."""
    return Path(config.use_cache) if config.use_cache else default_root()


def context_of(
    opened: OpenTask,
    config: RunConfig,
    plugins: Plugins,
    root: Path | None = None,
    *,
    only: str | None = None,
) -> RunContext:
    """The context of a task's run; refuses what cannot work before any training.

    `only` = for one role and those that it learns from.
    """
    plan = plan_of(opened, config, plugins, only)
    root = root or store_root(config)
    hardware, accelerator = machine_of(config, opened.task.modality, root)
    ctx = RunContext(
        opened.task,
        opened.settings,
        opened.data,
        config,
        plan,
        hardware,
        accelerator,
        Store(root, processes_of(accelerator)),
        plugins,
    )
    check_context(ctx)
    return ctx


def plan_of(
    opened: OpenTask, config: RunConfig, plugins: Plugins, only: str | None = None
) -> RunPlan:
    """What a run trains, or with `eval_only` the checkpoints that it takes as they are."""
    if config.eval_only:
        return resolve_checkpoints(opened.task, opened.settings, plugins)
    if isinstance(opened.settings.control, str):
        raise HarnessError("--control names a checkpoint, which needs --eval_only.")
    return resolve(opened.task, opened.settings, plugins, only=only)


def check_context(ctx: RunContext) -> None:
    """Refuse what cannot work."""
    if ctx.config.eval_only:
        labels = {
            name: checkpoint_model(ctx, role, 0).labels for name, role in ctx.plan.roles.items()
        }
        return check_comparable(ctx, labels)
    return check_plan(ctx)


def with_settings(ctx: RunContext, settings: TaskSettings) -> RunContext:
    """The same task, data and machine with other settings; they are resolved and checked."""
    plan = plan_of(OpenTask(ctx.task, settings, ctx.data), ctx.config, ctx.plugins)
    changed = replace(ctx, settings=settings, plan=plan, processors={})
    check_context(changed)
    return changed
