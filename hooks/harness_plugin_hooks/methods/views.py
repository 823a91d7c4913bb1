"""FairFlow: be right on the intact input, be undecided on what is left of a damaged one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from harness_plugin.errors import HarnessError
from harness_plugin.models.network import ModelOutput
from harness_plugin.training.batch import Batch, Inputs, TrainingMetadata
from harness_plugin.training.contracts import ForwardContext, Method

VIEWS = ("drop", "shuffle", "zero")


def kl_from_uniform(logits: Tensor) -> Tensor:
    """(B,) KL(U || p) = -log C - mean_c log p_c: 0 for a model that is undecided."""
    return -math.log(logits.shape[1]) - log_softmax(logits, dim=1).mean(dim=1)


class FairFlow(Method):
    """CE(f(x), y) + weight * mean over views v of KL(U || f(v(x))).

    Cheng, Amiri 2024 (arXiv:2503.17632): "undecided learning". No public implementation exists:
    this is written from the paper's description. Views, by name in `views`:

    - drop: text: the first of two texts is hidden (one text: half of its tokens); images: all but a
      random quarter is blanked;
    - shuffle: tokens, or the 4 x 4 tiles of an image, in random order;
    - zero: half of the last layer's inputs are 0 (an implicit view: no second pass).

    Deviation: the supervised contrastive term of the paper is left out. What a view does to a row
    depends on the update and the row alone.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"weight": 1.0, "views": "drop,shuffle"}

    def __init__(self, metadata: TrainingMetadata, **options: Any) -> None:
        super().__init__(metadata, **options)
        self.views = tuple(name.strip() for name in self.options["views"].split(","))
        for name in self.views:
            if name not in VIEWS:
                raise HarnessError(
                    f"FairFlow: unknown view {name!r}; known are {', '.join(VIEWS)}."
                )

    def forward(self, context: ForwardContext) -> tuple[ModelOutput, dict[str, Tensor]]:
        """The network's output, and a table of logits (b, C) a view."""
        network, inputs, batch = context.network, context.inputs, context.batch
        output = network(inputs)
        of_views = {}
        for number, name in enumerate(self.views):
            rngs = [np.random.default_rng([batch.seed, row, number]) for row in batch.row.tolist()]
            if name == "zero":
                width = output.features.shape[1]
                kept = np.stack([rng.permutation(width) < width // 2 for rng in rngs])
                mask = torch.from_numpy(kept).to(output.features)
                of_views[name] = network.head(output.features * mask).float()
            else:
                views = damaged(inputs, name, rngs, network.model.config)
                of_views[name] = network(views).logits
        return output, of_views

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() both terms, means over the batch."""
        terms = [kl_from_uniform(batch.outputs[name]).mean() for name in self.views]
        undecided: Tensor = torch.stack(terms).mean()
        weight: float = self.options["weight"]
        return cross_entropy(logits, batch.label) + weight * undecided


def damaged(inputs: Inputs, view: str, rngs: list[np.random.Generator], config: Any) -> Inputs:
    """The view "drop" or "shuffle" of a batch."""
    if "pixel_values" in inputs:
        change = blanked if view == "drop" else shuffled_tiles
        pixels = inputs["pixel_values"]
        return {**inputs, "pixel_values": torch.stack(list(map(change, pixels, rngs)))}
    return dropped(inputs, rngs, config) if view == "drop" else shuffled(inputs, rngs)


def dropped(inputs: Inputs, rngs: list[np.random.Generator], config: Any) -> Inputs:
    """The first text hidden from attention; of a single text, a random half of the tokens."""
    mask = inputs["attention_mask"]
    second = second_text(inputs, config)
    hidden = torch.zeros_like(mask, dtype=torch.bool)
    for i, rng in enumerate(rngs):
        length = int(mask[i].sum())
        if bool(second[i].any()):
            hidden[i] = ~second[i]
        else:
            hidden[i, torch.from_numpy(1 + rng.permutation(length - 1)[: (length - 1) // 2])] = True
        hidden[i, 0] = False  # what the classifier reads
    return {**inputs, "attention_mask": mask.masked_fill(hidden, 0)}


def second_text(inputs: Inputs, config: Any) -> Tensor:
    """(B, L) bool: tokens of the second text, by token types or after the first separator."""
    if "token_type_ids" in inputs:
        return inputs["token_type_ids"].bool()
    separators = (getattr(config, name, None) for name in ("sep_token_id", "eos_token_id"))
    separator = next((token for token in separators if isinstance(token, int)), None)
    if separator is None:
        raise HarnessError("FairFlow: the view 'drop' cannot tell where the second text starts.")
    ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
    before = (ids == separator).cumsum(dim=1) - (ids == separator).long()
    last = mask.sum(dim=1, keepdim=True) - 1
    position = torch.arange(ids.shape[1], device=ids.device)
    inside: Tensor = (before > 0) & mask & (position <= last)
    return inside


def shuffled(inputs: Inputs, rngs: list[np.random.Generator]) -> Inputs:
    """All tokens but the first and the last in random order, with their types."""
    length = inputs["attention_mask"].sum(dim=1).tolist()
    width = inputs["attention_mask"].shape[1]
    order = torch.arange(width).repeat(len(length), 1)
    for i, rng in enumerate(rngs):
        inner = int(length[i]) - 2
        if inner > 1:
            order[i, 1 : 1 + inner] = torch.from_numpy(1 + rng.permutation(inner))
    order = order.to(inputs["attention_mask"].device)
    moved = {k: v.gather(1, order) for k, v in inputs.items() if k != "attention_mask"}
    return {**inputs, **moved}


def blanked(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """(3, H, W) with all but one random quarter 0, which is the mean colour."""
    _, height, width = pixels.shape
    top, left = (int(rng.integers(2)) * (size // 2) for size in (height, width))
    out = torch.zeros_like(pixels)
    rows, columns = slice(top, top + height // 2), slice(left, left + width // 2)
    out[:, rows, columns] = pixels[:, rows, columns]
    return out


def shuffled_tiles(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """(3, H, W) with its 4 x 4 tiles in random order; a rest at the border stays."""
    _, height, width = pixels.shape
    h, w = height // 4, width // 4
    out = pixels.clone()
    for place, source in enumerate(rng.permutation(16).tolist()):
        (y, x), (top, left) = divmod(place, 4), divmod(source, 4)
        out[:, y * h : (y + 1) * h, x * w : (x + 1) * w] = pixels[
            :, top * h : (top + 1) * h, left * w : (left + 1) * w
        ]
    return out
