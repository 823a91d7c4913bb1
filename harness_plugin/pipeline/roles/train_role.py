"""One role's model of one seed: its rounds, and in each the ERM epochs and the method's stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from harness_plugin.errors import HarnessError
from harness_plugin.models.checkpoints import trained_labels
from harness_plugin.pipeline.prepare.plan import Component, ResolvedRole
from harness_plugin.pipeline.roles.augment import augment
from harness_plugin.pipeline.roles.checks import examined
from harness_plugin.pipeline.roles.compress import account, compressed, joined
from harness_plugin.pipeline.roles.context import RunContext
from harness_plugin.pipeline.roles.split_stages import weights_key
from harness_plugin.pipeline.roles.supervision import (
    TeacherModels,
    supervision_of,
    training_metadata,
)
from harness_plugin.pipeline.roles.trainer import RoleTrainer, bias_model_trainer
from harness_plugin.records import TrainedModel
from harness_plugin.store.stages import Stage
from harness_plugin.training.contracts import Method
from harness_plugin.training.trainer import TrainingSpec


def train_role(
    ctx: RunContext, role: ResolvedRole, seed: int, models: Mapping[str, TrainedModel]
) -> TrainedModel:
    """The trained model of a role; `models` holds those that it learns from, by role.

    With augmentations of an equal budget it sees as many examples as without: fewer epochs of more
    rows.
    """
    distillation = role.distillation
    if not role.trained and not role.compressors:
        return checkpoint_model(ctx, role, seed)
    if distillation is None:
        return train_augmented(ctx, role, seed, None)
    teachers = TeacherModels(
        tuple(models[name] for name in distillation.teachers),
        models[distillation.biased_teacher] if distillation.biased_teacher else None,
    )
    if role.compressors:
        return compressed_role(ctx, role, seed, teachers)
    return train_augmented(ctx, role, seed, teachers)


def compressed_role(
    ctx: RunContext, role: ResolvedRole, seed: int, teachers: TeacherModels
) -> TrainedModel:
    """The first teacher's network made smaller: as it is, or trained on with its zeros kept.

    Compressors that a training would undo come after it.
    """
    trainer, first = RoleTrainer(ctx, role, seed, teachers), teachers.first
    if not role.trained:
        return compressed_model(trainer, compressed(trainer, first, role.compressors))
    before = [each for each in role.compressors if not each.cls.after_training]
    after = [each for each in role.compressors if each.cls.after_training]
    start = compressed(trainer, first, before)
    model = train_augmented(ctx, role, seed, replace(teachers, start=start))
    if not after:
        facts = {"compression": account(start)}
        return replace(model, settings={**model.settings, **facts})
    end = compressed(trainer, model, after)
    facts = {"compression": joined(account(start), account(end))}
    settings = {**model.settings, **facts, "stage": end.key}
    reused = model.reused and end.reused
    return replace(model, path=end.path, key=end.key, settings=settings, reused=reused)


def compressed_model(trainer: RoleTrainer, stage: Stage) -> TrainedModel:
    """The record of a compressed teacher that is not trained."""
    ctx, role = trainer.ctx, trainer.role
    names = "+".join(each.name for each in role.compressors)
    settings = settings_record(ctx, role, stage.key)
    return TrainedModel(
        task=ctx.task.task,
        role=role.name,
        seed=trainer.seed,
        name=f"{ctx.task.task}-{role.name}-{names}-seed{trainer.seed}",
        path=stage.path,
        model=role.settings.model,
        method=names,
        settings={**settings, "compression": account(stage)},
        supervision=supervision_of(ctx, role),
        key=stage.key,
        kind=role.kind.value,
        start=role.start,
        labels=ctx.data.train.labels,
        max_length=role.max_length,
        seconds=float(stage.record.get("seconds", 0)),
        reused=stage.reused,
    )


def train_augmented(
    ctx: RunContext, role: ResolvedRole, seed: int, teachers: TeacherModels | None
) -> TrainedModel:
    """The role trained on the task's rows and those that its augmentations add.

    A role without a teacher sees as many examples as without them.
    """
    distillation = role.distillation
    if not role.augmentations:
        return train_rounds(ctx, role, seed, teachers)
    data, added = augment(ctx, role, teachers.first if teachers else None)
    if distillation is None or distillation.equal_budget:
        role = scaled(role, len(ctx.data.train) / len(data.train))
    augmented = replace(ctx, data=data, vocabulary=ctx.data.train)
    model = train_rounds(augmented, role, seed, teachers)
    return replace(model, settings={**model.settings, "augmented_rows": added})


def scaled(role: ResolvedRole, share: float) -> ResolvedRole:
    """The role with `share` of its epochs."""
    args = replace(role.args, epochs=role.args.epochs * share)
    return replace(role, args=args, erm_epochs=role.erm_epochs * share)


def train_rounds(
    ctx: RunContext, role: ResolvedRole, seed: int, teachers: TeacherModels | None
) -> TrainedModel:
    """The role after all its rounds, each distilled from or initialised by the one before."""
    distillation = role.distillation
    if teachers is None or distillation is None or distillation.rounds == 1:
        return train_once(ctx, role, seed, teachers)
    if distillation.equal_budget:
        role = scaled(role, 1 / distillation.rounds)
    rounds: list[TrainedModel] = []
    while len(rounds) < distillation.rounds:
        this = replace(teachers, round_number=len(rounds))
        if rounds and distillation.between_rounds != "initialises":
            this = replace(this, models=(rounds[-1],))
        if rounds and distillation.between_rounds != "teaches":
            before = rounds[-1]
            this = replace(this, start=Stage(before.key, before.path, {}, before.reused))
        rounds.append(train_once(ctx, role, seed, this))
    return replace(
        rounds[-1],
        settings={**rounds[-1].settings, "rounds": [model.key for model in rounds]},
        updates=sum(model.updates for model in rounds),
        seconds=sum(model.seconds for model in rounds),
        reused=all(model.reused for model in rounds),
    )


def train_once(
    ctx: RunContext, role: ResolvedRole, seed: int, teachers: TeacherModels | None
) -> TrainedModel:
    """The trained model of a role, or of one of its rounds."""
    trainer, method = RoleTrainer(ctx, role, seed, teachers), role.method
    rows = method.cls.rows(trainer, method.options)
    stages = train_stages(trainer, role.trained_by, rows)
    final = stages[-1]
    if method.cls.base:
        final = method.cls.finish(trainer, final, method.options)
    records = [stage.record for stage in stages]
    return TrainedModel(
        task=ctx.task.task,
        role=role.name,
        seed=seed,
        name=f"{ctx.task.task}-{role.name}-{method.name}-seed{seed}",
        path=final.path,
        model=role.settings.model,
        method=method.name,
        settings=settings_record(ctx, role, final.key)
        | {"from_teacher": next((r for each in records if (r := each.get("from_teacher"))), None)},
        supervision=supervision_of(ctx, role),
        selection=records[-1].get("selection"),
        key=final.key,
        kind=role.kind.value,
        start=role.start,
        labels=ctx.data.train.labels,
        max_length=role.max_length,
        updates=sum(int(record.get("updates", 0)) for record in records),
        seconds=sum(float(record.get("training_seconds", 0)) for record in records),
        reused=final.reused and final.key not in ctx.trained_ahead,
    )


def train_stages(
    trainer: RoleTrainer, method: Component[Method], rows: NDArray[Any] | None
) -> list[Stage]:
    """The trainings of a role, the last one last: first stages, ERM epochs, the method.

    The ERM epochs are a stage of their own, so that every method of the same model and seed
    continues from the same weights.
    """
    ctx, role, teachers = trainer.ctx, trainer.role, trainer.teachers
    prepared = method.cls.prepare(trainer, method.options)
    distiller_needs = role.distillation.needs if role.distillation else frozenset()
    needs = method.cls.needs | distiller_needs
    bias_trainer = bias_model_trainer(ctx) if "bias_model" in needs else None
    metadata, used = training_metadata(ctx, needs, trainer, bias_trainer, prepared)
    start, before = prepared.start, list(prepared.stages)
    if teachers is not None and teachers.start is not None:
        if start is not None:
            instead = (
                f"a compressed teacher cannot be its start: set students.{role.name}.method=erm."
                if role.compressors
                else "a round cannot initialise the next: set between_rounds=teaches."
            )
            raise HarnessError(
                f"{role.name}: method {method.name} starts from weights of its own, so that "
                f"{instead}"
            )
        start = teachers.start
    epochs, plain_student = role.args.epochs, teachers is not None and method.name == "erm"
    if role.erm_epochs and method.cls.warm and not plain_student:
        start = trainer.fit(
            TrainingSpec(
                "erm",
                rows=rows,
                start=start,
                epochs=role.erm_epochs,
                learning_rate=role.erm_learning_rate,
                metadata=replace(metadata, prepared={}) if distiller_needs else None,
                keys=tuple(stage.key for stage in used) if distiller_needs else (),
                distilled=True,
            )
        )
        before.append(start)
        epochs -= role.erm_epochs
    final = trainer.fit(
        TrainingSpec(
            method.name,
            method.options,
            rows=rows,
            metadata=metadata,
            keys=tuple(stage.key for stage in (*prepared.stages, *used)),
            start=start,
            epochs=epochs,
            distilled=True,
            selected=True,
            keep_zeros=bool(role.compressors),
        )
    )
    return [*before, *used, final]


def settings_record(ctx: RunContext, role: ResolvedRole, key: str) -> dict[str, Any]:
    """The settings in a role's record of the result files."""
    distillation = None if role.kind.from_labels else role.distillation
    declared = ctx.settings.model_dump()["students"].get(role.name)
    if distillation is not None and declared is None:
        declared = ctx.settings.model_dump()["teachers"][role.name]["distillation"]
    return {
        **role.settings.model_dump(),
        "epochs": role.args.epochs,
        "erm_epochs": role.erm_epochs,
        "labels": ctx.data.train.labels,
        "stage": key,
        **checkpoint_record(ctx, role),
    } | ({"distillation": declared} if distillation is not None else {})


def checkpoint_record(ctx: RunContext, role: ResolvedRole) -> dict[str, Any]:
    """The checkpoint in a role's record."""
    about = examined(ctx, role)
    return {} if about is None else {"checkpoint": asdict(about)}


def checkpoint_model(ctx: RunContext, role: ResolvedRole, seed: int) -> TrainedModel:
    """A checkpoint that is evaluated (or teaches) without further training."""
    source = role.model
    if source.checkpoint is None:
        raise HarnessError(
            f"{role.name}: {role.settings.model!r} is a preset with random weights; an evaluation "
            f"needs a trained checkpoint (a folder saved with save_pretrained, or a hub id)."
        )
    labels = trained_labels(
        source.checkpoint, role.settings.labels, role.name, ctx.config.trust_remote_code
    )
    return TrainedModel(
        task=ctx.task.task,
        role=role.name,
        seed=seed,
        name=source.name,
        path=Path(source.checkpoint),
        model=role.settings.model,
        method="as saved",
        settings={
            **role.settings.model_dump(),
            "labels": labels,
            **checkpoint_record(ctx, role),
        },
        key=weights_key(source.checkpoint),
        kind=role.kind.value,
        labels=labels,
        max_length=role.max_length,
        reused=True,
    )
