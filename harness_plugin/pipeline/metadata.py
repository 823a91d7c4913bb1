"""What methods and distillers may know of the training rows, and the stages that find it out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from harness_plugin.data.split import Split
from harness_plugin.errors import HarnessError
from harness_plugin.pipeline.context import RunContext
from harness_plugin.store.stages import Stage
from harness_plugin.training.batch import TrainingMetadata
from harness_plugin.training.contracts import Prepared
from harness_plugin.training.trainer import Trainer


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
    """What a method and a distiller with these `needs` may know, and the stages it came from.

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
