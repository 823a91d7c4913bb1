"""Methods that train the last layer again, on features of a model that was trained by ERM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from harness_plugin.data.split import Split
from harness_plugin.models.network import last_layer
from harness_plugin.store.stages import Stage
from harness_plugin.training.contracts import Method
from harness_plugin.training.trainer import Trainer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Head(NamedTuple):
    """A last layer: weight (C, H), bias (C,), float64."""

    weight: Floats
    bias: Floats

    def logits(self, features: NDArray[np.floating[Any]]) -> Floats:
        """(R, C) of features (R, H)."""
        out: Floats = features @ self.weight.T + self.bias
        return out


class Rows(NamedTuple):
    """Features (R, H) of rows that have a group, their labels and groups (R,)."""

    features: Floats
    label: Ints
    group: Ints

    def select(self, rows: Ints) -> Rows:
        """Some of them."""
        return Rows(self.features[rows], self.label[rows], self.group[rows])

    def scaled(self, mean: Floats, scale: Floats) -> Rows:
        """With standardised features."""
        return self._replace(features=(self.features - mean) / scale)

    def worst_group(self, head: Head) -> float:
        """Accuracy of a last layer in the group where it is lowest, in [0, 1]."""
        right = head.logits(self.features).argmax(axis=1) == self.label
        return float(min(right[self.group == g].mean() for g in np.unique(self.group)))


class LastLayer(Method):
    """A model trained by ERM whose last layer `refit` trains again."""

    base = "erm"

    @classmethod
    def refit(cls, trainer: Trainer, trained: Stage, old: Head, options: Mapping[str, Any]) -> Head:
        """The new last layer."""
        raise NotImplementedError

    @classmethod
    def finish(cls, trainer: Trainer, trained: Stage, options: Mapping[str, Any]) -> Stage:
        """The checkpoint with the new last layer, as a stage of its own."""
        spec = {
            "method": cls.__name__,
            "options": dict(options),
            "train": trainer.train.fingerprint,
            "validation": trainer.validation.fingerprint if trainer.has_validation else None,
            "seed": trainer.seed,
        }

        def edit(model: PreTrainedModel) -> dict[str, Any]:
            layer = last_layer(model)
            if layer.bias is None:
                layer.bias = torch.nn.Parameter(layer.weight.new_zeros(layer.out_features))
            old = Head(
                layer.weight.detach().double().cpu().numpy(),
                layer.bias.detach().double().cpu().numpy(),
            )
            new = cls.refit(trainer, trained, old, options)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(new.weight))
                layer.bias.copy_(torch.from_numpy(new.bias))
            return {"selection": trained.record.get("selection")}

        return trainer.edit_model(trained, spec, edit, code=cls)


def rows_with_groups(trainer: Trainer, trained: Stage, split: Split) -> Rows:
    """The rows of a split that have a group, as the trained model sees them."""
    known = np.flatnonzero(split.group >= 0)
    features = trainer.predict(trained, split).features[known]
    return Rows(features.astype(np.float64), split.label[known], split.group[known])


def descend(
    features: NDArray[np.float32],
    label: Ints,
    old: Head,
    *,
    weights: Floats,
    penalty: float,
    steps: int,
    optimizer: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
    batches: Iterator[Any] | None = None,
    clip: float | None = None,
    score: Callable[[Head], float] | None = None,
) -> Head:
    """Descent from `old` on sum_i w_i CE_i + penalty (||W - W_0||^2 + ||b - b_0||^2).

    `batches` says which rows each step sees (default: all); `clip` is the largest norm of a
    gradient. With a `score` the layer before the step at which it is highest is returned (of
    equal ones the earliest; the last step's result is not scored), otherwise the last one.
    """
    x = torch.from_numpy(np.asarray(features, np.float64))
    y, w = torch.from_numpy(label), torch.from_numpy(weights)
    start = [torch.from_numpy(value) for value in old]
    weight, bias = layer = [value.clone().requires_grad_() for value in start]
    chosen = optimizer(layer)
    best, best_score = old, -np.inf

    def now() -> Head:
        return Head(*(value.detach().clone().numpy() for value in layer))

    everything: Iterator[Any] = repeat(slice(None))
    for _, rows in zip(range(steps), batches or everything, strict=False):
        if score is not None and (found := score(now())) > best_score:
            best, best_score = now(), found
        each = cross_entropy(x[rows] @ weight.T + bias, y[rows], reduction="none")
        moved = (weight - start[0]).square().sum() + (bias - start[1]).square().sum()
        loss = (w[rows] * each).sum() + penalty * moved
        chosen.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(layer, clip)
        chosen.step()
    return now() if score is None else best
