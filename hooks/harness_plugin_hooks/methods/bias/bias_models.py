"""Bias-only models: what the spurious cue alone predicts, scored on rows it was not fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness_plugin.errors import HarnessError
from harness_plugin.store.stages import Stage
from harness_plugin.training.contracts import BiasModel
from harness_plugin.training.trainer import Trainer

Ints = NDArray[np.int64]

FLOOR = 1e-3
"""Smallest probability: an over-confident bias model would give near-zero weights."""


class Features(BiasModel):
    """Logistic regression on the task's hand-made bias features, cross-fitted.

    As Clark et al. 2019 (arXiv:1909.03683, appendix) for word overlap; the features are the
    task's `bias_features`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"bias_features"})
    defaults: ClassVar[Mapping[str, Any]] = {"folds": 5}

    @classmethod
    def log_probs(cls, trainer: Trainer, options: Mapping[str, Any]) -> Stage:
        """Every row is scored by the model fitted on the other folds."""
        task, train = trainer.task, trainer.train

        def made() -> tuple[NDArray[np.float64], dict[str, Any]]:
            values = task.load_attribute(task.bias_features or "")(train)
            features = np.asarray(values, np.float64)
            if features.ndim != 2 or len(features) != len(train):
                raise HarnessError(
                    f"task {task.task}: bias_features gives shape {features.shape} for "
                    f"{len(train)} training rows; expected (rows, features)."
                )
            fit = regression(
                features, train.label, len(train.labels), trainer.seed, options["folds"]
            )
            return fit, {"features": features.shape[1]}

        source = {"features": task.attribute_version(task.bias_features or "")}
        return bias_stage(trainer, {**source, **options}, (), made)


class InputPart(BiasModel):
    """A small network that sees one input column alone: hypothesis-only, claim-only.

    Clark et al. 2019; Karimi Mahabadi et al. 2020 (arXiv:1909.06321, section 3) train it jointly,
    here it is trained first and cross-fitted.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"text_pair"})
    defaults: ClassVar[Mapping[str, Any]] = {"column": "", "model": "", "epochs": 2.0, "folds": 2}

    @classmethod
    def log_probs(cls, trainer: Trainer, options: Mapping[str, Any]) -> Stage:
        """`column` defaults to the last input column, `model` to the student's."""
        columns = trainer.task.inputs
        column = options["column"] or columns[-1]
        if column not in columns:
            raise HarnessError(
                f"bias model input_part: column {column!r} is no input of task "
                f"{trainer.task.task} (inputs: {', '.join(columns)})."
            )
        return cross_fitted(trainer, options, (column,))


class WeakLearner(BiasModel):
    """A model too small for the task: what it learns is mostly the bias.

    Sanh et al. 2021 (arXiv:2012.01300) take BERT-tiny, trained on all rows; here it is
    cross-fitted. A learner that is too strong destroys in-domain accuracy: the stage's record
    holds its own.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"model": "", "epochs": 1.0, "folds": 2}

    @classmethod
    def log_probs(cls, trainer: Trainer, options: Mapping[str, Any]) -> Stage:
        """`model` defaults to the student's."""
        return cross_fitted(trainer, options, trainer.task.inputs)


class Subset(BiasModel):
    """The student's architecture trained on few rows, which are enough for the shallow cue.

    Utama et al. 2020 (arXiv:2009.12303, section 3.1): 2,000 rows, 5 epochs. A second model,
    trained on as many other rows, scores the rows that the first has seen.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"rows": 2000, "epochs": 5.0, "model": ""}

    @classmethod
    def log_probs(cls, trainer: Trainer, options: Mapping[str, Any]) -> Stage:
        """`rows` are drawn with the data seed."""
        total, size = len(trainer.train), options["rows"]
        if not 1 <= size <= total // 2:
            raise HarnessError(
                f"bias model subset: rows must be between 1 and half of the {total} training "
                f"rows, found {size}."
            )
        order = np.random.default_rng(trainer.seed).permutation(total)
        first, second = np.sort(order[:size]), np.sort(order[size : 2 * size])
        small = with_model(trainer, options["model"])
        stages = [small.erm(epochs=options["epochs"], rows=rows) for rows in (first, second)]

        def made() -> tuple[NDArray[np.float64], dict[str, Any]]:
            tables = [softmax(small.predict(stage).logits) for stage in stages]
            out = tables[0]
            out[first] = tables[1][first]
            return out, {"rows": size}

        return bias_stage(trainer, dict(options), tuple(stages), made)


def with_model(trainer: Trainer, model: str) -> Trainer:
    """The trainer of another model, if one is named."""
    return trainer.with_preset(model) if model else trainer


def cross_fitted(trainer: Trainer, options: Mapping[str, Any], inputs: tuple[str, ...]) -> Stage:
    """Networks trained on all folds but one, each scoring the fold it has not seen."""
    small = with_model(trainer, options["model"])
    parts = folds_of(trainer.train.label, options["folds"], trainer.seed)
    everything = np.arange(len(trainer.train))
    stages = [
        small.erm(epochs=options["epochs"], rows=np.setdiff1d(everything, fold), inputs=inputs)
        for fold in parts
    ]

    def made() -> tuple[NDArray[np.float64], dict[str, Any]]:
        out = np.zeros((len(trainer.train), len(trainer.train.labels)))
        for stage, fold in zip(stages, parts, strict=True):
            out[fold] = softmax(small.predict(stage, inputs=inputs).logits)[fold]
        return out, {"inputs": list(inputs)}

    return bias_stage(trainer, {**options, "inputs": list(inputs)}, tuple(stages), made)


def bias_stage(
    trainer: Trainer, settings: Mapping[str, Any], stages: tuple[Stage, ...], made: Any
) -> Stage:
    """The stage with `log_probs.npy`, from the (N, C) probabilities that `made` gives."""
    spec = {
        "train": trainer.train.fingerprint,
        "settings": dict(settings),
        "stages": [stage.key for stage in stages],
        "seed": trainer.seed,
    }

    def build(folder: Path) -> dict[str, Any] | None:
        probabilities, record = made()
        if not trainer.is_main:
            return None
        log_probs = floored(probabilities)
        np.save(folder / "log_probs.npy", log_probs)
        label = trainer.train.label
        accuracy = float((log_probs.argmax(axis=1) == label).mean())
        majority = float(np.bincount(label).max() / len(label))
        updates = sum(int(stage.record["updates"]) for stage in stages)
        return {**record, "accuracy": accuracy, "majority": majority, "updates": updates}

    return trainer.run_stage("bias_model", spec, build)


def floored(probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, C) log-probabilities, none below that of FLOOR."""
    clipped = np.clip(probabilities, FLOOR, None)
    logs: NDArray[np.float64] = np.log(clipped / clipped.sum(axis=1, keepdims=True))
    return logs.astype(np.float32)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, C) probabilities."""
    z = logits.astype(np.float64)
    z = np.exp(z - z.max(axis=1, keepdims=True))
    out: NDArray[np.float64] = z / z.sum(axis=1, keepdims=True)
    return out


def folds_of(label: Ints, folds: int, seed: int) -> list[Ints]:
    """The rows of each fold, every label spread evenly.

    Raises HarnessError when a label has fewer rows than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    _, counts = np.unique(label, return_counts=True)
    if folds < 2 or counts.min() < folds:
        raise HarnessError(
            f"the bias-only model is fitted on {folds} folds (2 at least), and a label has only "
            f"{counts.min()} training rows."
        )
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return [fold for _, fold in splitter.split(np.zeros(len(label)), label)]


def regression(
    features: NDArray[np.float64], label: Ints, n_labels: int, seed: int, folds: int
) -> NDArray[np.float64]:
    """(N, C) out-of-fold probabilities of a logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probabilities = np.zeros((len(label), n_labels))
    present = np.unique(label)
    for fold in folds_of(label, folds, seed):
        rest = np.setdiff1d(np.arange(len(label)), fold)
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(features[rest], label[rest])
        probabilities[np.ix_(fold, present)] = model.predict_proba(features[fold])
    return probabilities
