"""One task: its context, in which every role of every seed is trained and predicts; its scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness_plugin.config.run_config import RunConfig, hub_sets_of
from harness_plugin.errors import HarnessError
from harness_plugin.machine.process_state import freeze
from harness_plugin.machine.progress import model_done
from harness_plugin.pipeline.prepare.hardware import (
    accelerator_again,
    finish_trackers,
    machine_of,
    processes_of,
)
from harness_plugin.pipeline.prepare.open_task import OpenTask
from harness_plugin.pipeline.prepare.plan import RunPlan, resolve, resolve_checkpoints
from harness_plugin.pipeline.roles.checks import answerable, check_plan, examine_models
from harness_plugin.pipeline.roles.context import RunContext
from harness_plugin.pipeline.roles.split_stages import predict_split
from harness_plugin.pipeline.roles.train_role import checkpoint_model, train_role
from harness_plugin.plugins.registry import Plugins
from harness_plugin.records import Predictions, TaskScores, TrainedModel
from harness_plugin.scoring.metrics import Metric
from harness_plugin.scoring.score import score_task
from harness_plugin.store.stages import Store, default_root


def store_root(config: RunConfig) -> Path:
    """The folder of the stage store; HarnessError for the name of a file or a device."""
    root = Path(config.use_cache) if config.use_cache else default_root()
    if root.exists() and not root.is_dir():
        raise HarnessError(f"--use_cache {root}: expected a folder, this names a file.")
    return root


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
    hardware, accelerator = machine_of(config, opened, plugins, root)
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
    examine_models(ctx)
    if config.eval_only:
        roles = plan.roles.items()
        labels = {name: checkpoint_model(ctx, role, 0).labels for name, role in roles}
        return replace(ctx, data=answerable(ctx, labels))
    check_plan(ctx)
    return ctx


def set_up_again(ctx: RunContext) -> RunContext:
    """The context on a machine that another task may have set up for itself since."""
    accelerator = accelerator_again(ctx.config, ctx.hardware)
    return replace(
        ctx, accelerator=accelerator, store=Store(ctx.store.root, processes_of(accelerator))
    )


def plan_of(
    opened: OpenTask, config: RunConfig, plugins: Plugins, only: str | None = None
) -> RunPlan:
    """The plan of a run; with `eval_only` its roles are checkpoints that are not trained."""
    if config.eval_only:
        return resolve_checkpoints(opened.task, opened.settings, plugins)
    if isinstance(opened.settings.control, str):
        raise HarnessError("--control names a checkpoint, which needs --eval_only.")
    return resolve(opened.task, opened.settings, plugins, only=only)


def run_task(ctx: RunContext) -> TaskScores:
    """Train (or take) every role of every seed, predict every set once, score the predictions."""
    models, predictions = predict_models(ctx)
    scores = score_models(ctx, models, predictions)
    ctx.plugins.hook.scores_computed(scores=scores)
    return scores


def predict_models(ctx: RunContext) -> tuple[list[TrainedModel], list[Predictions]]:
    """Every role's model of every seed, and what it predicts on every evaluation set."""
    models: list[TrainedModel] = []
    predictions: list[Predictions] = []
    for seed in ctx.config.seeds:
        for model in train_models(ctx, seed):
            if not model.reused and all(other.reused for other in models):
                freeze()  # the first training has imported the library of its model
            models.append(model)
            named = f"{model.role} on {model.task}, seed {model.seed}"
            model_done(named, model.seconds, model.reused)
            ctx.plugins.hook.model_trained(model=model)
            for split in ctx.data.evaluation:
                predictions.append(predict_split(ctx, model, split))
    finish_trackers(ctx.accelerator)
    return models, predictions


def train_models(ctx: RunContext, seed: int) -> Iterator[TrainedModel]:
    """Every role of one seed, teachers before those that learn from them."""
    models: dict[str, TrainedModel] = {}
    for name, role in ctx.plan.roles.items():
        models[name] = train_role(ctx, role, seed, models)
        yield models[name]


def score_models(
    ctx: RunContext, models: list[TrainedModel], predictions: list[Predictions]
) -> TaskScores:
    """Every metric of every role, and what is kept of the teacher's debiasing."""
    config, train_groups = ctx.config, ctx.data.train_groups
    return score_task(
        predictions,
        task=ctx.task.task,
        source=ctx.data.source,
        fingerprint=ctx.data.fingerprint,
        train_groups=tuple(train_groups),
        train_group_counts=tuple(train_groups.values()),
        purposes={split.name: split.purpose for split in ctx.data.evaluation},
        metrics=ctx.plugins["metric"].instances(Metric),
        models=tuple(models),
        notes=ctx.data.notes,
        collapse_rule=ctx.data.evaluation[-1].collapse_rule,
        resamples=config.resamples,
        rule=config.rule,
        seed=config.data_seed,
        declared_gap=ctx.task.primary_gap,
        hub_sets=hub_sets_of(ctx.task, ctx.settings.options, ctx.data.source, config),
    )
