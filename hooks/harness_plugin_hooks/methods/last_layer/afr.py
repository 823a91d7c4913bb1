"""AFR: the last layer trained again with weights on what an ERM model gets wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness_plugin.errors import HarnessError
from harness_plugin.store.stages import Stage
from harness_plugin.training.trainer import Trainer
from harness_plugin_hooks.methods.last_layer.refit import (
    Floats,
    Head,
    Ints,
    LastLayer,
    rows_with_groups,
)

GAMMAS = np.logspace(2, 5, 10).tolist()
PENALTIES = np.linspace(0, 50, 26).tolist()
"""The authors' grid for MultiNLI, in their order."""
NOTHING = 1e-18
"""A row of so small a share of the largest weight changes no sum in float64."""


class AFR(LastLayer):
    """Automatic feature reweighting: the rows an ERM model gets wrong count more in the last layer.

    Qiu et al. 2023 (arXiv:2306.11074), algorithm 1, and the authors' code: ERM on 80% of the
    training rows; on the other 20%, with weights w_i proportional to beta_y exp(-gamma p_y(x_i)),
    beta_y the inverse label frequency, full-batch gradient descent on

        sum_i w_i CE_i + penalty (||W - W_0||^2 + ||b - b_0||^2),

    gradients clipped to norm 1; the layer kept is the one with the best worst-group accuracy on
    validation (`early_stop` "wga" of their notebooks). With gamma 0 only the label weights are
    left. A gamma or penalty of None is searched by the same accuracy over the values of their
    notebooks/multinli.ipynb, GAMMAS and PENALTIES; of equal ones the first counts. Defaults: text
    both searched, as theirs for MultiNLI; images theirs for CelebA. Deviation: the descent starts
    from W_0, as in algorithm 1; in that notebook it starts from W_0 plus a fresh random layer.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"validation_groups"})
    defaults: ClassVar[Mapping[str, Any]] = {
        "gamma": None,
        "penalty": None,
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
        validation = rows_with_groups(trainer, trained, trainer.validation)
        best, best_score = old, -1.0
        for gamma in GAMMAS if options["gamma"] is None else [options["gamma"]]:
            layer, score = descents(
                answers.features[held],
                label,
                old,
                weights=afr_weights(answers.logits[held], label, gamma),
                penalties=PENALTIES if options["penalty"] is None else [options["penalty"]],
                steps=options["steps"],
                learning_rate=options["learning_rate"],
                score=validation.worst_groups,
            )
            if score > best_score:
                best, best_score = layer, score
        return best


def descents(
    features: NDArray[np.float32],
    label: Ints,
    old: Head,
    *,
    weights: Floats,
    penalties: Sequence[float],
    steps: int,
    learning_rate: float,
    score: Callable[[Floats, Floats], Floats],
) -> tuple[Head, float]:
    """The best layer on all paths of gradient descent from `old`, one for each of P penalties.

    A path minimises sum_i w_i CE_i + penalty (||W - W_0||^2 + ||b - b_0||^2), the norm of each
    gradient cut at 1. `score` gives (P,) for weights (P, C, H) and biases (P, C): the layers before
    each step are scored, and of equal scores the first penalty's, then its earliest step's, counts.
    """
    counted = weights > weights.max() * NOTHING  # with a large gamma few rows are left
    w = weights[counted, None, None]
    gold = np.eye(len(old.bias))[label[counted], None]
    x = np.column_stack([features[counted].astype(np.float64), np.ones(len(w))])
    start = np.column_stack([old.weight, old.bias])
    layers = np.repeat(start[None], len(penalties), axis=0)
    pull = 2 * np.asarray(penalties, np.float64)[:, None, None]
    best, best_score = layers.copy(), np.full(len(penalties), -1.0)
    for _ in range(steps):
        scores = score(layers[:, :, :-1], layers[:, :, -1])
        better = scores > best_score
        best[better], best_score[better] = layers[better], scores[better]
        z = (x @ layers.reshape(-1, x.shape[1]).T).reshape(len(x), *layers.shape[:2])
        p = np.exp(z - z.max(axis=2, keepdims=True))
        p /= p.sum(axis=2, keepdims=True)
        gradient = ((w * (p - gold)).reshape(len(x), -1).T @ x).reshape(layers.shape)
        gradient += pull * (layers - start)
        norm = np.sqrt((gradient**2).sum(axis=(1, 2), keepdims=True))
        layers = layers - learning_rate * gradient * np.minimum(1.0, 1.0 / (norm + 1e-6))
    first = int(best_score.argmax())
    return Head(best[first, :, :-1], best[first, :, -1]), float(best_score[first])


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
