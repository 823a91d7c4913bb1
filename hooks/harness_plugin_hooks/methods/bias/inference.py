"""Groups for data without group labels: environments that feed any group method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from numpy.typing import NDArray

from harness_plugin.data.split import Split
from harness_plugin.errors import HarnessError
from harness_plugin.store.stages import Stage
from harness_plugin.training.contracts import GroupInference
from harness_plugin.training.trainer import Trainer
from harness_plugin_hooks.methods.jtt import errors_of, rows_of

Ints = NDArray[np.int64]


class ErrorSet(GroupInference):
    """Two environments: what an ERM model of few epochs gets right, and what it gets wrong.

    The error set of JTT (Liu et al. 2021), used as groups label x correctness as in Nam et al.
    2020 and SpuCo's "error" inference.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"epochs": 1.0}

    @classmethod
    def environments(
        cls, trainer: Trainer, options: Mapping[str, Any], split: Split | None = None
    ) -> Stage:
        """0 = right, 1 = wrong."""
        first, wrong = errors_of(trainer, options["epochs"], split)
        names = ("right", "wrong")
        return environment_stage(trainer, options, (first,), wrong.astype(np.int64), names, split)


class EIIL(GroupInference):
    """Two environments on which a frozen ERM model violates invariance the most.

    Creager, Jacobsen, Zemel 2021 (arXiv:2010.07249), section 3.1: soft assignments q = sigmoid(w)
    maximise the mean over q and 1 - q of the squared gradient of the environment's risk by a scale
    of the logits; Adam, threshold .5. The gradient of row i at scale 1 is sum_c p_c z_c - z_y.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "epochs": 1.0,
        "steps": 10_000,
        "learning_rate": 1e-3,
    }

    @classmethod
    def environments(
        cls, trainer: Trainer, options: Mapping[str, Any], split: Split | None = None
    ) -> Stage:
        """0 and 1, in no order."""
        first, rows = trainer.erm(epochs=options["epochs"]), split or trainer.train
        gradient = scale_gradient(trainer.predict(first, rows).logits, rows.label)
        environment = opposed(
            gradient, steps=options["steps"], rate=options["learning_rate"], seed=trainer.seed
        )
        names = ("first", "second")
        return environment_stage(trainer, options, (first,), environment, names, split)


class SSA(GroupInference):
    """The attribute of every training row, predicted from a small set that has it.

    Spread Spurious Attribute, Nam et al. 2022 (arXiv:2204.02070). The validation split has
    attribute labels; the training rows are cut into K parts; the attribute of a part is predicted
    by a model that was trained on the validation rows and on confident pseudo-labels of the other
    parts. The confidence threshold is `threshold` for the group (label x pseudo-attribute) with the
    fewest confident rows, and stricter for the others, so that all keep equally many. Deviation:
    pseudo-labels come from one model trained on the validation rows, then one round for each part,
    instead of being renewed within a training.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"validation_groups"})
    defaults: ClassVar[Mapping[str, Any]] = {"parts": 3, "threshold": 0.95, "epochs": 4.0}

    @classmethod
    def environments(
        cls, trainer: Trainer, options: Mapping[str, Any], split: Split | None = None
    ) -> Stage:
        """The index of the predicted attribute value; of the training rows alone."""
        if split is not None:
            raise HarnessError("group inference SSA knows the attribute of the validation rows.")
        held, names = with_attribute(trainer.validation)
        total, parts = len(trainer.train), options["parts"]
        if parts < 2:
            raise HarnessError(f"group inference SSA: parts must be at least 2, found {parts}.")
        first = trainer.erm(split=held, epochs=options["epochs"])
        guess = trainer.predict(first).logits
        chosen = confident(guess, trainer.train.label, options["threshold"])
        pool = joined(held, trainer.train.select(chosen), guess[chosen].argmax(axis=1))
        part = np.random.default_rng(trainer.seed).integers(parts, size=total)
        environment = np.zeros(total, np.int64)
        stages = [first]
        for number in range(parts):
            allowed = np.concatenate([np.ones(len(held), bool), part[chosen] != number])
            stage = trainer.erm(split=pool, rows=np.flatnonzero(allowed), epochs=options["epochs"])
            predicted = trainer.predict(stage).logits.argmax(axis=1)
            environment[part == number] = predicted[part == number]
            stages.append(stage)
        return environment_stage(trainer, options, tuple(stages), environment, names)


def environment_stage(
    trainer: Trainer,
    options: Mapping[str, Any],
    stages: tuple[Stage, ...],
    environment: Ints,
    names: tuple[str, ...],
    split: Split | None = None,
) -> Stage:
    """The stage with `environment.npy`, and how well it agrees with the attribute if that is known.

    Raises HarnessError when all rows are in one environment.
    """
    counts = np.bincount(environment, minlength=len(names))
    if (counts > 0).sum() < 2:
        raise HarnessError(
            f"task {trainer.task.task}: group inference puts all {len(environment)} "
            f"{rows_of(split)} rows into one environment."
        )
    spec = {
        "rows": (split or trainer.train).fingerprint,
        "options": dict(options),
        "stages": [stage.key for stage in stages],
        "seed": trainer.seed,
    }

    def build(folder: Path) -> dict[str, Any] | None:
        if not trainer.is_main:
            return None
        np.save(folder / "environment.npy", environment)
        updates = sum(int(stage.record["updates"]) for stage in stages)
        rows = dict(zip(names, counts.tolist(), strict=True))
        return {"names": list(names), "rows": rows, "updates": updates}

    return trainer.run_stage("groups", spec, build)


def scale_gradient(logits: NDArray[np.float32], label: Ints) -> NDArray[np.float64]:
    """(N,) derivative of each row's cross-entropy by a scale of its logits, at scale 1."""
    z = logits.astype(np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    gradient: NDArray[np.float64] = (p * z).sum(axis=1) - z[np.arange(len(z)), label]
    return gradient


def opposed(gradient: NDArray[np.float64], *, steps: int, rate: float, seed: int) -> Ints:
    """(N,) 0 or 1: two environments whose mean gradients are as large as possible."""
    g = torch.from_numpy(gradient).float()
    w = torch.randn(len(g), generator=torch.Generator().manual_seed(seed)).requires_grad_()
    optimizer = torch.optim.Adam([w], lr=rate)
    for _ in range(steps):
        q = w.sigmoid()
        violation = ((q * g).mean() ** 2 + ((1 - q) * g).mean() ** 2) / 2
        optimizer.zero_grad()
        (-violation).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return (w.detach() > 0).long().numpy()


def with_attribute(split: Split) -> tuple[Split, tuple[str, ...]]:
    """The rows of `split` whose attribute is known, labelled with it, and its values."""
    attribute = np.asarray(split.column("attribute"), np.str_)
    known = np.flatnonzero(attribute != "")
    names, code = np.unique(attribute[known], return_inverse=True)
    if len(names) < 2:
        raise HarnessError(f"split {split.name!r} has fewer than two attribute values.")
    values = tuple(names.tolist())
    return relabelled(split.select(known), code.astype(np.int64), values), values


def relabelled(split: Split, label: Ints, labels: tuple[str, ...]) -> Split:
    """The same rows with other labels, and no groups."""
    rows = split.rows.remove_columns(["label", "group"])
    rows = rows.add_column("label", label.tolist(), feature=datasets.Value("int64"))
    rows = rows.add_column("group", [-1] * len(rows), feature=datasets.Value("int64"))
    return replace(split, content=rows, labels=labels, groups=())


def joined(first: Split, second: Split, label: Ints) -> Split:
    """The rows of `first`, then those of `second` with the labels (R,) given."""
    other = relabelled(second, label, first.labels)
    names = [name for name in first.rows.column_names if name in other.rows.column_names]
    rows = datasets.concatenate_datasets(
        [first.rows.select_columns(names), other.rows.select_columns(names)]
    )
    return replace(first, content=rows, breakdowns=(), purpose="train", name="pseudo_labelled")


def confident(logits: NDArray[np.float32], label: Ints, threshold: float) -> Ints:
    """Sorted rows with equally many of every group label x predicted attribute.

    Rows below `threshold` are never taken; a group that has none above it is left out.
    """
    z = logits.astype(np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    confidence = (p / p.sum(axis=1, keepdims=True)).max(axis=1)
    group = label * logits.shape[1] + logits.argmax(axis=1)
    sure = confidence >= threshold
    counts = np.bincount(group[sure])
    if not counts.any():
        raise HarnessError(
            f"group inference SSA: no attribute is predicted with a confidence of {threshold}; "
            f"train longer (option epochs) or lower the threshold."
        )
    size = counts[counts > 0].min()
    taken = [
        np.flatnonzero(sure & (group == g))[
            np.argsort(-confidence[sure & (group == g)], kind="stable")[:size]
        ]
        for g in np.flatnonzero(counts)
    ]
    return np.sort(np.concatenate(taken))
