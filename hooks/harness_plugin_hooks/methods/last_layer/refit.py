"""Methods that train the last layer again, on features of a model that was trained by ERM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from harness_plugin.data.split import Split
from harness_plugin.errors import HarnessError
from harness_plugin.models.network import last_layer
from harness_plugin.store.stages import Stage
from harness_plugin.training.contracts import Method
from harness_plugin.training.trainer import Trainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
        return float(self.worst_groups(head.weight[None], head.bias[None])[0])

    def worst_groups(self, weight: Floats, bias: Floats) -> Floats:
        """(P,) the same of P last layers: weight (P, C, H), bias (P, C)."""
        z = self.features @ weight.reshape(-1, weight.shape[2]).T + bias.reshape(-1)
        right = z.reshape(len(z), *bias.shape).argmax(axis=2) == self.label[:, None]
        groups = np.unique(self.group)
        worst: Floats = np.min([right[self.group == g].mean(axis=0) for g in groups], axis=0)
        return worst


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


def halves(method: str, rows: int, seed: int) -> tuple[Ints, Ints]:
    """Sorted row numbers of the validation rows that train the last layer, and of the others.

    Raises HarnessError, in the name of `method`, where there are fewer than 4.
    """
    if rows < 4:
        raise HarnessError(f"{method}: two halves need validation rows, and there are {rows}.")
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[: rows // 2]), np.sort(order[rows // 2 :])


def rows_with_groups(trainer: Trainer, trained: Stage, split: Split) -> Rows:
    """The rows of a split that have a group, as the trained model sees them."""
    known = np.flatnonzero(split.group >= 0)
    features = trainer.predict(trained, split).features[known]
    return Rows(features.astype(np.float64), split.label[known], split.group[known])
