"""DFR: the last layer replaced by a logistic regression on group-balanced rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from harness_plugin.errors import HarnessError
from harness_plugin.store.stages import Stage
from harness_plugin.training.trainer import Trainer
from harness_plugin_hooks.methods.last_layer.refit import (
    Floats,
    Head,
    Ints,
    LastLayer,
    Rows,
    rows_with_groups,
)

STRENGTHS = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)
"""C of the logistic regression: the authors' C_OPTIONS, of equal ones the first is taken."""


class DFR(LastLayer):
    """Deep feature reweighting: an L1 logistic regression on group-balanced held-out features.

    Kirichenko, Izmailov, Wilson 2023 (arXiv:2204.02937), section 4, and the authors'
    dfr_evaluate_spurious.py. C is chosen by worst-group accuracy on one half of the validation
    rows after fitting on a group-balanced draw of the other, standardised by that draw;
    `subsamples` group-balanced draws of all of them, standardised by the training rows, are fitted
    and their coefficients averaged. Two labels: liblinear, as the authors. Deviation: more labels
    (the authors have two): saga, which fits them jointly.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"validation_groups"})
    defaults: ClassVar[Mapping[str, Any]] = {"subsamples": 20}

    @classmethod
    def cannot_learn(cls, options: Mapping[str, Any], updates: int) -> str:
        """A last layer that is the mean of no fit."""
        return "" if options["subsamples"] >= 1 else "fits nothing: set subsamples above 0"

    @classmethod
    def refit(cls, trainer: Trainer, trained: Stage, old: Head, options: Mapping[str, Any]) -> Head:
        """The mean of the fits, with the scaler folded into the layer."""
        mean, scale = scaler_of(trainer.predict(trained).features)
        validation = rows_with_groups(trainer, trained, trainer.validation)
        rng = np.random.default_rng(trainer.seed)
        rows = cls.rows_to_fit(trainer, trained, validation)
        strength = cls.choose(rows, validation, len(old.bias), rng)
        rows = rows.scaled(mean, scale)
        fits = []
        for _ in range(options["subsamples"]):
            chosen = rows.select(balanced(rows.group, rng))
            fits.append(regression(chosen, len(old.bias), strength, rng))
        weight = np.mean([fit.weight for fit in fits], axis=0) / scale
        bias = np.mean([fit.bias for fit in fits], axis=0) - weight @ mean
        return Head(weight, bias)

    @classmethod
    def rows_to_fit(cls, trainer: Trainer, trained: Stage, validation: Rows) -> Rows:
        """The rows that subsamples are drawn from."""
        return validation

    @classmethod
    def choose(cls, rows: Rows, validation: Rows, n_labels: int, rng: np.random.Generator) -> float:
        """C, by worst-group accuracy on the half of the validation rows that was not fitted."""
        order = rng.permutation(len(validation.label))
        half = len(order) // 2
        score, fit = validation.select(order[:half]), validation.select(order[half:])
        fit = fit.select(balanced(fit.group, rng))
        scaler = scaler_of(fit.features)
        return best_strength(fit.scaled(*scaler), score.scaled(*scaler), n_labels, rng)


class DFRTrain(DFR):
    """DFR on group-balanced subsets of the training rows ("DFR Tr" of the paper, 10 subsamples).

    As the authors' dfr_train_subset_tune: C is chosen by worst-group accuracy on the validation
    rows after fitting on one subset, because the network has been fitted to the training rows.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"groups", "validation_groups"})
    defaults: ClassVar[Mapping[str, Any]] = {"subsamples": 10}

    @classmethod
    def rows_to_fit(cls, trainer: Trainer, trained: Stage, validation: Rows) -> Rows:
        """The training rows that have a group."""
        return rows_with_groups(trainer, trained, trainer.train)

    @classmethod
    def choose(cls, rows: Rows, validation: Rows, n_labels: int, rng: np.random.Generator) -> float:
        """C, by worst-group accuracy on validation after fitting on one balanced subset."""
        scaler = scaler_of(rows.features)
        fit = rows.select(balanced(rows.group, rng)).scaled(*scaler)
        return best_strength(fit, validation.scaled(*scaler), n_labels, rng)


def best_strength(fit: Rows, score: Rows, n_labels: int, rng: np.random.Generator) -> float:
    """The C with the best worst-group accuracy on `score` after fitting on `fit`."""
    results = [score.worst_group(regression(fit, n_labels, c, rng)) for c in STRENGTHS]
    return STRENGTHS[int(np.argmax(results))]


def scaler_of(features: np.ndarray) -> tuple[Floats, Floats]:
    """(H,) mean and standard deviation of features (R, H); a constant one is not scaled."""
    mean = features.mean(axis=0, dtype=np.float64)
    scale = features.std(axis=0, dtype=np.float64)
    return mean, np.where(scale > 0, scale, 1.0)


def balanced(group: Ints, rng: np.random.Generator) -> Ints:
    """Positions with equally many rows of every group that occurs."""
    present, counts = np.unique(group, return_counts=True)
    size = counts.min()
    return np.concatenate(
        [rng.choice(np.flatnonzero(group == g), size=size, replace=False) for g in present]
    )


def regression(rows: Rows, n_labels: int, strength: float, rng: np.random.Generator) -> Head:
    """An L1 logistic regression as a last layer over all labels."""
    from sklearn.linear_model import LogisticRegression

    present = np.unique(rows.label)
    if len(present) < 2:
        raise HarnessError("DFR: the rows to fit have a single label.")
    solver = "liblinear" if len(present) == 2 else "saga"
    model = LogisticRegression(
        C=strength,
        l1_ratio=1,
        solver=solver,
        random_state=int(rng.integers(2**31)),
        max_iter=100 if solver == "liblinear" else 500,
    )
    model.fit(rows.features, rows.label)
    weight = np.zeros((n_labels, rows.features.shape[1]))
    bias = np.full(n_labels, -1e4)  # a label without a row to fit is never predicted
    if len(present) == 2:  # one vector for the second label: the first one's logit is 0
        weight[present[1]], bias[present] = model.coef_[0], (0.0, model.intercept_[0])
    else:
        weight[present], bias[present] = model.coef_, model.intercept_
    return Head(weight, bias)
