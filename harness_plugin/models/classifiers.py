"""Classifiers: built with random weights, or loaded from a checkpoint through Auto classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from harness_plugin.config.settings import RoleSettings
from harness_plugin.errors import HarnessError
from harness_plugin.models.checkpoints import (
    Source,
    check_config,
    checkpoint_labels,
    hub_errors,
    load_config,
    read_as,
)
from harness_plugin.models.network import last_layer

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
        try:
            config = AutoConfig.for_model(source.backbone.model_type, **arguments)
            attention = supported_attention(config, modality, attention)
            return AUTO[modality].from_config(config, attn_implementation=attention)
        except (TypeError, ValueError) as error:
            raise HarnessError(f"backbone {source.name}: {error}") from error
    if source.checkpoint is None:
        raise HarnessError(f"model {source.name!r} has neither a preset nor a checkpoint.")
    same_head = checkpoint_labels(source.checkpoint, trust_remote_code) == labels
    config = read_as(source, load_config(source.checkpoint, trust_remote_code))
    check_config(source.name, config, settings)
    config.update(settings.config if same_head else {**settings.config, **names})
    try:
        model: PreTrainedModel = AUTO[modality].from_pretrained(
            source.checkpoint,
            config=config,
            ignore_mismatched_sizes=not same_head,
            attn_implementation=supported_attention(config, modality, attention),
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise hub_errors(source.checkpoint, error) from error
    return model if same_head else with_new_head(model, modality)


def with_new_head(model: PreTrainedModel, modality: str) -> PreTrainedModel:
    """`model` with fresh weights outside its body; where the body has no name, in its last layer.

    A head of as many classes loads without complaint, and its first class would go by another
    name than the one it was trained for.
    """
    fresh = AUTO[modality].from_config(model.config).state_dict()
    body = f"{model.base_model_prefix}."
    outside = [name for name in fresh if not name.startswith(body)]
    if len(outside) == len(fresh):
        head = last_layer(model)
        (place,) = [name for name, module in model.named_modules() if module is head]
        outside = [name for name in fresh if name.startswith(f"{place}.")]
    model.load_state_dict({name: fresh[name] for name in outside}, strict=False)
    return model


def load_trained(
    checkpoint: str, modality: str, *, attention: str, trust_remote_code: bool = False
) -> PreTrainedModel:
    """A trained classifier exactly as it was saved; a missing weight is an error."""
    config = load_config(checkpoint, trust_remote_code)
    try:
        model, info = AUTO[modality].from_pretrained(
            checkpoint,
            attn_implementation=supported_attention(config, modality, attention),
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise hub_errors(checkpoint, error) from error
    if missing := sorted(info["missing_keys"]):
        raise HarnessError(
            f"checkpoint {checkpoint}: weights are missing for {', '.join(missing[:3])}"
            f"{' …' if len(missing) > 3 else ''}; it is not a trained classifier."
        )
    return model


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
