"""A name or a checkpoint → processor and model. Every checkpoint loads through Auto classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ViTImageProcessorPil,
)

from harness_plugin.config import ImageSettings, RoleSettings
from harness_plugin.data import Split
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.network import last_layer
from harness_plugin.plugins import Plugins

AUTO = {"text": AutoModelForSequenceClassification, "image": AutoModelForImageClassification}
CLASSES = {
    "text": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    "image": MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
}
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class Backbone:
    """A named architecture of one size.

    `config` are the arguments of the transformers configuration `model_type`; `hub_id` is the
    pretrained checkpoint, if one exists.
    """

    modality: str
    model_type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    hub_id: str | None = None


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a preset to be initialised, or a checkpoint to be loaded."""

    name: str
    backbone: Backbone | None = None
    checkpoint: str | None = None
    model_type: str = ""
    """What a preset's checkpoint is read as, where its own configuration says something else."""


def locate(settings: RoleSettings, modality: str, plugins: Plugins) -> Source:
    """What `settings.model` means: a preset, a local folder, or a hub id (it has a slash).

    Raises HarnessError for an unknown name, a preset of the other modality, a folder that is no
    checkpoint, or a preset without a hub checkpoint where `init` asks for one.
    """
    name = settings.model
    presets = plugins["backbone"]
    if name in presets:
        backbone: Backbone = presets.get(name)
        if backbone.modality != modality:
            fitting = [o.name for o in presets if o.load().modality == modality]
            raise HarnessError(
                f"backbone {name!r} reads {backbone.modality}, the task is {modality}. "
                f"Use one of {', '.join(fitting)}."
            )
        if settings.init == "scratch":
            return Source(name, backbone=backbone)
        if backbone.hub_id is None:
            raise HarnessError(
                f"backbone {name!r} has no pretrained checkpoint; use init=scratch, or name one."
            )
        return Source(name, checkpoint=backbone.hub_id, model_type=backbone.model_type)
    if Path(name).is_dir():
        check_checkpoint(Path(name))
        return Source(Path(name).resolve().name, checkpoint=name)
    if "/" in name and not name.startswith((".", "/", "~")):
        return Source(name, checkpoint=name)
    if "/" in name or name.startswith("."):
        raise HarnessError(f"model {name!r}: no such folder.")
    raise unknown("backbone", name, [offer.name for offer in presets])


def check_checkpoint(folder: Path) -> None:
    """Refuse a folder that is not a `save_pretrained` checkpoint with safetensors weights."""
    if not (folder / "config.json").is_file():
        raise HarnessError(f"checkpoint {folder}: no config.json; save it with save_pretrained.")
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise HarnessError(
            f"checkpoint {folder}: no weights ({' or '.join(WEIGHTS)}). Pickled weights (.bin) "
            f"are not loaded, because loading a pickle runs code: convert them to safetensors."
        )


def hub_errors(name: str, error: Exception) -> HarnessError:
    """One line for the many ways in which a checkpoint can fail to load."""
    reason = " ".join(str(error).split())[:300]
    return HarnessError(
        f"model {name!r} cannot be loaded: {reason}. Without a network, name a local folder "
        f"saved with save_pretrained, or use a preset with init=scratch."
    )


def train_tokenizer(texts: Iterable[str], vocab_size: int, folder: Path) -> None:
    """Train a lower-casing byte-level BPE on `texts` and save it as a fast tokenizer.

    Byte-level BPE, because its trainer gives the same vocabulary for the same text; WordPiece's
    and Unigram's do not (measured: three runs, three vocabularies).
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **dict(zip(names, special, strict=True)),
    ).save_pretrained(folder)


def texts_of(split: Split, inputs: Iterable[str]) -> Iterable[str]:
    """Every input text of a split, column by column."""
    for column in inputs:
        yield from split.rows[column]


def save_image_processor(image: ImageSettings, folder: Path) -> None:
    """Write the processor of a model built from scratch."""
    side = {"height": image.size, "width": image.size}
    ViTImageProcessorPil(size=side, image_mean=image.mean, image_std=image.std).save_pretrained(
        folder
    )


def load_processor(checkpoint: str, modality: str, trust_remote_code: bool = False) -> Any:
    """The tokenizer or image processor saved with a checkpoint."""
    auto = AutoTokenizer if modality == "text" else AutoImageProcessor
    options = {"use_fast": True} if modality == "text" else {"backend": "pil"}
    try:
        processor = auto.from_pretrained(checkpoint, trust_remote_code=trust_remote_code, **options)
    except (OSError, ValueError, KeyError) as error:
        raise hub_errors(checkpoint, error) from error
    if modality == "text" and not processor.is_fast:
        raise HarnessError(f"model {checkpoint!r} has no fast tokenizer; convert it first.")
    return processor


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


def read_as(source: Source, config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration as that of the preset's model type: T5's encoder from a whole T5."""
    if source.model_type in ("", config.model_type):
        return config
    known = AutoConfig.for_model(source.model_type).to_dict()
    told = {k: v for k, v in config.to_dict().items() if k in known and k != "model_type"}
    return AutoConfig.for_model(source.model_type, **told)


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


def check_settings(
    settings: RoleSettings, modality: str, plugins: Plugins, trust_remote_code: bool
) -> None:
    """Refuse a model that does not exist, or overrides that it does not know. Reads no weights."""
    source = locate(settings, modality, plugins)
    if source.backbone is not None:
        config = AutoConfig.for_model(source.backbone.model_type)
    else:
        config = read_as(source, load_config(str(source.checkpoint), trust_remote_code))
    check_config(source.name, config, settings)


def config_of(source: Source, settings: RoleSettings, trust_remote_code: bool) -> PreTrainedConfig:
    """The configuration a role's model will have, without its labels and vocabulary."""
    if source.backbone is None:
        return load_config(str(source.checkpoint), trust_remote_code)
    arguments = {**source.backbone.config, **settings.config}
    return AutoConfig.for_model(source.backbone.model_type, **arguments)


def model_type(source: Source, trust_remote_code: bool = False) -> str:
    """The transformers name of an architecture: "bert", "resnet"."""
    if source.backbone is not None:
        return source.backbone.model_type
    if source.model_type:
        return source.model_type
    return str(load_config(str(source.checkpoint), trust_remote_code).model_type)


def check_config(name: str, config: PreTrainedConfig, settings: RoleSettings) -> None:
    """Refuse an override that the architecture does not know: it would be ignored."""
    known = config.to_dict()
    for key in settings.config:
        if key not in known:
            raise unknown(f"configuration key of {name}", key, known)


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


def load_config(checkpoint: str, trust_remote_code: bool = False) -> PreTrainedConfig:
    """A checkpoint's configuration."""
    try:
        return AutoConfig.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise hub_errors(checkpoint, error) from error


def supported_attention(config: PreTrainedConfig, modality: str, attention: str) -> str:
    """`attention`, or "eager" for an architecture that has no other (a ResNet has none at all)."""
    architecture = CLASSES[modality].get(type(config), None)
    return attention if getattr(architecture, "_supports_sdpa", False) else "eager"


def checkpoint_labels(checkpoint: str, trust_remote_code: bool = False) -> tuple[str, ...]:
    """The label names in a checkpoint's configuration, in logit order."""
    config = load_config(checkpoint, trust_remote_code)
    names: dict[int, str] = dict(config.id2label or {})
    return tuple(names[i] for i in sorted(names))


def trained_labels(
    checkpoint: str, given: tuple[str, ...] | None, role: str, trust_remote_code: bool = False
) -> tuple[str, ...]:
    """The labels of a trained checkpoint, from `given` or its configuration.

    Raises HarnessError for LABEL_0-style names, which say nothing about the order of classes
    (transformers #6179: the wrong guess turns 84% into 7%).
    """
    labels = checkpoint_labels(checkpoint, trust_remote_code)
    if given is not None:
        if len(given) != len(labels):
            raise HarnessError(
                f"{role}: {len(given)} labels were given, {checkpoint} has {len(labels)} classes."
            )
        return given
    if any(name.upper().startswith("LABEL_") for name in labels):
        raise HarnessError(
            f"{role}: checkpoint {checkpoint} calls its classes {', '.join(labels)}. Say what they "
            f"are, in that order: --set {role}.labels='[entailment, neutral, contradiction]'."
        )
    return labels


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
