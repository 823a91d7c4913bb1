"""From an open task to the context of its run: plan, machine and store; all that is refused is."""

from __future__ import annotations

from pathlib import Path

from harness_plugin.config.settings import RunConfig
from harness_plugin.errors import HarnessError
from harness_plugin.machine.hardware import machine_of, processes_of
from harness_plugin.pipeline.checks import check_comparable, check_plan, examine_models
from harness_plugin.pipeline.context import RunContext
from harness_plugin.pipeline.open_task import OpenTask
from harness_plugin.pipeline.plan import RunPlan, resolve, resolve_checkpoints
from harness_plugin.pipeline.train_role import checkpoint_model
from harness_plugin.plugins.registry import Plugins
from harness_plugin.store.stages import Store, default_root


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
    examine_models(ctx)
    if ctx.config.eval_only:
        labels = {
            name: checkpoint_model(ctx, role, 0).labels for name, role in ctx.plan.roles.items()
        }
        return check_comparable(ctx, labels)
    return check_plan(ctx)
