"""Internals of a classifier: hidden states, and the queries, keys and values of attention.

Projections are read from the linear layers that make them, so that no model is rewritten and any
attention implementation will do; probabilities of attention are not among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness_plugin.errors import HarnessError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROJECTIONS = (
    ("query", "key", "value"),
    ("q_lin", "k_lin", "v_lin"),
    ("q_proj", "k_proj", "v_proj"),
    ("query_proj", "key_proj", "value_proj"),
    ("q", "k", "v"),
)
"""Names of the linear layers of an attention, by family."""


@dataclass(frozen=True)
class Shape:
    """The measures of a model that decide whether its layers can be compared with another's."""

    model_type: str
    layers: int
    width: int
    heads: int

    @classmethod
    def of(cls, config: Any) -> Shape:
        """Those of a transformers configuration; a ResNet's layers are its stages.

        `heads` is 0 where there is none, or another number in every layer. Raises HarnessError for
        a configuration that says neither how many layers there are nor how wide they are.
        """
        inner = getattr(config, "vision_config", None) or config  # the one that reads images
        depths = getattr(inner, "depths", None)
        sizes = getattr(inner, "hidden_sizes", None)
        layers = len(depths) if depths else getattr(inner, "num_hidden_layers", None)
        width = sizes[-1] if sizes else getattr(inner, "hidden_size", None)
        if not isinstance(layers, int) or not isinstance(width, int):
            raise HarnessError(
                f"the configuration of a {config.model_type} does not say how many layers it has "
                f"and how wide they are, so that they cannot be compared with another model's."
            )
        heads = getattr(inner, "num_attention_heads", None)
        return cls(str(config.model_type), layers, width, heads if isinstance(heads, int) else 0)


@dataclass(frozen=True)
class Layers:
    """The inside of a classifier for a batch.

    `hidden`: the embeddings (the stem of a ResNet), then the output of every layer (stage):
    (B, T, H) of a transformer, (B, C, h, w) of a ResNet. `queries`, `keys`, `values`: (B, T, H) of
    every layer, all heads side by side; empty for a ResNet. `real` (B, T) tells tokens from
    padding; None for images. Of an encoder-decoder these are the encoder's.
    """

    hidden: tuple[Tensor, ...]
    queries: tuple[Tensor, ...] = ()
    keys: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...] = ()
    heads: int = 0
    real: Tensor | None = None


class HiddenStateRecorder:
    """Reads `Layers` from the forwards of a model, while `on`."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        heads = getattr(model.config, "num_attention_heads", None)
        self.heads = heads if isinstance(heads, int) else 0
        self.projections = list(attention_projections(model))
        self._seen: list[dict[int, Tensor]] = [{}, {}, {}]

    @contextmanager
    def on(self) -> Iterator[None]:
        """Projections of the forwards inside the block are kept, the last one's."""
        handles = []
        for layer, linears in enumerate(self.projections):
            for seen, linear in zip(self._seen, linears, strict=True):
                handles.append(linear.register_forward_hook(save_output(seen, layer)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for seen in self._seen:
                seen.clear()

    def layers(self, out: Any, inputs: dict[str, Tensor]) -> Layers:
        """The layers of the forward that gave `out` with `output_hidden_states=True`."""
        hidden = hidden_states(out)
        mask = inputs.get("attention_mask")
        queries, keys, values = (
            tuple(seen[layer].float() for layer in range(len(self.projections)))
            for seen in self._seen
        )
        return Layers(
            tuple(value.float() for value in hidden),
            queries,
            keys,
            values,
            heads=self.heads,
            real=None if mask is None else mask.bool(),
        )


def hidden_states(out: Any) -> tuple[Tensor, ...]:
    """The hidden states of a model's output; of an encoder-decoder, the encoder's."""
    states = getattr(out, "hidden_states", None)
    states = getattr(out, "encoder_hidden_states", None) if states is None else states
    if not states:
        raise HarnessError(f"{type(out).__name__} has no hidden states.")
    return tuple(states)


def save_output(seen: dict[int, Tensor], layer: int) -> Any:
    """A forward hook that keeps a layer's output."""

    def keep(_: nn.Module, __: Any, out: Tensor) -> None:
        seen[layer] = out

    return keep


def attention_projections(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module, nn.Module]]:
    """The query, key and value layers of every self-attention of an encoder, first layer first."""
    for name, module in model.named_modules():
        if "decoder" in name.split(".") or "EncDecAttention" in name:
            continue
        children = dict(module.named_children())
        for names in PROJECTIONS:
            if all(isinstance(children.get(part), nn.Linear) for part in names):
                first, second, third = (children[part] for part in names)
                yield first, second, third


class OnlineTeacher:
    """A teacher that is asked inside the student's training, on the same rows.

    No module, so that a student does not take it for a part of itself: it is in no optimiser and no
    checkpoint. It has no gradients and no dropout.
    """

    def __init__(self, model: PreTrainedModel, encoded: Any) -> None:
        self.model = model.eval().requires_grad_(False)
        self.encoded = encoded
        self.recorder = HiddenStateRecorder(model)

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        module: nn.Module = self.model
        module.to(device)

    @torch.no_grad()
    def layers(self, row: Tensor) -> Layers:
        """Its layers for rows (B,) of the training set."""
        inputs = self.encoded.batch(row.cpu().numpy(), row.device)
        with self.recorder.on():
            return self.recorder.layers(self.model(**inputs, output_hidden_states=True), inputs)


def teacher_layer(layer: int, students: int, teachers: int) -> int:
    """The teacher's layer at the same relative depth as a student's layer (1 .. `students`)."""
    return max(1, round(layer * teachers / students))
