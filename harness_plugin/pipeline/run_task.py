"""One task: every role of every seed is trained and predicts every set; then all is scored."""

from __future__ import annotations

from collections.abc import Iterator

from harness_plugin.config.settings import hub_sets_of
from harness_plugin.pipeline.context import RunContext
from harness_plugin.pipeline.predictions import predict_split
from harness_plugin.pipeline.train_role import train_role
from harness_plugin.records import Predictions, TaskScores, TrainedModel
from harness_plugin.scoring.score import score_task


def run_task(ctx: RunContext) -> TaskScores:
    """Train (or take) every role of every seed, predict every set once, score the predictions."""
    models, predictions = predict_models(ctx)
    scores = score_models(ctx, models, predictions)
    ctx.plugins.hook.scores_computed(scores=scores)
    return scores


def predict_models(ctx: RunContext) -> tuple[list[TrainedModel], list[Predictions]]:
    """Every role's model of every seed, and what it predicts on every evaluation set."""
    hook = ctx.plugins.hook
    if ctx.config.log_with:
        ctx.accelerator.init_trackers(f"harness_plugin_{ctx.task.task}")
    models: list[TrainedModel] = []
    predictions: list[Predictions] = []
    for seed in ctx.config.seeds:
        for model in train_models(ctx, seed):
            models.append(model)
            hook.model_trained(model=model)
            for split in ctx.data.evaluation:
                predictions.append(predict_split(ctx, model, split))
                hook.predictions_made(predictions=predictions[-1])
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
    config, train = ctx.config, ctx.data.train
    return score_task(
        predictions,
        task=ctx.task.task,
        source=ctx.data.source,
        fingerprint=ctx.data.fingerprint,
        train_groups=train.groups,
        train_group_counts=train.group_counts,
        purposes={split.name: split.purpose for split in ctx.data.evaluation},
        metrics={offer.name: offer.load() for offer in ctx.plugins["metric"]},
        models=tuple(models),
        notes=ctx.data.notes,
        collapse_rule=ctx.data.evaluation[-1].collapse_rule,
        resamples=config.resamples,
        rule=config.rule,
        seed=config.data_seed,
        wanted_gap=ctx.task.primary_gap,
        hub_sets=hub_sets_of(ctx.task, ctx.settings.options, ctx.data.source, config),
    )
