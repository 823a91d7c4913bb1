"""Weights rounded to few bits, held and computed in float: any device runs them.

Round to nearest, weight only. What integer kernels add (rounded activations) is in `libraries`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from harness_plugin.training.compression import CompressionContext, Compressor
from harness_plugin_hooks.compress.targets import parameters_in, weight_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCALE_BITS = 16
"""Bits that a group's scale takes, and its zero point."""


def rounded(weight: Tensor, bits: int, group_size: int = 0, symmetric: bool = True) -> Tensor:
    """`weight` (out, ...) on a grid of at most 2**bits values of its own in each group.

    A group is the weights of one output channel, or `group_size` neighbours among them (the last
    group of a channel may be smaller). Symmetric: multiples of max|w| / (2**(bits-1) - 1), from
    -(2**(bits-1) - 1) to that. Otherwise 2**bits values a step (max - min) / (2**bits - 1) apart,
    0 among them (Jacob et al. 2018, section 2.1). No value moves by more than half a step.
    """
    rows = weight.detach().double().reshape(len(weight), -1)
    width = rows.shape[1]
    size = min(group_size, width) if group_size else width
    grouped = torch.nn.functional.pad(rows, (0, -width % size)).reshape(len(rows), -1, size)
    if symmetric:
        most = 2 ** (bits - 1) - 1
        step = grouped.abs().amax(dim=-1, keepdim=True) / most
        on_grid = (grouped / positive(step)).round() * step
    else:
        most = 2**bits - 1
        low = grouped.amin(dim=-1, keepdim=True).clamp(max=0)
        high = grouped.amax(dim=-1, keepdim=True).clamp(min=0)
        step = (high - low) / most
        zero = (-low / positive(step)).round()
        on_grid = ((grouped / positive(step)).round() + zero).clamp(0, most).sub(zero) * step
    flat: Tensor = on_grid.reshape(len(rows), -1)[:, :width]
    return flat.reshape(weight.shape).to(weight.dtype)


def positive(step: Tensor) -> Tensor:
    """The step, 1 where it is 0: a group of zeros stays as it is."""
    return torch.where(step > 0, step, 1.0)


class Rounding(Compressor):
    """Round-to-nearest weight quantisation, simulated: the weights are those of the integer model.

    `group_size`: weights that share a scale; 0 = a whole output channel, else 32 to 128 as is usual
    (Frantar et al. 2023 use 128). `head`: the last layer too. The size reported counts the bits of
    the rounded weights, 16 for every scale (and zero point), and 32 for all other parameters.
    """

    bits: ClassVar[int]
    after_training = True
    defaults: ClassVar[Mapping[str, Any]] = {"group_size": 0, "symmetric": True, "head": False}

    @classmethod
    def compress(
        cls, model: PreTrainedModel, context: CompressionContext, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Round every layer's weight; the largest change of a weight is in the record."""
        size, symmetric = int(options["group_size"]), bool(options["symmetric"])
        weights, bits, largest = 0, 0, 0.0
        for layer in weight_layers(model, options["head"]).values():
            new = rounded(layer.weight, cls.bits, size, symmetric)
            largest = max(largest, float((new - layer.weight.detach()).abs().max()))
            layer.weight.data.copy_(new)
            width = layer.weight.numel() // len(layer.weight)
            groups = len(layer.weight) * (-(-width // size) if size else 1)
            weights += layer.weight.numel()
            bits += layer.weight.numel() * cls.bits + groups * SCALE_BITS * (2 - symmetric)
        rest = parameters_in(model) - weights
        return {
            "bits": cls.bits,
            "rounded_weights": weights,
            "largest_change": largest,
            "bytes": -(-bits // 8) + 4 * rest,
        }

    @classmethod
    def refusal(cls, options: Mapping[str, Any], model_type: str) -> str:
        """A group of less than two weights would keep them exactly, at more bits than before."""
        size = options["group_size"]
        return "" if size == 0 or size >= 2 else f"takes group_size 0 or at least 2, not {size}"


class Int8(Rounding):
    """8 bits."""

    bits = 8


class Int4(Rounding):
    """4 bits."""

    bits = 4


class Int3(Rounding):
    """3 bits."""

    bits = 3


class Int2(Rounding):
    """2 bits; symmetric: -1, 0 and 1 times the largest weight."""

    bits = 2
