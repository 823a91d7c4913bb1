"""A classifier seen as features and a last layer, whatever its architecture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel

from harness_plugin.errors import HarnessError
from harness_plugin.models.layers import HiddenStateRecorder, Layers


class ModelOutput(NamedTuple):
    """What a classifier gives for a batch: logits (B, C) and last-layer inputs (B, H), float32."""

    logits: Tensor
    features: Tensor


def last_layer(model: PreTrainedModel) -> nn.Linear:
    """The linear layer that gives the logits: the last one with as many outputs as labels.

    Raises HarnessError for a classifier whose last layer is not linear.
    """
    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.out_features == model.config.num_labels
    ]
    if not found:
        raise HarnessError(
            f"{type(model).__name__} has no linear layer with {model.config.num_labels} outputs; "
            f"methods that work on the last layer cannot use it."
        )
    return found[-1]


class Network(nn.Module):
    """A transformers classifier that also shows the inputs of its last layer ("features").

    `head(features)` are the logits, so that a method may mix, compare or penalise features.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self._head = [last_layer(model)]  # in a list: registered once, as a part of the model
        self._seen: list[Tensor] = []
        self._answers: list[tuple[ModelOutput, Layers | None]] | None = None
        self._watch: HiddenStateRecorder | None = None
        self.head.register_forward_pre_hook(self._look)

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        return self._head[0]

    def _look(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._seen[:] = [inputs[0]]

    def forward(self, inputs: dict[str, Tensor]) -> ModelOutput:
        """Logits and features of a batch of model inputs."""
        layers = None
        if self._watch is None:
            logits = self.model(**inputs).logits
        else:
            with self._watch.on():
                out = self.model(**inputs, output_hidden_states=True)
                layers = self._watch.layers(out, inputs)
            logits = out.logits
        (features,) = self._seen
        self._seen.clear()
        answer = ModelOutput(logits.float(), features.flatten(1).float())
        if self._answers is not None:
            self._answers.append((answer, layers))
        return answer

    def show_layers(self) -> None:
        """From now on, what is recorded has the layers."""
        self._watch = HiddenStateRecorder(self.model)

    @contextmanager
    def recorded(self) -> Iterator[list[tuple[ModelOutput, Layers | None]]]:
        """The answers that are given while the block runs, with layers where these are shown."""
        self._answers = []
        try:
            yield self._answers
        finally:
            self._answers = None
