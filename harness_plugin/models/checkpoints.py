"""A name or a checkpoint: where a model comes from, its configuration and its labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from harness_plugin.config.settings import RoleSettings
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.models.hub import is_hub_id, options_of, reading
from harness_plugin.models.weight_files import check_folder
from harness_plugin.plugins.registry import Plugins


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
    """Source of a model: a preset to be initialised, or a checkpoint to be loaded."""

    name: str
    backbone: Backbone | None = None
    checkpoint: str | None = None
    model_type: str = ""
    """Model type that a preset's checkpoint is read as, where its configuration names another."""

    def spec(self) -> list[Any]:
        """The specification of the first weights, as JSON, without a checkpoint's content."""
        if self.backbone is not None:
            return [self.backbone.model_type, dict(self.backbone.config)]
        return [self.checkpoint, self.model_type]


def locate(settings: RoleSettings, modality: str, plugins: Plugins) -> Source:
    """The source of `settings.model`: a preset, a local folder, or a hub id (with a slash).

    Raises HarnessError for an unknown name, a preset of the other modality, a folder that is no
    checkpoint, or a preset without a hub checkpoint where `init` asks for one.
    """
    name = settings.model
    presets = plugins["backbone"]
    if name in presets:
        backbone = presets.offer(name).instance(Backbone)
        if backbone.modality != modality:
            fitting = [
                n
                for n, preset in presets.instances(Backbone).items()
                if preset.modality == modality
            ]
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
        check_folder(Path(name))
        return Source(Path(name).resolve().name, checkpoint=name)
    if is_hub_id(name):
        return Source(name, checkpoint=name)
    if name.startswith((".", "~")) or "/" in name or os.sep in name:
        raise HarnessError(f"model {name!r}: no such folder (an id of the hub is owner/name).")
    raise unknown("backbone", name, [offer.name for offer in presets])


def read_as(source: Source, config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration as that of the preset's model type: T5's encoder from a whole T5."""
    if source.model_type in ("", config.model_type):
        return config
    known = AutoConfig.for_model(source.model_type).to_dict()
    kept = {k: v for k, v in config.to_dict().items() if k in known and k != "model_type"}
    return AutoConfig.for_model(source.model_type, **kept)


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


def overridden(config: PreTrainedConfig, changes: Mapping[str, Any]) -> PreTrainedConfig:
    """`config` with `changes`; lists with one entry a layer are cut along with the layers.

    Raises HarnessError for values that the architecture refuses.
    """
    before = config.to_dict()
    layers, fewer = before.get("num_hidden_layers"), changes.get("num_hidden_layers")
    cut: dict[str, Any] = {}
    if isinstance(layers, int) and isinstance(fewer, int) and fewer < layers:
        per_layer = {k: v for k, v in before.items() if isinstance(v, list) and len(v) == layers}
        cut = {name: value[:fewer] for name, value in per_layer.items()}
        # what a DINOv2 hands on where it is a backbone, by layer: a classifier has no use for it
        cut |= {name: None for name in ("out_features", "out_indices") if name in before}
    with reading(str(config.name_or_path or config.model_type)):
        return type(config).from_dict({**before, **cut, **changes})


def load_config(checkpoint: str, trust_remote_code: bool = False) -> PreTrainedConfig:
    """A checkpoint's configuration."""
    options = options_of(checkpoint)
    with reading(checkpoint):
        return AutoConfig.from_pretrained(
            checkpoint, trust_remote_code=trust_remote_code, **options
        )


def checkpoint_labels(checkpoint: str, trust_remote_code: bool = False) -> tuple[str, ...]:
    """The label names in a checkpoint's configuration, in logit order."""
    config = load_config(checkpoint, trust_remote_code)
    names: dict[int, Any] = dict(config.id2label or {})
    return tuple(str(names[i]) for i in sorted(names))


def trained_labels(
    checkpoint: str, declared: tuple[str, ...] | None, role: str, trust_remote_code: bool = False
) -> tuple[str, ...]:
    """The labels of a trained checkpoint, from `declared` or its configuration.

    Raises HarnessError for LABEL_0-style names, which say nothing about the order of classes
    (transformers #6179: the wrong guess turns 84% into 7%), for names that contradict each other,
    and for heads whose largest logit is no answer: regression and multi-label classification.
    """
    config = load_config(checkpoint, trust_remote_code)
    where = f"{role}: checkpoint {checkpoint}"
    if config.problem_type == "multi_label_classification":
        raise HarnessError(
            f"{where} is a multi-label classifier (problem_type in config.json): any number of its "
            f"labels may hold at once, and tasks here have one label a row. Take another."
        )
    labels = checkpoint_labels(checkpoint, trust_remote_code)
    if len(labels) == 1:
        raise HarnessError(
            f"{where} has one output: a regression, not a classifier of two or more labels. Take "
            f"another."
        )
    if declared is not None:
        if len(declared) != len(labels):
            raise HarnessError(
                f"{role}: {len(declared)} labels were given, {checkpoint} has "
                f"{len(labels)} classes."
            )
        return declared
    say = f"Say what they are, in the order of the logits: --set {role}.labels="
    if any(name.upper().startswith("LABEL_") for name in labels):
        raise HarnessError(
            f"{role}: checkpoint {checkpoint} calls its classes {', '.join(labels)}. {say}"
            f"'[entailment, neutral, contradiction]'."
        )
    if sorted(config.id2label) != list(range(len(labels))) or len(set(labels)) < len(labels):
        raise HarnessError(
            f"{where}: id2label {config.id2label} does not name each logit. {say}[…]."
        )
    reverse = {str(name): index for name, index in (config.label2id or {}).items()}
    if set(reverse) == set(labels) and any(reverse[n] != i for i, n in enumerate(labels)):
        raise HarnessError(
            f"{where}: id2label {config.id2label} and label2id {config.label2id} contradict each "
            f"other. {say}[…]."
        )
    return labels
