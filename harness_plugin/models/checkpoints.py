"""A name or a checkpoint: where a model comes from, its configuration and its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from harness_plugin.config.settings import RoleSettings
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.plugins.registry import Plugins

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

    def spec(self) -> list[Any]:
        """What of a name decides the first weights, as JSON, but for a checkpoint's content."""
        if self.backbone is not None:
            return [self.backbone.model_type, dict(self.backbone.config)]
        return [self.checkpoint, self.model_type]


def locate(settings: RoleSettings, modality: str, plugins: Plugins) -> Source:
    """What `settings.model` means: a preset, a local folder, or a hub id (it has a slash).

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


def load_config(checkpoint: str, trust_remote_code: bool = False) -> PreTrainedConfig:
    """A checkpoint's configuration."""
    try:
        return AutoConfig.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise hub_errors(checkpoint, error) from error


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
