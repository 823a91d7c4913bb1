"""Classifiers: built with random weights, or loaded from a checkpoint through Auto classes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
)

from harness_plugin.config.settings import RoleSettings
from harness_plugin.errors import HarnessError
from harness_plugin.models.checkpoints import (
    Source,
    check_config,
    checkpoint_labels,
    load_config,
    overridden,
    read_as,
)
from harness_plugin.models.hub import options_of, reading
from harness_plugin.models.network import last_layer
from harness_plugin.models.processors import load_processor

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

DTYPE = torch.float32
"""Type of weights in memory, however they are stored: half-precision updates are rounded away
(after 20 at 2e-5, 97.6% of a bfloat16 model's values are the same). `--precision` sets autocast."""
AUTO = {"text": AutoModelForSequenceClassification, "image": AutoModelForImageClassification}

CLASSES = {
    "text": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    "image": MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
}


def build_model(
    source: Source,
    settings: RoleSettings,
    *,
    modality: str,
    labels: tuple[str, ...],
    processor: Any,
    attention: str,
    seed: int,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """A classifier over `labels`: a preset's random weights (from `seed`), or a checkpoint.

    A checkpoint with other labels, or none, gets a new head. Raises HarnessError when the
    checkpoint cannot be loaded.
    """
    names = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    torch.manual_seed(seed)
    if source.backbone is not None:
        arguments = {**source.backbone.config, **settings.config, **names}
        if modality == "text":
            arguments["vocab_size"] = len(processor)
            arguments["pad_token_id"] = processor.pad_token_id
            if arguments.get("type_vocab_size") == 1:  # RoBERTa's own tokenizer knows one segment
                arguments["type_vocab_size"] = 2
            if source.backbone.model_type == "t5":  # its decoder is read where a text ends
                arguments["eos_token_id"] = processor.sep_token_id
        elif "image_size" in AutoConfig.for_model(source.backbone.model_type).to_dict():
            arguments["image_size"] = processor.size["height"]
        check_config(source.name, AutoConfig.for_model(source.backbone.model_type), settings)
        with reading(source.name):
            config = AutoConfig.for_model(source.backbone.model_type, **arguments)
            attention = supported_attention(config, modality, attention)
            return AUTO[modality].from_config(config, attn_implementation=attention)
    if source.checkpoint is None:
        raise HarnessError(f"model {source.name!r} has neither a preset nor a checkpoint.")
    same_head = checkpoint_labels(source.checkpoint, trust_remote_code) == labels
    config = read_as(source, load_config(source.checkpoint, trust_remote_code))
    check_config(source.name, config, settings)
    config = overridden(config, {**settings.config, **names})
    config.problem_type = "single_label_classification"
    model, info = read_weights(
        source.checkpoint,
        config,
        modality,
        attention=supported_attention(config, modality, attention),
        trust_remote_code=trust_remote_code,
    )
    if lacking := lacking_body(model, info):
        raise HarnessError(f"checkpoint {source.checkpoint}: {lacking}.")
    if modality == "text":
        align_padding(model, processor)
    return model if same_head else with_new_head(model, modality)


def read_weights(
    checkpoint: str,
    config: PreTrainedConfig,
    modality: str,
    *,
    attention: str = "eager",
    device: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A classifier of `config` with a checkpoint's weights in float32, and what did not fit.

    Missing and misshapen weights are initialised anew; the second result names them, as
    transformers' `output_loading_info`. `device="meta"` reads names and shapes alone.
    """
    options = {**options_of(checkpoint), **({"device_map": device} if device else {})}
    with reading(checkpoint):
        model, info = AUTO[modality].from_pretrained(
            checkpoint,
            config=config,
            dtype=DTYPE,
            ignore_mismatched_sizes=True,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **options,
        )
    return model, info


def lacking_body(model: PreTrainedModel, info: Mapping[str, Any]) -> str:
    """The part that a body lacks before a new head can be put on it; "" where it is complete.

    A pooling layer counts as part of the head: checkpoints of masked language models have none.
    """
    head = set(head_names(model))
    names = misfits(info)
    if not (lacking := [name for name in names if name not in head and "pooler" not in name]):
        return ""
    return (
        f"{len(lacking)} weights of its body are missing or of another shape than its "
        f"configuration says ({named(lacking)}): config.json and weights are of two models, or "
        f"settings.config asks for another shape; take both from one save_pretrained"
    )


def misfits(info: Mapping[str, Any]) -> list[str]:
    """The weights of a model that a checkpoint lacks, or has in another shape."""
    return sorted({*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])})


def reads_padding(model: PreTrainedModel) -> bool:
    """Whether a classifier finds the end of a text by the id of padding, as decoders do."""
    return "pad_token_id" in inspect.getsource(type(model).forward)


def align_padding(model: PreTrainedModel, tokenizer: Any) -> None:
    """Let a decoder know the padding that its tokenizer makes.

    With another id in its configuration it takes padding for the end of a text, so that labels
    depend on what else is in a batch.
    """
    if reads_padding(model):
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id


def with_new_head(model: PreTrainedModel, modality: str) -> PreTrainedModel:
    """`model` with fresh weights outside its body; where the body has no name, in its last layer.

    A head of as many classes loads without complaint, and its first class would go by another
    name than the one it was trained for.
    """
    fresh = AUTO[modality].from_config(model.config).state_dict()
    model.load_state_dict({name: fresh[name] for name in head_names(model)}, strict=False)
    return model


def head_names(model: PreTrainedModel) -> list[str]:
    """The names of the weights outside a classifier's body; of its last layer, where all are."""
    names, body = list(model.state_dict()), f"{model.base_model_prefix}."
    outside = [name for name in names if not name.startswith(body)]
    if len(outside) < len(names):
        return outside
    head = last_layer(model)
    (place,) = [name for name, module in model.named_modules() if module is head]
    return [name for name in names if name.startswith(f"{place}.")]


def load_trained(
    checkpoint: str, modality: str, *, attention: str, trust_remote_code: bool = False
) -> PreTrainedModel:
    """A trained classifier as it was saved, in float32; a missing weight is an error."""
    config = load_config(checkpoint, trust_remote_code)
    model, info = read_weights(
        checkpoint,
        config,
        modality,
        attention=supported_attention(config, modality, attention),
        trust_remote_code=trust_remote_code,
    )
    if lacking := misfits(info):
        raise HarnessError(
            f"checkpoint {checkpoint}: weights are missing for {named(lacking)}; it is not a "
            f"trained classifier."
        )
    if modality == "text" and reads_padding(model):
        align_padding(model, load_processor(checkpoint, modality, trust_remote_code))
    return model


def named(names: list[str]) -> str:
    """The first three of `names`."""
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def supported_attention(config: PreTrainedConfig, modality: str, attention: str) -> str:
    """`attention`, or "eager" for an architecture that has no other (a ResNet has none at all)."""
    architecture = CLASSES[modality].get(type(config), None)
    return attention if getattr(architecture, "_supports_sdpa", False) else "eager"


def model_card(folder: Path, facts: Mapping[str, Any]) -> None:
    """A README.md beside the weights: what the model is, how it was trained, on what."""
    lines = [
        "---",
        "library_name: transformers",
        "tags: [harness-plugin, debiasing, knowledge-distillation]",
        "---",
        f"# {facts['role']} of task {facts['task']}, seed {facts['seed']}",
        "",
        "Trained by harness-plugin to measure how much debiasing survives distillation.",
        "",
        "```json",
        json.dumps(facts, indent=2, default=str),
        "```",
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
