"""A classifier's hidden states as one vector a row, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from harness_plugin.analysis.loaded_models import inputs_of
from harness_plugin.errors import HarnessError
from harness_plugin.models.layers import Shape, hidden_states
from harness_plugin.models.network import HeadCall, last_layer
from harness_plugin.records import Ints
from harness_plugin.training.inputs.encode import Encoded
from harness_plugin_hooks.analyses.layers import Pool

if TYPE_CHECKING:
    from transformers import PreTrainedModel


BATCH = 64
"""Rows of a forward pass."""


class Reader:
    """Reads every layer of a classifier: embeddings, each layer's output, the last layer's input.

    Of an encoder-decoder the layers are the encoder's. The input of the last layer ("head") is what
    the label is read from: behind a pooler, a final LayerNorm or a decoder, which hidden states do
    not show.
    """

    def __init__(self, model: PreTrainedModel, pool: Pool = "mean") -> None:
        self.model = model
        self.pool = pool
        kind = str(model.config.model_type)
        if pool != "mean" and kind == "resnet":
            raise HarnessError(f"pool {pool!r}: a ResNet has no tokens; use mean.")
        if pool == "cls" and kind.startswith("t5"):
            raise HarnessError("pool 'cls': T5 has no token that stands for a text; use mean.")
        self.depth = Shape.of(model.config).layers

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the layers, first to last."""
        word = "stage" if str(self.model.config.model_type) == "resnet" else "layer"
        layers = (f"{word} {number + 1}" for number in range(self.depth))
        head = () if self.pool == "tokens" else ("head",)
        return ("stem" if word == "stage" else "embeddings", *layers, *head)

    @property
    def depths(self) -> tuple[float, ...]:
        """Relative depth of each of `names`: 0 the embeddings, 1 the last layer and the head."""
        layers = tuple(number / self.depth for number in range(self.depth + 1))
        return layers if self.pool == "tokens" else (*layers, 1.0)

    @torch.inference_mode()
    def __call__(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """(n, d_l) float32 of every layer; n are the rows, or all their real tokens."""
        if self.model.training:
            raise HarnessError("a model is read in eval mode: dropout would be in every number.")
        head_call = HeadCall()
        handle = last_layer(self.model).register_forward_hook(head_call.keep)
        try:
            out = self.model(**inputs, output_hidden_states=True)
        finally:
            handle.remove()
        hidden = hidden_states(out)
        if len(hidden) != self.depth + 1:
            raise HarnessError(
                f"{type(self.model).__name__}: expected {self.depth + 1} hidden states, found "
                f"{len(hidden)}."
            )
        mask = inputs.get("attention_mask")
        read = [pooled(layer.float(), mask, self.pool) for layer in hidden]
        if self.pool != "tokens":
            read.append(head_call.features(out.logits, mask))
        return read

    def of_rows(self, encoded: Encoded, rows: Ints, device: torch.device) -> list[Tensor]:
        """(N, d_l) float32 of every layer for `rows` (N,), in their order.

        Not for "tokens", of which it is not known whose they are.
        """
        batches = list(batches_of(encoded, rows, BATCH))
        parts = [self(inputs_of(encoded, rows[some], device)) for some in batches]
        back = torch.from_numpy(np.argsort(np.concatenate(batches))).to(device)
        return [torch.cat(layer)[back] for layer in zip(*parts, strict=True)]


def batches_of(encoded: Encoded, rows: Ints, size: int) -> Iterator[Ints]:
    """Indices of `rows`, `size` at a time, those of about one length together: least padding."""
    lengths = encoded.lengths
    order = np.arange(len(rows)) if lengths is None else np.argsort(lengths[rows], kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]


def pooled(hidden: Tensor, mask: Tensor | None, pool: Pool) -> Tensor:
    """(n, d) of hidden states (B, T, d), or of maps (B, d, h, w), which are averaged.

    `mask` (B, T) is 1 for real tokens; without it all tokens are.
    """
    if hidden.dim() == 4:
        return hidden.mean(dim=(2, 3))
    if pool == "cls":
        return hidden[:, 0]
    real = torch.ones(hidden.shape[:2], device=hidden.device) if mask is None else mask
    if pool == "tokens":
        return hidden[real.bool()]
    weights = real.to(hidden.dtype)[:, :, None]
    # where, not a product: a padded position may hold anything, infinities included
    return torch.where(weights > 0, hidden, 0).sum(dim=1) / weights.sum(dim=1)
