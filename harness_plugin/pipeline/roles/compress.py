"""A trained model made smaller, as a stage: the folder of a checkpoint, and what it weighs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from harness_plugin.data.split import Ints, Split
from harness_plugin.errors import HarnessError
from harness_plugin.models.classifiers import load_trained
from harness_plugin.models.network import last_layer
from harness_plugin.pipeline.prepare.plan import Component
from harness_plugin.pipeline.roles.split_stages import (
    ANSWERING,
    encoded_key,
    encoded_rows,
    label_order,
    processor_of,
)
from harness_plugin.pipeline.roles.trainer import RoleTrainer, hash_of_rows
from harness_plugin.records import TrainedModel
from harness_plugin.store.keys import code_version, target_of
from harness_plugin.store.stages import Stage
from harness_plugin.training.batch import Inputs
from harness_plugin.training.compression import CompressionContext, Compressor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

COMPRESSING = "harness_plugin.pipeline.roles.compress:compressed"
"""Where the code of a compression begins; the compressors' classes are added."""


def compressed(
    trainer: RoleTrainer, trained: TrainedModel, compressors: Sequence[Component[Compressor]]
) -> Stage:
    """`trained` after all `compressors`, in their order; its record has `compression`.

    The answer's order of labels is that of the training rows, whatever the model's was.
    """
    ctx = trainer.ctx
    train = ctx.data.train
    rows = [calibration_rows(train, each, trainer.seed) for each in compressors]
    read = encoded_key(ctx, train, str(trained.path), trained.max_length)
    order = label_order(trained, train.labels)
    spec = {
        "trained": trained.key,
        "labels": list(train.labels),
        "label_order": order,
        "compressors": [each.spec() for each in compressors],
        "calibration": [None if some is None else [read, hash_of_rows(some)] for some in rows],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "code": code_version(COMPRESSING, *(target_of(each.cls) for each in compressors)),
    }

    def build(folder: Path) -> Mapping[str, Any] | None:
        if not trainer.is_main:
            return None
        model = load_trained(
            str(trained.path),
            ctx.task.modality,
            attention=ctx.hardware.attention,
            trust_remote_code=ctx.config.trust_remote_code,
        ).eval()
        reorder_labels(model, train.labels, order)
        parts = []
        for each, some in zip(compressors, rows, strict=True):
            context = CompressionContext(folder, partial(batches, trainer, trained, some))
            try:
                facts = each.cls.compress(model, context, each.options)
            except HarnessError as error:
                raise HarnessError(
                    f"task {ctx.task.task}: {trainer.role_name}: compressor {each.name}: {error}"
                ) from None
            parts.append({**each.spec(), **facts})
            if each.cls.answers:
                (folder / ANSWERING).write_text(json.dumps(each.spec()), encoding="utf-8")
        record = {"compression": weighed(model, parts)}
        checkpoint = str(trained.path)
        _, processor_folder = processor_of(ctx, checkpoint)
        trainer.save(model, processor_folder, folder, record, spec)
        return record

    return ctx.store.run("model", spec, build)


def weighed(model: PreTrainedModel, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Record of every compressor, and the size of the resulting model.

    `bytes`: by the last compressor that has its own account, else 4 a parameter.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    zeros = sum(int((parameter == 0).sum()) for parameter in model.parameters())
    sizes = [int(part["bytes"]) for part in parts if "bytes" in part]
    return {
        "steps": [dict(part) for part in parts],
        "parameters": parameters,
        "zeros": zeros,
        "bytes": sizes[-1] if sizes else 4 * parameters,
    }


def account(stage: Stage) -> dict[str, Any]:
    """The compression record of a stage."""
    return dict(stage.record.get("compression", {"steps": []}))


def joined(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The account of compressors before and after a training."""
    return {**after, "steps": [*before["steps"], *after["steps"]]}


def reorder_labels(model: PreTrainedModel, labels: tuple[str, ...], order: list[int]) -> None:
    """Give the last layer the rows (C,) of `order`, and the configuration the names `labels`."""
    head = last_layer(model)
    for values in (head.weight, head.bias):
        if values is not None:
            values.data.copy_(values.data[order])
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {name: index for index, name in enumerate(labels)}


def batches(trainer: RoleTrainer, trained: TrainedModel, rows: Ints | None) -> Iterator[Inputs]:
    """The model inputs of training rows (R,), on the CPU."""
    if rows is None:
        return
    ctx = trainer.ctx
    encoded = encoded_rows(ctx, ctx.data.train, str(trained.path), trained.max_length)
    size = ctx.config.eval_batch_size
    for start in range(0, len(rows), size):
        yield encoded.batch(rows[start : start + size], torch.device("cpu"))


def calibration_rows(train: Split, chosen: Component[Compressor], seed: int) -> Ints | None:
    """(R,) the training rows that a compressor reads, in rising order; None where it reads none.

    "balanced": equally many of every group, all of one that has fewer.
    """
    if not chosen.cls.calibrated:
        return None
    which, count = str(chosen.options["calibration"]), int(chosen.options["rows"])
    rng = np.random.default_rng(seed)
    if which == "balanced":
        groups = [np.flatnonzero(member) for member in train.membership.T]
        groups = [group for group in groups if len(group)]
        each = max(1, count // len(groups))
        parts = [rng.permutation(group)[:each] for group in groups]
        return np.unique(np.concatenate(parts))
    pool = np.arange(len(train))
    if which == "conflicting":
        pool = np.flatnonzero(train.aligned == 0)
        if not len(pool):
            raise HarnessError(
                f"compressor {chosen.name}: no training row conflicts with the bias: take "
                "calibration random or balanced."
            )
    return np.sort(rng.permutation(pool)[:count]).astype(np.int64)
