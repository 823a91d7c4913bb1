"""A classifier seen as features and a last layer, whatever its architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from harness_plugin.errors import HarnessError
from harness_plugin.models.layers import HiddenStateRecorder, Layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ModelOutput(NamedTuple):
    """Output of a classifier: logits (B, C) and last-layer inputs (B, H), float32.

    `layers` are there after `Network.record_layers`.
    """

    logits: Tensor
    features: Tensor
    layers: Layers | None = None


def last_layer(model: PreTrainedModel) -> nn.Linear:
    """The linear layer that gives the logits: the last one with as many outputs as labels.

    Raises HarnessError for a classifier whose last layer is not linear.
    """
    candidates = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.out_features == model.config.num_labels
    ]
    if not candidates:
        raise HarnessError(
            f"{type(model).__name__} has no linear layer with {model.config.num_labels} outputs; "
            f"methods that work on the last layer cannot use it."
        )
    return candidates[-1]


def answered_from(features: Tensor, answers: Tensor, logits: Tensor, real: Tensor | None) -> Tensor:
    """(B, H) of the features (B, L, H) of every position: those that the classifier answers from.

    Decoders apply their last layer to every position and take one of its answers (B, L, C), by a
    rule of their own, as `logits` (B, C): the position whose answer these are, of several the
    last that is no padding (`real` (B, L)).
    """
    matches = (answers == logits[:, None]).all(dim=2)
    place = torch.arange(1, matches.shape[1] + 1, device=matches.device)
    rank = (
        place * matches if real is None else place * matches + len(place) * (matches & real.bool())
    )
    return features[torch.arange(len(features), device=matches.device), rank.argmax(dim=1)]


class HeadCall:
    """The last call of a classifier's last layer; `keep` is the forward hook that notes it."""

    def __init__(self) -> None:
        self._call: list[Tensor] = []

    def keep(self, _: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Note what the layer read and gave."""
        self._call[:] = [inputs[0], output]

    def features(self, logits: Tensor, real: Tensor | None) -> Tensor:
        """(B, H) float32: what `logits` were made from, once a call; arguments: `answered_from`."""
        features, answers = self._call
        self._call.clear()
        if features.ndim > 2:
            features = answered_from(features, answers, logits, real)
        return features.float()


class Network(nn.Module):
    """A transformers classifier that also shows the inputs of its last layer ("features").

    `head(features)` are the logits, so that a method may mix, compare or penalise features.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self._head = [last_layer(model)]  # in a list: registered once, as a part of the model
        self._head_call = HeadCall()
        self._recorder: HiddenStateRecorder | None = None
        self.head.register_forward_hook(self._head_call.keep)

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        return self._head[0]

    def forward(self, inputs: dict[str, Tensor]) -> ModelOutput:
        """Logits and features of a batch of model inputs, and layers where they are recorded."""
        layers = None
        if self._recorder is None:
            logits = self.model(**inputs).logits
        else:
            with self._recorder.on():
                out = self.model(**inputs, output_hidden_states=True)
                layers = self._recorder.layers(out, inputs)
            logits = out.logits
        features = self._head_call.features(logits, inputs.get("attention_mask"))
        return ModelOutput(logits.float(), features, layers)

    def record_layers(self) -> None:
        """From now on every output has the layers."""
        self._recorder = HiddenStateRecorder(self.model)
