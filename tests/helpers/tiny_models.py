"""Small classifiers of any architecture, with random weights."""

from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
)

from harness_plugin.models.t5 import T5EncoderClassifierConfig

IMAGES = ("resnet", "vit", "swin", "dinov2")


def tiny_model(kind, labels, **arguments):
    """A classifier of `kind` with eager attention, whose weights are drawn by torch's seed."""
    if kind == "t5_encoder_classifier":
        config = T5EncoderClassifierConfig(**arguments)
    else:
        config = AutoConfig.for_model(kind, **arguments)
    config.num_labels = labels
    auto = AutoModelForImageClassification if kind in IMAGES else AutoModelForSequenceClassification
    return auto.from_config(config, attn_implementation="eager")
