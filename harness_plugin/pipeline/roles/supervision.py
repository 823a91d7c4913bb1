"""Supervision of a training besides its labels: groups, a bias model, teachers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness_plugin.data.split import Split
from harness_plugin.errors import HarnessError
from harness_plugin.models import processors
from harness_plugin.models.classifiers import load_trained
from harness_plugin.models.layers import OnlineTeacher
from harness_plugin.models.network import last_layer
from harness_plugin.models.transplant import Start, check_families, from_teacher
from harness_plugin.pipeline.prepare.plan import Distillation, ResolvedRole
from harness_plugin.pipeline.roles.context import RunContext
from harness_plugin.pipeline.roles.split_stages import (
    encoded_rows,
    label_order,
    logits_stage,
    predict_stage,
)
from harness_plugin.records import TrainedModel
from harness_plugin.store.stages import Stage
from harness_plugin.training.batch import TrainingMetadata
from harness_plugin.training.contracts import Method, Prepared
from harness_plugin.training.ensemble import Ensemble
from harness_plugin.training.inputs.encode import EncodedRows, processor_key
from harness_plugin.training.loss import DistillationLoss
from harness_plugin.training.teacher_outputs import TeacherOutputs
from harness_plugin.training.trainer import Ints, Trainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def metadata_of(split: Split) -> TrainingMetadata:
    """Labels, groups and attributes of a split as it is."""
    values, environment = np.unique(
        np.asarray(split.column("attribute"), np.str_), return_inverse=True
    )
    names = tuple(value for value in values.tolist() if value)
    environment = environment.astype(np.int64) - (1 if "" in values else 0)  # "" sorts first
    return TrainingMetadata(
        label=torch.from_numpy(split.label),
        group=torch.from_numpy(split.group),
        n_labels=len(split.labels),
        groups=split.groups,
        environment=torch.from_numpy(environment),
        environments=names,
    )


def crossed(metadata: TrainingMetadata, labels: tuple[str, ...]) -> TrainingMetadata:
    """The metadata with the groups label x environment: "entailment/overlap" and so on."""
    if metadata.environment is None:
        raise HarnessError("groups were asked for from environments that do not exist.")
    names = metadata.environments
    group = metadata.label * len(names) + metadata.environment
    return replace(
        metadata,
        group=torch.where(metadata.environment < 0, -1, group),
        groups=tuple(f"{label}/{name}" for label in labels for name in names),
    )


def training_metadata(
    ctx: RunContext,
    needs: frozenset[str],
    trainer: Trainer,
    bias_trainer: Trainer | None,
    prepared: Prepared,
) -> tuple[TrainingMetadata, list[Stage]]:
    """Training metadata for these `needs`, and the stages they came from.

    Inferred groups are found with the role's own `trainer`, the bias model with `bias_trainer`.
    """
    metadata = replace(metadata_of(ctx.data.train), prepared=prepared.tensors)
    used: list[Stage] = []
    inference = ctx.plan.group_inference
    if inference is not None and needs & {"groups", "environments"}:
        stage: Stage = inference.cls.environments(trainer, inference.options)
        environment = torch.from_numpy(np.load(stage.path / "environment.npy"))
        names = tuple(stage.record["names"])
        inferred = replace(metadata, environment=environment, environments=names)
        metadata = crossed(inferred, ctx.data.train.labels)
        used.append(stage)
    if bias_trainer is not None and ctx.plan.bias_model is not None:
        bias = ctx.plan.bias_model
        stage = bias.cls.log_probs(bias_trainer, bias.options)
        log_probs = torch.from_numpy(np.load(stage.path / "log_probs.npy"))
        metadata = replace(metadata, bias_log_probs=log_probs)
        used.append(stage)
    return metadata, used


@dataclass(frozen=True)
class TeacherModels:
    """The trained teachers of one training of a student.

    `biased` is the model that `combine` "agre" and "extrapolate" avoid. `round_number` counts from
    0 where a student is trained in several rounds, and `start` are the weights a round goes on
    from.
    """

    models: tuple[TrainedModel, ...]
    biased: TrainedModel | None = None
    round_number: int = 0
    start: Stage | None = None

    @property
    def first(self) -> TrainedModel:
        """The teacher whose features, layers and weights are taken."""
        return self.models[0]


def output_stages(
    ctx: RunContext, distillation: Distillation, teachers: TeacherModels
) -> tuple[Stage, ...]:
    """The teachers' outputs on the training rows, computed once for all their students.

    A stage each, in the teachers' order; that of the biased model comes last.
    """
    if "features" in distillation.distiller.cls.teacher_outputs:
        first = teachers.first
        return (
            predict_stage(
                ctx,
                first.path,
                first.key,
                first.max_length,
                ctx.data.train,
                None,
                role=first.role,
                features=True,
            ),
        )
    models = teachers.models + ((teachers.biased,) if teachers.biased else ())
    return tuple(logits_stage(ctx, model, ctx.data.train) for model in models)


def teacher_outputs(
    ctx: RunContext,
    distillation: Distillation,
    teachers: TeacherModels,
    stages: Sequence[Stage],
    rows: NDArray[np.int64] | None,
) -> TeacherOutputs:
    """The stored outputs, and the teacher itself where its layers are compared.

    Of all training rows, but for a teacher in the loop, which reads `rows` (R,) alone.
    """
    first, labels = teachers.first, ctx.data.train.labels
    order = label_order(first, labels)

    def logits_of(model: TrainedModel, stage: Stage) -> Tensor:
        logits = np.load(stage.path / "logits.npy")[:, label_order(model, labels)]
        return torch.from_numpy(logits).to(ctx.accelerator.device)

    if len(teachers.models) > 1 or distillation.combine == "extrapolate":
        pairs = zip(teachers.models, stages, strict=False)  # the biased one is the last
        stacked = torch.stack([logits_of(model, stage) for model, stage in pairs], dim=1)
        biased = None if teachers.biased is None else logits_of(teachers.biased, stages[-1])
        ensemble = Ensemble(
            distillation.combine, distillation.temperature, biased, distillation.extrapolation
        )
        return TeacherOutputs(stacked, ensemble=ensemble)
    logits, needed = logits_of(first, stages[0]), distillation.distiller.cls.teacher_outputs
    if "layers" in needed:
        model = load_teacher(ctx, first, ctx.hardware.attention)
        encoded = encoded_rows(ctx, ctx.data.train, str(first.path), first.max_length)
        online = OnlineTeacher(model, encoded if rows is None else EncodedRows(encoded, rows))
        return TeacherOutputs(logits, live=online)
    if "features" not in needed:
        return TeacherOutputs(logits)
    head = last_layer(load_teacher(ctx, first))
    weight = head.weight.detach()[order].float()
    bias = torch.zeros(len(weight)) if head.bias is None else head.bias.detach().float()[order]
    features = np.load(stages[0].path / "features.npy", mmap_mode="r")
    return TeacherOutputs(logits, features, weight, bias)


def initialise_from_teacher(
    ctx: RunContext,
    student: PreTrainedModel,
    processor: Any,
    distillation: Distillation,
    teachers: TeacherModels,
) -> Start | None:
    """Put the teacher's weights into a student that starts from them; how much came over."""
    layers, first = distillation.from_teacher, teachers.first
    if layers == "none":
        return None
    model = load_teacher(ctx, first)
    check_families(student.config.model_type, model.config.model_type, layers)
    theirs = processors.load_processor(str(first.path), ctx.task.modality)
    same = processor_key(processor) == processor_key(theirs)
    order = label_order(first, ctx.data.train.labels)
    return from_teacher(student, model, layers, same_vocabulary=same, label_order=order)


def load_teacher(
    ctx: RunContext, teacher: TrainedModel, attention: str = "eager"
) -> PreTrainedModel:
    """The teacher's weights, on the CPU."""
    return load_trained(
        str(teacher.path),
        ctx.task.modality,
        attention=attention,
        trust_remote_code=ctx.config.trust_remote_code,
    )


def supervision_of(ctx: RunContext, role: ResolvedRole) -> dict[str, Any]:
    """Which labels besides the task's own a model was trained and chosen with."""
    needs: frozenset[str] = role.method.cls.needs
    needs |= frozenset().union(*(each.cls.needs for each in role.augmentations))
    if role.distillation is not None:
        needs |= role.distillation.needs
        chosen = {each.options.get("calibration") for each in role.compressors}
        needs |= {"groups"} if chosen & {"balanced", "conflicting"} else frozenset()
    wants = bool(needs & {"groups", "environments"})
    inference = ctx.plan.group_inference if wants else None
    held = {"validation_groups"} & needs
    if inference is not None:
        held |= {"validation_groups"} & inference.cls.needs
    return {
        "train_groups": wants and inference is None,
        "validation_groups": bool(held) or ctx.plan.select == "worst_group",
        "group_inference": inference.name if inference else None,
        "bias_model": ctx.settings.bias_model if "bias_model" in needs else None,
        "select": ctx.plan.select,
    }


def distillation_loss(
    ctx: RunContext,
    role: ResolvedRole,
    method: Method,
    metadata: TrainingMetadata,
    teachers: TeacherModels | None,
    rows: Ints | None,
) -> DistillationLoss:
    """The loss of a training on all training rows or on `rows` (R,) of them."""
    distillation = role.distillation
    if distillation is None or teachers is None:
        return DistillationLoss(method)
    stages = output_stages(ctx, distillation, teachers)
    outputs = teacher_outputs(ctx, distillation, teachers, stages, rows)
    return DistillationLoss(
        method,
        distillation.distiller.cls(
            distillation.temperature, metadata, **distillation.distiller.options
        ),
        outputs if rows is None else outputs.select(torch.from_numpy(rows)),
        ce_weight=distillation.ce_weight,
        kd_weight=distillation.kd_weight,
    )
