"""EVaLS: the last layer trained on rows of high and low loss, chosen by inferred environments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from harness_plugin.errors import HarnessError
from harness_plugin.store.stages import Stage
from harness_plugin.training.trainer import Trainer
from harness_plugin_hooks.methods.bias.inference import EIIL, opposed, scale_gradient
from harness_plugin_hooks.methods.last_layer.refit import (
    Floats,
    Head,
    Ints,
    LastLayer,
    Rows,
    halves,
)

POINTS = (50, 100, 150, 200, 250)
PENALTIES = (0.0, 0.01, 0.1, 1.0, 0.02, 0.2, 2.0)
"""The authors' grid for CelebA, in their order: of equal ones the first is taken."""
WEIGHT_DECAY = 1e-4
DROP_AFTER, DROP_TO = 0.85, 0.5
"""The learning rate is halved after 85 of the authors' 100 epochs."""


class EVaLS(LastLayer):
    """Environment-based validation and loss-based sampling: no group label anywhere.

    Ghaznavi et al. 2024 (arXiv:2410.05345) and the authors' code (sharif-ml-lab/EVaLS: main.py,
    exps/loss_based.py, run.py, scripts/hyperparameter_search.py). The validation rows are cut in
    two halves. From one, of every label the `points` rows with the largest and the `points` rows
    with the smallest cross-entropy of an ERM model train a last layer that starts anew (Xavier,
    bias 0): Adam, mean cross-entropy + `penalty` (||W||_1 + ||b||_1), weight decay 1e-4. On the
    other half EIIL finds two environments from the ERM model's logits; the layer kept is the one
    after the epoch with the best accuracy in the worst label x environment. `points` and `penalty`
    of None are searched by the same number over POINTS and PENALTIES.

    Deviations: halves are drawn by the run's seed; accuracies are not rounded to four digits before
    they are compared; EIIL runs at the steps of its source (the authors hand over stored
    environments, and their script's default is one step). A label with fewer than 2 `points` rows
    gives some of them twice, as in the authors' code.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"validation"})
    defaults: ClassVar[Mapping[str, Any]] = {
        "points": None,
        "penalty": None,
        "epochs": 100,
        "batch_size": 32,
        "learning_rate": 5e-4,
    }

    @classmethod
    def cannot_learn(cls, options: Mapping[str, Any], updates: int) -> str:
        """A last layer that stays random."""
        if options["epochs"] >= 1 and options["learning_rate"] > 0:
            return ""
        return "leaves the last layer random: set epochs to 1 at least, learning_rate above 0"

    @classmethod
    def refit(cls, trainer: Trainer, trained: Stage, old: Head, options: Mapping[str, Any]) -> Head:
        """The layer that is best in the worst inferred environment, of all that were trained."""
        split = trainer.validation
        answers = trainer.predict(trained, split)
        features = answers.features.astype(np.float64)
        fit, score = halves("EVaLS", len(split), trainer.seed)
        cells = environment_cells(answers.logits[score], split.label[score], trainer.seed)
        validation = Rows(features[score], split.label[score], cells)
        loss = cross_entropies(answers.logits[fit], split.label[fit])
        best, best_score = old, -1.0
        for points in POINTS if options["points"] is None else [options["points"]]:
            chosen = fit[extremes(loss, split.label[fit], points)]
            layer, worst = paths(
                features[chosen],
                split.label[chosen],
                validation,
                labels=len(old.bias),
                penalties=PENALTIES if options["penalty"] is None else [options["penalty"]],
                seed=trainer.seed,
                options=options,
            )
            if worst > best_score:
                best, best_score = layer, worst
        return best


def cross_entropies(logits: NDArray[np.float32], label: Ints) -> Floats:
    """(R,) of logits (R, C)."""
    z = torch.from_numpy(np.asarray(logits, np.float64))
    out: Floats = cross_entropy(z, torch.from_numpy(label), reduction="none").numpy()
    return out


def environment_cells(logits: NDArray[np.float32], label: Ints, seed: int) -> Ints:
    """(R,) label x inferred environment: 2 label + 0 or 1.

    Raises HarnessError where all rows are in one environment.
    """
    gradient = scale_gradient(logits, label)
    steps, rate = EIIL.defaults["steps"], EIIL.defaults["learning_rate"]
    environment = opposed(gradient, steps=steps, rate=rate, seed=seed)
    if len(np.unique(environment)) < 2:
        raise HarnessError(
            f"EVaLS: all {len(label)} validation rows are in one environment, so that none is the "
            f"worst: the ERM model errs on none of them, or on all."
        )
    return 2 * label + environment


def extremes(loss: Floats, label: Ints, points: int) -> Ints:
    """Positions of the `points` largest, then of the `points` smallest losses of every label.

    Of equal losses the first counts. A label with fewer than `points` rows gives all of them.
    """
    every = [np.flatnonzero(label == each) for each in np.unique(label)]
    high = [rows[np.argsort(-loss[rows], kind="stable")[:points]] for rows in every]
    low = [rows[np.argsort(loss[rows], kind="stable")[:points]] for rows in every]
    return np.concatenate([*high, *low])


def paths(
    features: Floats,
    label: Ints,
    validation: Rows,
    *,
    labels: int,
    penalties: tuple[float, ...] | list[float],
    seed: int,
    options: Mapping[str, Any],
) -> tuple[Head, float]:
    """The best layer of P trainings, one for each of `penalties`, and its worst-cell accuracy.

    They share start and batches, as runs of one seed do. Adam works on every number by itself, so
    that all are trained at once. Of equal scores the first penalty's, then the earliest, counts.
    """
    x = torch.from_numpy(np.column_stack([features, np.ones(len(label))]))
    y, generator = torch.from_numpy(label), torch.Generator().manual_seed(seed)
    layers = start(labels, features.shape[1], generator).repeat(len(penalties), 1, 1)
    layers.requires_grad_()
    pull = torch.tensor(penalties, dtype=torch.float64)[:, None, None]
    optimizer = torch.optim.Adam([layers], lr=options["learning_rate"], weight_decay=WEIGHT_DECAY)
    drop = max(1, round(DROP_AFTER * options["epochs"]))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=drop, gamma=DROP_TO)
    best, best_score = layers.detach().numpy().copy(), np.full(len(penalties), -1.0)
    for _ in range(options["epochs"]):
        order = torch.randperm(len(y), generator=generator)
        for begin in range(0, len(order), options["batch_size"]):
            rows = order[begin : begin + options["batch_size"]]
            optimizer.zero_grad()
            logits = torch.einsum("rh,pch->prc", x[rows], layers)
            each = cross_entropy(logits.transpose(1, 2), y[rows].expand(len(layers), -1))
            loss = len(layers) * each + (pull * layers.abs()).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
        now = layers.detach().numpy()
        score = validation.worst_groups(now[:, :, :-1], now[:, :, -1])
        better = score > best_score
        best[better], best_score[better] = now[better], score[better]
    first = int(best_score.argmax())
    return Head(best[first, :, :-1], best[first, :, -1]), float(best_score[first])


def start(labels: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """(C, H + 1) a layer before training: Xavier's uniform weights, and a bias of 0 beside them."""
    limit = math.sqrt(6 / (labels + width))
    weight = (2 * torch.rand(labels, width, generator=generator, dtype=torch.float64) - 1) * limit
    return torch.cat([weight, torch.zeros(labels, 1, dtype=torch.float64)], dim=1)
