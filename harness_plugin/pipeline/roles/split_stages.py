"""Encoded rows, outputs and predictions of a split, as stages; and processors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from transformers.utils import cached_file

from harness_plugin.data.split import Split
from harness_plugin.errors import HarnessError
from harness_plugin.models import processors
from harness_plugin.models.classifiers import load_trained
from harness_plugin.pipeline.roles.context import RunContext, hardware_key, is_quiet
from harness_plugin.records import Predictions, TrainedModel, predictions_of
from harness_plugin.store.keys import code_version
from harness_plugin.store.stages import Stage, key_of
from harness_plugin.training import predict
from harness_plugin.training.compression import Compressor
from harness_plugin.training.inputs import encode

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def processor_of(ctx: RunContext, checkpoint: str | None) -> tuple[Any, Path]:
    """The tokenizer or image processor of a checkpoint, and the folder (or hub id) it is from.

    None = of models built from scratch, which share one.
    """
    source = checkpoint or str(scratch_processor(ctx).path)
    if source not in ctx.processors:
        trust = ctx.config.trust_remote_code and checkpoint is not None
        loaded = processors.load_processor(source, ctx.task.modality, trust)
        ctx.processors[source] = (loaded, Path(source))
    return ctx.processors[source]


def scratch_processor(ctx: RunContext) -> Stage:
    """The stage with the processor of models built from scratch."""
    text, known = ctx.task.modality == "text", ctx.vocabulary or ctx.data.train
    spec: dict[str, Any] = {"modality": ctx.task.modality}
    if text:
        spec |= {"train": known.fingerprint, "inputs": list(ctx.task.inputs)}
        spec |= {"vocab_size": ctx.plan.vocab_size}
        spec |= {"code": code_version("harness_plugin.models.processors:train_tokenizer")}
    else:
        spec |= {"image": ctx.plan.image.model_dump(exclude={"center_crop"})}
        spec |= {"code": code_version("harness_plugin.models.processors:save_image_processor")}

    def build(folder: Path) -> None:
        if not ctx.store.processes.is_main:
            return
        if text:
            texts = processors.texts_of(known, ctx.task.inputs)
            processors.train_tokenizer(texts, ctx.plan.vocab_size, folder)
        else:
            processors.save_image_processor(ctx.plan.image, folder)

    return ctx.store.run("processor", spec, build)


def encoded_rows(
    ctx: RunContext,
    split: Split,
    checkpoint: str | None,
    max_length: int,
    inputs: Sequence[str] | None = None,
) -> encode.Encoded:
    """The model inputs of `split`; `inputs` are the columns that are seen, by default all."""
    return encode.encode(
        split,
        inputs or ctx.task.inputs,
        processor_of(ctx, checkpoint)[0],
        ctx.store,
        max_length=max_length,
        center_crop=ctx.plan.image.center_crop,
        quiet=is_quiet(ctx),
    )


def encoded_key(
    ctx: RunContext,
    split: Split,
    checkpoint: str | None,
    max_length: int,
    inputs: Sequence[str] | None = None,
) -> str:
    """The key of `encoded_rows`; nothing is encoded."""
    spec = encode.spec_of(
        split,
        inputs or ctx.task.inputs,
        processor_of(ctx, checkpoint)[0],
        max_length=max_length,
        center_crop=ctx.plan.image.center_crop,
    )
    return key_of({"kind": encode.KIND, **spec})


def logits_stage(ctx: RunContext, model: TrainedModel, split: Split) -> Stage:
    """One model's logits on one split: `logits.npy` (N, C) float32, by row.

    Ids are not kept beside them: the key holds the split's fingerprint, and with it every id in
    order, so that a million rows of three logits are 12 MB.
    """
    return predict_stage(
        ctx, model.path, model.key, model.max_length, split, None, role=model.role, features=False
    )


def predict_stage(
    ctx: RunContext,
    checkpoint: Path,
    key: str,
    max_length: int,
    split: Split,
    inputs: Sequence[str] | None,
    *,
    role: str,
    features: bool,
) -> Stage:
    """Outputs of a checkpoint on a split: `logits.npy` (N, C), `features.npy` (N, H) on request.

    `key` says which weights these are: the key of the stage that made them, or their hash; `role`
    what is said of the model while it works.
    """
    # a checkpoint that was just built is read from its own folder, processor and all
    spec = {
        "model": key,
        "split": split.fingerprint,
        "rows": encoded_key(ctx, split, str(checkpoint), max_length, inputs),
        "hardware": hardware_key(ctx),
        "batch_size": ctx.config.eval_batch_size,
        "code": code_version("harness_plugin.training.predict:predict_with_features"),
    }

    def build(folder: Path) -> dict[str, Any]:
        model = load_trained(
            str(checkpoint),
            ctx.task.modality,
            attention=ctx.hardware.attention,
            trust_remote_code=ctx.config.trust_remote_code,
        )
        arguments: dict[str, Any] = {
            "batch_size": ctx.config.eval_batch_size,
            "name": f"{role} on {split.name}",
            "quiet": is_quiet(ctx),
        }
        rows = encoded_rows(ctx, split, str(checkpoint), max_length, inputs)
        if not features:
            model = answering(ctx, checkpoint, model)
        if features:
            logits, inside = predict.predict_with_features(
                ctx.accelerator, model, rows, **arguments
            )
        else:
            logits = predict.predict(ctx.accelerator, model, rows, **arguments)
        if ctx.store.processes.is_main:
            np.save(folder / "logits.npy", logits)
            if features:
                np.save(folder / "features.npy", inside)
        return {"rows": len(split)}

    return ctx.store.run("features" if features else "logits", spec, build)


ANSWERING = "answering.json"
"""In the folder of a compressed model: the compressor that predicts in its place, and options."""


def answering(ctx: RunContext, checkpoint: Path, model: PreTrainedModel) -> Any:
    """The module that predicts for a loaded checkpoint: mostly the model itself."""
    file = checkpoint / ANSWERING
    if not file.is_file():
        return model
    chosen = json.loads(file.read_text(encoding="utf-8"))
    cls = ctx.plugins["compressor"].offer(chosen["name"]).subclass(Compressor)
    return cls.answering(model, checkpoint, cls.resolved(chosen["options"]))


def predict_split(ctx: RunContext, model: TrainedModel, split: Split) -> Predictions:
    """Predictions of `model` on `split`."""
    logits: NDArray[np.float32] = np.load(logits_stage(ctx, model, split).path / "logits.npy")
    return predictions_of(
        split,
        logits,
        task=ctx.task.task,
        role=model.role,
        model=model.name,
        seed=model.seed,
        model_labels=model.labels,
        texts=ctx.task.inputs if ctx.task.modality == "text" else (),
    )


def label_order(model: TrainedModel, labels: tuple[str, ...]) -> list[int]:
    """Columns of a teacher's logits in the order of `labels`; matched by name, never position."""
    theirs = [name.lower() for name in model.labels]
    ours = [name.lower() for name in labels]
    if sorted(theirs) != sorted(ours):
        raise HarnessError(
            f"teacher {model.name} predicts {', '.join(model.labels)}, its student "
            f"{', '.join(labels)}: distillation needs the same labels."
        )
    return [theirs.index(name) for name in ours]


def weights_key(checkpoint: str) -> str:
    """Hash of a checkpoint's weights and configuration; a hub id's key is its commit."""
    folder = Path(checkpoint)
    if not folder.is_dir():
        commit = Path(str(cached_file(checkpoint, "config.json"))).parent.name
        return f"{checkpoint}@{commit}"
    files = sorted([*folder.glob("*.safetensors"), folder / "config.json"])
    files += [file for file in (folder / ANSWERING,) if file.is_file()]
    return hash_of(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@cache
def hash_of(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Hash of the content of files; size and time tell a file that was replaced meanwhile."""
    digest = hashlib.sha256()
    for file, _, _ in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:20]
