"""Methods that train the last layer again, on features of a model that was trained by ERM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from harness_plugin.errors import HarnessError
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


class DFR(LastLayer):
    """Deep feature reweighting: an L1 logistic regression on group-balanced held-out features.

    Kirichenko, Izmailov, Wilson 2023 (arXiv:2204.02937), section 4 and the authors'
    dfr_evaluate_spurious.py. C is chosen by worst-group accuracy on one half of the validation
    rows after fitting on the other; `subsamples` group-balanced draws of all of them are fitted and
    their coefficients averaged. Two labels: liblinear, as the authors; more: saga. The scaler is
    fitted on the training features for the choice and for the fit (the authors' code uses two
    different ones).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"validation_groups"})
    defaults: ClassVar[Mapping[str, Any]] = {"subsamples": 20}

    STRENGTHS: ClassVar[tuple[float, ...]] = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)

    @classmethod
    def refit(cls, trainer: Trainer, trained: Stage, old: Head, options: Mapping[str, Any]) -> Head:
        """The mean of the fits, with the scaler folded into the layer."""
        mean, scale = scaler_of(trainer.predict(trained).features)
        features, label, group = cls.rows_to_fit(trainer, trained)
        scaled = (features - mean) / scale
        rng = np.random.default_rng(trainer.seed)
        strength = cls.choose(scaled, label, group, old, rng)
        fits = []
        for _ in range(options["subsamples"]):
            chosen = balanced(group, rng)
            fits.append(regression(scaled[chosen], label[chosen], len(old.bias), strength, rng))
        weight = np.mean([fit.weight for fit in fits], axis=0) / scale
        bias = np.mean([fit.bias for fit in fits], axis=0) - weight @ mean
        return Head(weight, bias)

    @classmethod
    def rows_to_fit(cls, trainer: Trainer, trained: Stage) -> tuple[Floats, Ints, Ints]:
        """Features (R, H), labels and groups (R,) of the validation rows that have a group."""
        split = trainer.validation
        known = np.flatnonzero(split.group >= 0)
        features = trainer.predict(trained, split).features[known]
        return features.astype(np.float64), split.label[known], split.group[known]

    @classmethod
    def choose(
        cls, features: Floats, label: Ints, group: Ints, old: Head, rng: np.random.Generator
    ) -> float:
        """The strength C with the best worst-group accuracy on the half it was not fitted on."""
        order = rng.permutation(len(label))
        fit, score = order[: len(order) // 2], order[len(order) // 2 :]
        chosen = fit[balanced(group[fit], rng)]
        results = []
        for strength in cls.STRENGTHS:
            found = regression(features[chosen], label[chosen], len(old.bias), strength, rng)
            predicted = (features[score] @ found.weight.T + found.bias).argmax(axis=1)
            right = predicted == label[score]
            results.append(min(right[group[score] == g].mean() for g in np.unique(group[score])))
        return cls.STRENGTHS[int(np.argmax(results))]


class DFRTrain(DFR):
    """DFR on group-balanced subsets of the training rows ("DFR Tr" of the paper, 10 subsamples)."""

    needs: ClassVar[frozenset[str]] = frozenset({"groups"})
    defaults: ClassVar[Mapping[str, Any]] = {"subsamples": 10}

    @classmethod
    def rows_to_fit(cls, trainer: Trainer, trained: Stage) -> tuple[Floats, Ints, Ints]:
        """Features (R, H), labels and groups (R,) of the training rows."""
        split = trainer.train
        known = np.flatnonzero(split.group >= 0)
        features = trainer.predict(trained).features[known]
        return features.astype(np.float64), split.label[known], split.group[known]


class AFR(LastLayer):
    """Automatic feature reweighting: the rows an ERM model gets wrong count more in the last layer.

    Qiu et al. 2023 (arXiv:2306.11074), algorithm 1: ERM on 80% of the training rows; on the other
    20%, with weights w_i proportional to beta_y exp(-gamma p_y(x_i)), beta_y the inverse label
    frequency, full-batch gradient descent on sum_i w_i CE_i + penalty ||W - W_0||^2, gradients
    clipped to 1. With gamma 0 only the label weights are left. Defaults are the authors' for
    Waterbirds, and for CelebA on images; they choose by worst-group validation accuracy.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "gamma": 10.0,
        "penalty": 0.0,
        "steps": 500,
        "learning_rate": 0.01,
        "held_out": 0.2,
    }
    family: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "image": {"gamma": 1.44, "penalty": 1e-3, "steps": 1000, "learning_rate": 0.02}
    }

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
        weights = afr_weights(answers.logits[held], label, options["gamma"])
        return descend(
            answers.features[held],
            label,
            old,
            weights=weights,
            penalty=options["penalty"],
            steps=options["steps"],
            optimizer=lambda layer: torch.optim.SGD(layer, lr=options["learning_rate"]),
        )


class SELF(LastLayer):
    """Selective last-layer fine-tuning on held-out rows where a model disagrees with another.

    LaBonte, Muthukumar, Kumar 2023 (arXiv:2309.08534), section 4. The other model is an
    early-stopped copy (`disagreement` early_stop: ERM of `epochs` epochs; the paper's best
    variant) or the model with `dropout` on its features. The `points` validation rows with the
    largest KL divergence between the two, equally many of each label, fine-tune the last layer.
    No group labels. Deviation: AdamW on all points at once instead of batches; the paper chooses
    points, dropout and learning rate by worst-group validation accuracy.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"validation"})
    defaults: ClassVar[Mapping[str, Any]] = {
        "disagreement": "early_stop",
        "epochs": 1.0,
        "dropout": 0.5,
        "points": 100,
        "steps": 250,
        "learning_rate": 1e-3,
    }
    family: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "text": {"steps": 500, "learning_rate": 1e-4}
    }

    @classmethod
    def refit(cls, trainer: Trainer, trained: Stage, old: Head, options: Mapping[str, Any]) -> Head:
        """Fine-tuning on the chosen rows."""
        split = trainer.validation
        answers = trainer.predict(trained, split)
        other = cls.other_logits(trainer, answers.features, old, options)
        distance = divergence(answers.logits, other)
        chosen = most_of_each_label(distance, split.label, options["points"])
        return descend(
            answers.features[chosen],
            split.label[chosen],
            old,
            weights=np.full(len(chosen), 1 / len(chosen)),
            penalty=0.0,
            steps=options["steps"],
            optimizer=lambda layer: torch.optim.AdamW(layer, lr=options["learning_rate"]),
        )

    @classmethod
    def other_logits(
        cls, trainer: Trainer, features: NDArray[np.float32], old: Head, options: Mapping[str, Any]
    ) -> NDArray[np.float32]:
        """(R, C) what the other model says."""
        if options["disagreement"] == "early_stop":
            early = trainer.erm(epochs=options["epochs"])
            return trainer.predict(early, trainer.validation).logits
        if options["disagreement"] != "dropout":
            raise HarnessError(
                f"SELF: disagreement must be early_stop or dropout, found "
                f"{options['disagreement']!r}."
            )
        kept = np.random.default_rng(trainer.seed).random(features.shape) >= options["dropout"]
        dropped = features * kept / (1 - options["dropout"])
        logits: Floats = dropped @ old.weight.T + old.bias
        return logits.astype(np.float32)


def parts_of(rows: int, held_out: float, seed: int) -> tuple[Ints, Ints]:
    """Row numbers of the first stage, and those held out for the last layer."""
    if not 0 < held_out < 1 or not 0 < round(rows * held_out) < rows:
        raise HarnessError(f"AFR: held_out must leave rows on both sides, found {held_out}.")
    order = np.random.default_rng(seed).permutation(rows)
    size = round(rows * held_out)
    return np.sort(order[size:]), np.sort(order[:size])


def scaler_of(features: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """(H,) mean and standard deviation; a constant feature is not scaled."""
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


def regression(
    features: Floats, label: Ints, n_labels: int, strength: float, rng: np.random.Generator
) -> Head:
    """An L1 logistic regression as a last layer over all labels."""
    from sklearn.linear_model import LogisticRegression

    present = np.unique(label)
    if len(present) < 2:
        raise HarnessError("DFR: the held-out rows have a single label.")
    solver = "liblinear" if len(present) == 2 else "saga"
    model = LogisticRegression(
        C=strength,
        l1_ratio=1,
        solver=solver,
        random_state=int(rng.integers(2**31)),
        max_iter=100 if solver == "liblinear" else 500,
    )
    model.fit(features, label)
    weight = np.zeros((n_labels, features.shape[1]))
    bias = np.full(n_labels, -1e4)  # a label without a held-out row is never predicted
    if len(present) == 2:  # one vector for the second label: the first one's logit is 0
        weight[present[1]], bias[present] = model.coef_[0], (0.0, model.intercept_[0])
    else:
        weight[present], bias[present] = model.coef_, model.intercept_
    return Head(weight, bias)


def afr_weights(logits: NDArray[np.float32], label: Ints, gamma: float) -> Floats:
    """(R,) beta_y exp(-gamma p_y), summing to 1; beta_y is 1 over the number of rows of y."""
    z = logits.astype(np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p_y = (p / p.sum(axis=1, keepdims=True))[np.arange(len(z)), label]
    weights = np.exp(-gamma * p_y) / np.bincount(label)[label]
    out: Floats = weights / weights.sum()
    return out


def divergence(first: NDArray[np.float32], second: NDArray[np.float32]) -> Floats:
    """(R,) KL(first || second) of the two softmaxes."""
    p, q = (torch.from_numpy(np.asarray(z, np.float64)).log_softmax(dim=1) for z in (first, second))
    out: Floats = (p.exp() * (p - q)).sum(dim=1).numpy()
    return out


def most_of_each_label(score: Floats, label: Ints, points: int) -> Ints:
    """Sorted rows: the highest scores of every label, as many of each, at most `points` in all."""
    present, counts = np.unique(label, return_counts=True)
    size = min(points // len(present), counts.min())
    if size < 1:
        raise HarnessError(f"SELF: {points} points are fewer than the {len(present)} labels.")
    chosen = [
        np.flatnonzero(label == y)[np.argsort(-score[label == y], kind="stable")[:size]]
        for y in present
    ]
    return np.sort(np.concatenate(chosen))


def descend(
    features: NDArray[np.float32],
    label: Ints,
    old: Head,
    *,
    weights: Floats,
    penalty: float,
    steps: int,
    optimizer: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
) -> Head:
    """Full-batch descent from `old` on sum_i w_i CE_i + penalty ||W - W_0||^2, clipped to 1."""
    x = torch.from_numpy(np.asarray(features, np.float64))
    y, w = torch.from_numpy(label), torch.from_numpy(weights)
    start = torch.from_numpy(old.weight)
    weight = start.clone().requires_grad_()
    bias = torch.from_numpy(old.bias).clone().requires_grad_()
    chosen = optimizer([weight, bias])
    for _ in range(steps):
        each = cross_entropy(x @ weight.T + bias, y, reduction="none")
        loss = (w * each).sum() + penalty * (weight - start).square().sum()
        chosen.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([weight, bias], 1.0)
        chosen.step()
    return Head(weight.detach().numpy(), bias.detach().numpy())
