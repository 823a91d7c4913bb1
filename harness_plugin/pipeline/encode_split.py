"""Splits as the models of a run read them: processors, and encoded rows as stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness_plugin.data.split import Split
from harness_plugin.models import processors
from harness_plugin.pipeline.context import RunContext, is_quiet
from harness_plugin.store.keys import code_version
from harness_plugin.store.stages import Stage, key_of
from harness_plugin.training import encode


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
