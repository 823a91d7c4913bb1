"""Modules that compressors work on: linear and convolution layers of a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from harness_plugin.errors import HarnessError
from harness_plugin.models.network import last_layer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def weight_layers(model: PreTrainedModel, head: bool) -> dict[str, nn.Linear | nn.Conv2d]:
    """Linear and convolution layers by name; with `head` also the last one, which gives logits.

    Embeddings and normalisation are none of them. Raises HarnessError for a model without any.
    """
    left_out = None if head else last_layer(model)
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and module is not left_out
    }
    if not layers:
        raise HarnessError(
            f"{type(model).__name__} has no linear or convolution layer before its last one: there "
            "is nothing to compress. Take another model, or another compressor."
        )
    return layers


def parameters_in(model: nn.Module) -> int:
    """How many parameters a model has; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())
