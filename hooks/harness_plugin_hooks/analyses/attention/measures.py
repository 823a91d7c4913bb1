"""Measures of attention maps: divergence, entropy, rollout, words, heads matched.

A map holds probabilities: (…, T, T), row = the position that attends (query), column = what it
attends to (key). All sums are float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from harness_plugin.errors import HarnessError
from harness_plugin.records import Floats

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LARGEST = math.log(2)
"""The divergence of two rows that share no key."""


@contextmanager
def eager(model: PreTrainedModel) -> Iterator[None]:
    """Attention that shows its probabilities while the block runs; then what it was before."""
    before = model.config._attn_implementation
    if before != "eager":
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        if before != "eager":
            model.set_attn_implementation(before)


@torch.inference_mode()
def read_attention(model: PreTrainedModel, inputs: dict[str, Tensor]) -> list[Tensor]:
    """(B, H, T, T) of every layer; of an encoder-decoder, the encoder's own.

    Raises HarnessError for a model in training mode and for one that shows no probabilities.
    """
    if model.training:
        raise HarnessError("a model is read in eval mode: dropout would be in every number.")
    out = model(**inputs, output_attentions=True)
    attentions = getattr(out, "attentions", None)
    attentions = getattr(out, "encoder_attentions", None) if attentions is None else attentions
    if not attentions or any(layer is None for layer in attentions):
        raise HarnessError(
            f"{type(model).__name__} shows no attention probabilities (its implementation is "
            f"{model.config._attn_implementation}); only eager attention does."
        )
    return list(attentions)


def restricted(maps: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """`maps` (…, T, T) float64 on the keys of `keys` alone, rows adding up to 1 again.

    Also whether a row had any mass there; one that had none is all zeros.
    """
    kept = torch.where(keys[..., None, :], maps.double(), 0.0)
    total = kept.sum(dim=-1, keepdim=True)
    there = total > 0
    return torch.where(there, kept / total.where(there, 1.0), 0.0), there[..., 0]


def row_entropy(rows: Tensor) -> Tensor:
    """(…) -sum p ln p of probabilities (…, T), with 0 ln 0 = 0."""
    out: Tensor = torch.special.entr(rows.double()).sum(dim=-1)
    return out


def normalised_entropy(rows: Tensor, keys: Tensor) -> Tensor:
    """(…) entropy of `rows` (…, T) over ln(number of `keys` (…, T)): 0 one key, 1 uniform.

    nan where there is one key only.
    """
    most = keys.sum(dim=-1).double().log()
    return torch.where(most > 0, row_entropy(rows) / most, math.nan)


def divergence(
    first: Tensor, second: Tensor, entropies: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """(…) Jensen-Shannon divergence of rows (…, T), in nats: 0 equal, ln 2 disjoint.

    JS(P, Q) = H((P + Q) / 2) - (H(P) + H(Q)) / 2 (Lin 1991). `entropies` are
    H(P) and H(Q), where they are known.
    """
    own = (row_entropy(first), row_entropy(second)) if entropies is None else entropies
    out = row_entropy((first.double() + second.double()) / 2) - (own[0] + own[1]) / 2
    return out.clamp(0, LARGEST)  # rounding may leave -1e-17


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """(…, T, T) what the last layer's positions take from the inputs (Abnar and Zuidema 2020).

    Of head-mean maps (…, T, T), first layer first: the product of .5 A + .5 I with rows that add up
    to 1, the last layer leftmost.
    """
    own = torch.eye(layers[0].shape[-1], dtype=torch.float64, device=layers[0].device)
    out = own
    for layer in layers:
        step = 0.5 * layer.double() + 0.5 * own
        out = (step / step.sum(dim=-1, keepdim=True)) @ out
    return out


def mean_rows(values: Tensor, rows: Tensor) -> Tensor:
    """(…) mean of `values` (…, T) over the rows of `rows` (…, T); nan without any."""
    rows = rows & ~values.isnan()
    count = rows.sum(dim=-1)
    total = torch.where(rows, values, 0.0).sum(dim=-1)
    return torch.where(count > 0, total / count, math.nan)


def mean_there(values: Floats) -> Floats:
    """(…) mean over the first axis of what is not nan; nan without any."""
    there = ~np.isnan(values)
    size, total = there.sum(axis=0), np.where(there, values, 0).sum(axis=0)
    out: Floats = np.divide(total, size, out=np.full(total.shape, np.nan), where=size > 0)
    return out


def by_unit(maps: Tensor, unit: Tensor, units: int) -> Tensor:
    """(…, U, U) maps between units: the sum over the keys of one, the mean over its queries.

    `maps` (…, B, T, T); `unit` (B, T) says which of `units` a position belongs to, -1 none.
    A unit without positions has rows and columns of zeros.
    """
    member = unit[..., None] == torch.arange(units, device=unit.device)
    keys = member.double()
    queries = keys / keys.sum(dim=-2, keepdim=True).clamp(min=1)
    return queries.transpose(-1, -2) @ (maps.double() @ keys)


def matched_heads(distances: Floats) -> list[tuple[int, int]]:
    """Pairs (a, b) of `distances` (A, B) whose sum is smallest, each used once (Kuhn 1955).

    min(A, B) of them, in the order of b.
    """
    first, second = linear_sum_assignment(distances)
    order = np.argsort(second)
    return list(zip(first[order].tolist(), second[order].tolist(), strict=True))
