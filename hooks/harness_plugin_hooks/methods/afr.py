"""AFR: the last layer trained again with weights on what an ERM model gets wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from harness_plugin.errors import HarnessError
from harness_plugin.store.stages import Stage
from harness_plugin.training.trainer import Trainer
from harness_plugin_hooks.methods.last_layer import (
    Floats,
    Head,
    Ints,
    LastLayer,
    descend,
    rows_with_groups,
)


class AFR(LastLayer):
    """Automatic feature reweighting: the rows an ERM model gets wrong count more in the last layer.

    Qiu et al. 2023 (arXiv:2306.11074), algorithm 1, and the authors' code: ERM on 80% of the
    training rows; on the other 20%, with weights w_i proportional to beta_y exp(-gamma p_y(x_i)),
    beta_y the inverse label frequency, full-batch gradient descent on

        sum_i w_i CE_i + penalty (||W - W_0||^2 + ||b - b_0||^2),

    gradients clipped to norm 1; the layer kept is the one with the best worst-group accuracy on
    validation (`early_stop` "wga" of their notebooks). With gamma 0 only the label weights are
    left. Defaults: images the authors' for CelebA; text theirs for MultiNLI, where gamma and
    penalty are the first of the ranges they search (100 to 100,000 and 0 to 50).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"validation_groups"})
    defaults: ClassVar[Mapping[str, Any]] = {
        "gamma": 100.0,
        "penalty": 0.0,
        "steps": 200,
        "learning_rate": 0.01,
        "held_out": 0.2,
    }
    family: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "image": {"gamma": 1.44, "penalty": 1e-3, "steps": 1000, "learning_rate": 0.02}
    }

    @classmethod
    def cannot_learn(cls, options: Mapping[str, Any], updates: int) -> str:
        """A last layer that stays ERM's."""
        if options["steps"] >= 2 and options["learning_rate"] > 0:
            return ""
        return "leaves the last layer as it is: set steps to 2 at least, learning_rate above 0"

    @classmethod
    def rows(cls, trainer: Trainer, options: Mapping[str, Any]) -> Ints:
        """The rows of the first stage."""
        return parts_of(len(trainer.train), options["held_out"], trainer.seed)[0]

    @classmethod
    def refit(cls, trainer: Trainer, trained: Stage, old: Head, options: Mapping[str, Any]) -> Head:
        """Gradient descent from the old layer on the held-out rows."""
        held = parts_of(len(trainer.train), options["held_out"], trainer.seed)[1]
        answers = trainer.predict(trained)
        label = trainer.train.label[held]
        return descend(
            answers.features[held],
            label,
            old,
            weights=afr_weights(answers.logits[held], label, options["gamma"]),
            penalty=options["penalty"],
            steps=options["steps"],
            optimizer=lambda layer: torch.optim.SGD(layer, lr=options["learning_rate"]),
            clip=1.0,
            score=rows_with_groups(trainer, trained, trainer.validation).worst_group,
        )


def parts_of(rows: int, held_out: float, seed: int) -> tuple[Ints, Ints]:
    """Row numbers of the first stage, and those held out for the last layer."""
    if not 0 < held_out < 1 or not 0 < round(rows * held_out) < rows:
        raise HarnessError(f"AFR: held_out must leave rows on both sides, found {held_out}.")
    order = np.random.default_rng(seed).permutation(rows)
    size = round(rows * held_out)
    return np.sort(order[size:]), np.sort(order[:size])


def afr_weights(logits: NDArray[np.float32], label: Ints, gamma: float) -> Floats:
    """(R,) beta_y exp(-gamma p_y), summing to 1; beta_y is 1 over the number of rows of y."""
    z = logits.astype(np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p_y = (p / p.sum(axis=1, keepdims=True))[np.arange(len(z)), label]
    least = p_y.min()  # taken off: with a large gamma every weight would be 0
    weights = np.exp(-gamma * (p_y - least)) / np.bincount(label)[label]
    out: Floats = weights / weights.sum()
    return out
