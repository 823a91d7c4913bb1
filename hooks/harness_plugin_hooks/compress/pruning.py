"""Single weights set to zero: exactly the share that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from harness_plugin.training.compression import CompressionContext, Compressor
from harness_plugin_hooks.compress.targets import weight_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def zero_smallest(weights: list[Tensor], scores: list[Tensor], sparsity: float) -> int:
    """Set the weights with the smallest scores to 0, over all of them; returns how many.

    `scores` have the shapes of `weights`; round(sparsity * n) of n weights are chosen, of equal
    scores the first.
    """
    flat = torch.cat([score.flatten() for score in scores])
    count = round(sparsity * len(flat))
    keep = torch.ones(len(flat), dtype=torch.bool)
    keep[flat.argsort(stable=True)[:count]] = False
    start = 0
    for weight in weights:
        kept = keep[start : start + weight.numel()]
        weight.mul_(kept.reshape(weight.shape))
        start += weight.numel()
    return count


class Magnitude(Compressor):
    """The smallest weights set to 0 (Han et al. 2015, section 3).

    `scope`: "global" compares the weights of all layers, "layer" takes the same share of each.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"sparsity": 0.5, "scope": "global", "head": False}

    @classmethod
    @torch.no_grad()
    def compress(
        cls, model: PreTrainedModel, context: CompressionContext, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Set weights to 0; the record has how many."""
        weights = [layer.weight.data for layer in weight_layers(model, options["head"]).values()]
        parts = [weights] if options["scope"] == "global" else [[weight] for weight in weights]
        sparsity = float(options["sparsity"])
        zeroed = sum(zero_smallest(part, [w.abs() for w in part], sparsity) for part in parts)
        return {"pruned_weights": zeroed, "of_weights": sum(w.numel() for w in weights)}


class InputNorms:
    """Sums of squares of every layer's inputs, by input feature or channel, over forwards."""

    def __init__(self, layers: Mapping[str, nn.Linear | nn.Conv2d]) -> None:
        self.real: Tensor | None = None
        self.squares: dict[str, Tensor] = {}
        self.handles = [
            layer.register_forward_pre_hook(self._hook(name)) for name, layer in layers.items()
        ]

    def _hook(self, name: str) -> Any:
        def add(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].detach().double()
            if isinstance(layer, nn.Conv2d):
                squares = x.square().sum(dim=(0, 2, 3))
            else:
                if self.real is not None and x.shape[:2] == self.real.shape:
                    x = x[self.real]  # padding is no input that counts
                squares = x.square().flatten(0, -2).sum(dim=0)
            self.squares[name] = self.squares.get(name, 0) + squares

        return add

    def close(self) -> None:
        """Look no longer."""
        for handle in self.handles:
            handle.remove()


def input_norms(
    model: PreTrainedModel,
    layers: Mapping[str, nn.Linear | nn.Conv2d],
    context: CompressionContext,
) -> dict[str, Tensor]:
    """L2 norms (inputs,) of what every layer reads of the calibration rows; 0 where it is unused.

    Padded positions do not count.
    """
    norms = InputNorms(layers)
    model.eval()
    for inputs in context.batches():
        mask = inputs.get("attention_mask")
        norms.real = None if mask is None else mask.bool()
        model(**inputs)
    norms.close()
    return {
        name: norms.squares.get(name, torch.zeros(inputs_of(layer), dtype=torch.double)).sqrt()
        for name, layer in layers.items()
    }


def inputs_of(layer: nn.Linear | nn.Conv2d) -> int:
    """Input features or channels of a layer."""
    return layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features


def wanda_scores(layer: nn.Linear | nn.Conv2d, norms: Tensor) -> Tensor:
    """|w| times the norm of the input it is multiplied with, in the weight's shape."""
    size = layer.weight.detach().abs().double()
    if isinstance(layer, nn.Conv2d):
        of_group = norms.reshape(layer.groups, -1)
        of_row = of_group.repeat_interleave(len(size) // layer.groups, dim=0)
        return size * of_row[:, :, None, None]
    return size * norms


class Wanda(Compressor):
    """Weights with the smallest |w| * ||x|| set to 0, the same share in every output channel.

    ||x|| is the L2 norm of the input feature over all calibration rows and positions (Sun et al.
    2024, equation 1). Unlike there all layers are pruned in one go, from the inputs of the whole
    model. `calibration`: which training rows, `rows` of them.
    """

    calibrated = True
    defaults: ClassVar[Mapping[str, Any]] = {
        "sparsity": 0.5,
        "calibration": "random",
        "rows": 128,
        "head": False,
    }

    @classmethod
    @torch.no_grad()
    def compress(
        cls, model: PreTrainedModel, context: CompressionContext, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Set weights to 0; the record has how many."""
        layers = weight_layers(model, options["head"])
        norms = input_norms(model, layers, context)
        sparsity, zeroed = float(options["sparsity"]), 0
        for name, layer in layers.items():
            scores = wanda_scores(layer, norms[name]).flatten(1)
            count = round(sparsity * scores.shape[1])
            keep = torch.ones_like(scores, dtype=torch.bool)
            keep.scatter_(1, scores.argsort(dim=1, stable=True)[:, :count], False)
            layer.weight.mul_(keep.reshape(layer.weight.shape))
            zeroed += count * len(scores)
        weights = sum(layer.weight.numel() for layer in layers.values())
        return {"pruned_weights": zeroed, "of_weights": weights}
