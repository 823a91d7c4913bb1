"""Whole parts of a model left out: heads, filters, layers.

Heads and filters are set to zero where they stand, as transformers configurations know one number
of them for all layers; layers are taken out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from harness_plugin.errors import HarnessError
from harness_plugin.models.layers import attention_projections
from harness_plugin.models.transplant import MAPS
from harness_plugin.training.compression import CompressionContext, Compressor
from harness_plugin_hooks.compress.targets import parameters_in, weight_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Heads(Compressor):
    """The attention heads with the smallest weights set to 0, the same share in every layer.

    A head's size is the L2 norm of its query, key and value weights; its values become 0, so that
    it adds nothing. At least one head of a layer stays.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"sparsity": 0.5}

    @classmethod
    @torch.no_grad()
    def compress(
        cls, model: PreTrainedModel, context: CompressionContext, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Set heads to 0; the record has how many of how many."""
        heads = getattr(model.config, "num_attention_heads", 0)
        layers = list(attention_projections(model))
        if not layers or not isinstance(heads, int) or not heads:
            raise HarnessError(
                f"{type(model).__name__} has no attention heads to take out; take channels."
            )
        count = min(heads - 1, round(float(options["sparsity"]) * heads))
        for projections in layers:
            parts = [p.weight.reshape(heads, -1) for p in projections]  # type: ignore[operator]
            smallest = torch.cat(parts, dim=1).norm(dim=1).argsort(stable=True)[:count]
            for projection in projections:
                for name in ("weight", "bias"):
                    if (values := getattr(projection, name)) is not None:
                        values.reshape(heads, -1)[smallest] = 0
        return {"pruned_heads": count * len(layers), "of_heads": heads * len(layers)}


class Channels(Compressor):
    """The output channels with the smallest L1 norm set to 0, the same share in every layer.

    For convolutions these are the filters of Li et al. (2017, section 3.1), for linear layers their
    output features; biases go with them. At least one channel of a layer stays.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"sparsity": 0.5}

    @classmethod
    @torch.no_grad()
    def compress(
        cls, model: PreTrainedModel, context: CompressionContext, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Set channels to 0; the record has how many of how many."""
        zeroed = of = 0
        for layer in weight_layers(model, head=False).values():
            channels = len(layer.weight)
            count = min(channels - 1, round(float(options["sparsity"]) * channels))
            smallest = layer.weight.abs().flatten(1).sum(dim=1).argsort(stable=True)[:count]
            layer.weight[smallest] = 0
            if layer.bias is not None:
                layer.bias[smallest] = 0
            zeroed, of = zeroed + count, of + channels
        return {"pruned_channels": zeroed, "of_channels": of}


class WholeLayers(Compressor):
    """`keep` of a transformer's layers stay, half of them for 0: `which` are "even" or "first".

    "even" spreads those that stay (of 12 for 6: 0, 2, … 10), "first" takes the last ones out.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"keep": 0, "which": "even"}

    @classmethod
    def compress(
        cls, model: PreTrainedModel, context: CompressionContext, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Take layers out of the model and its configuration; the record has which stay."""
        depth = getattr(model.config, "num_hidden_layers", None)
        lists = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, nn.ModuleList) and len(module) == depth
        }
        stacks = [  # a layer may hold a list of as many parts
            (name, module)
            for name, module in lists.items()
            if not any(name.startswith(f"{other}.") for other in lists)
        ]
        if len(stacks) != 1:
            raise HarnessError(
                f"{type(model).__name__} is no single stack of layers of one kind, of which some "
                "could be taken out; take another compressor."
            )
        name, stack = stacks[0]
        keep = int(options["keep"]) or max(1, len(stack) // 2)
        if keep > len(stack):
            raise HarnessError(
                f"layers: keep {keep} of a model with {len(stack)} layers: keep at most "
                f"{len(stack)}."
            )
        kept = [MAPS[options["which"]](layer, keep, len(stack)) for layer in range(keep)]
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, nn.ModuleList(stack[layer] for layer in kept))
        config = model.config
        for key, value in config.to_dict().items():
            if isinstance(value, list) and len(value) == depth and not isinstance(depth, str):
                setattr(config, key, [value[layer] for layer in kept])
        config.num_hidden_layers = keep
        return {"layers": kept, "of_layers": len(stack), "bytes": 4 * parameters_in(model)}
