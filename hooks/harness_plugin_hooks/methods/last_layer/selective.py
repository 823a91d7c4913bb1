"""SELF: the last layer tuned on held-out rows where two models disagree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from harness_plugin.errors import HarnessError
from harness_plugin.store.stages import Stage
from harness_plugin.training.trainer import Trainer
from harness_plugin_hooks.methods.last_layer.refit import Floats, Head, Ints, LastLayer, halves


class SELF(LastLayer):
    """Selective last-layer fine-tuning on held-out rows where a model disagrees with another.

    LaBonte, Muthukumar, Kumar 2023 (arXiv:2309.08534), section 4, and the authors'
    exps/disagreement.py. The other model is the same training after `early_stop` of its length
    (`disagreement` early_stop, the paper's best variant) or the model with `dropout` on its
    features. Of a random half of the validation rows (milkshake's `heldout_pct` .5) the `points`
    with the largest KL(other || final), whatever their labels, fine-tune the last layer: `steps`
    batches of `batch_size` in which every label is drawn equally often, at a constant learning
    rate, with SGD (momentum .9) or AdamW, weight decay 1e-4. No group labels. Deviations: the
    options are those that are set (on the other half the paper chooses them by worst-group
    accuracy, which needs groups: early_stop from .1, .2, .5, dropout from .5, .7, .9, points from
    20, 100, 500, the learning rate from 1e-4 to 1e-2 for images, 1e-6 to 1e-4 for texts); dropout
    in the network is off while the last layer is tuned.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"validation"})
    defaults: ClassVar[Mapping[str, Any]] = {
        "disagreement": "early_stop",
        "early_stop": 0.2,
        "dropout": 0.5,
        "points": 100,
        "steps": 250,
        "batch_size": 32,
        "optimizer": "sgd",
        "learning_rate": 1e-3,
    }
    family: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "text": {"steps": 500, "batch_size": 16, "optimizer": "adamw", "learning_rate": 1e-4}
    }

    @classmethod
    def cannot_learn(cls, options: Mapping[str, Any], updates: int) -> str:
        """A last layer that stays ERM's."""
        if options["steps"] >= 1 and options["learning_rate"] > 0:
            return ""
        return "leaves the last layer as it is: set steps and learning_rate above 0"

    @classmethod
    def refit(cls, trainer: Trainer, trained: Stage, old: Head, options: Mapping[str, Any]) -> Head:
        """Fine-tuning on the chosen rows."""
        split = trainer.validation
        answers = trainer.predict(trained, split)
        other = cls.other_logits(trainer, answers.features, old, options)
        half, _ = halves("SELF", len(split), trainer.seed)
        chosen = half[largest(divergence(other[half], answers.logits[half]), options["points"])]
        label, size = split.label[chosen], options["batch_size"]
        batches = label_balanced_batches(label, size, trainer.seed)
        return tuned(answers.features[chosen], label, old, batches, options)

    @classmethod
    def other_logits(
        cls, trainer: Trainer, features: NDArray[np.float32], old: Head, options: Mapping[str, Any]
    ) -> NDArray[np.float32]:
        """(R, C) what the other model says."""
        if options["disagreement"] == "early_stop":
            early = trainer.erm(epochs=options["early_stop"] * trainer.epochs, snapshot=True)
            return trainer.predict(early, trainer.validation).logits
        kept = np.random.default_rng(trainer.seed).random(features.shape) >= options["dropout"]
        return old.logits(features * kept / (1 - options["dropout"])).astype(np.float32)


def divergence(first: NDArray[np.float32], second: NDArray[np.float32]) -> Floats:
    """(R,) KL(first || second) of the two softmaxes."""
    p, q = (torch.from_numpy(np.asarray(z, np.float64)).log_softmax(dim=1) for z in (first, second))
    out: Floats = (p.exp() * (p - q)).sum(dim=1).numpy()
    return out


def largest(score: Floats, points: int) -> Ints:
    """Sorted rows: the `points` highest scores, of equal ones the first; all where there are fewer.

    Raises HarnessError for fewer than one.
    """
    if points < 1:
        raise HarnessError(f"SELF: points must be at least 1, found {points}.")
    return np.sort(np.argsort(-score, kind="stable")[:points])


def label_balanced_batches(label: Ints, size: int, seed: int) -> Iterator[Ints]:
    """Batches of `size` positions, drawn with replacement, every label equally often."""
    chance = 1.0 / np.bincount(label)[label]
    rng = np.random.default_rng(seed)
    while True:
        yield rng.choice(len(label), size=size, p=chance / chance.sum())


def tuned(
    features: NDArray[np.float32],
    label: Ints,
    old: Head,
    batches: Iterator[Ints],
    options: Mapping[str, Any],
) -> Head:
    """The last layer after `steps` batches of mean cross-entropy from `old`."""
    x, y = torch.from_numpy(np.asarray(features, np.float64)), torch.from_numpy(label)
    weight, bias = layer = [torch.from_numpy(value.copy()).requires_grad_() for value in old]
    optimizer = optimizer_of(layer, options)
    for rows in islice(batches, options["steps"]):
        optimizer.zero_grad()
        loss = cross_entropy(x[rows] @ weight.T + bias, y[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return Head(weight.detach().numpy(), bias.detach().numpy())


def optimizer_of(layer: list[torch.Tensor], options: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimiser of the last layer."""
    rate = options["learning_rate"]
    if options["optimizer"] == "sgd":
        return torch.optim.SGD(layer, lr=rate, momentum=0.9, weight_decay=1e-4)
    return torch.optim.AdamW(layer, lr=rate, weight_decay=1e-4)
