"""The trainer of a method's first and last stages: trains and asks further models of a role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.split import Split
from harness_plugin.data.task import Task
from harness_plugin.store.stages import Stage
from harness_plugin.training.batch import TrainingMetadata

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingSpec:
    """One training: with which method, on which rows, from which weights.

    `rows` (R,) are row numbers of `split` (None = all). `metadata` are those of all rows of the
    split; `keys` name the stages they came from. `inputs` are the input columns the model sees.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    split: Split | None = None
    rows: Ints | None = None
    inputs: tuple[str, ...] | None = None
    metadata: TrainingMetadata | None = None
    keys: tuple[str, ...] = ()
    start: Stage | None = None
    epochs: float | None = None
    schedule_epochs: float = 0.0
    """Epochs of the learning rate's schedule, where it is longer than the training."""
    learning_rate: float | None = None
    distilled: bool = False
    """Whether the role's distillation term is part of the loss."""
    selected: bool = False
    """Whether the run's model selection chooses the epoch."""
    keep_zeros: bool = False
    """Whether weights that are 0 at the start stay 0: a pruned model stays pruned."""


@dataclass(frozen=True)
class StoredOutputs:
    """Outputs of a trained model on a split: logits (N, C), last-layer inputs (N, H), float32."""

    key: str
    logits: NDArray[np.float32]
    features: NDArray[np.float32]


class Trainer(Protocol):
    """Trains models of one role and seed, each as a stage that is kept in the store.

    `train` are the training rows, `seed` the run's seed, `role` the role's name for messages.
    """

    @property
    def task(self) -> Task: ...

    @property
    def role_name(self) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def epochs(self) -> float:
        """Of the role's whole training."""

    @property
    def train(self) -> Split: ...

    @property
    def has_validation(self) -> bool: ...

    @property
    def validation(self) -> Split:
        """The validation rows; HarnessError when there are none."""

    def erm(
        self,
        *,
        epochs: float | None = None,
        snapshot: bool = False,
        rows: Ints | None = None,
        split: Split | None = None,
        inputs: tuple[str, ...] | None = None,
        method: str = "erm",
        options: Mapping[str, Any] | None = None,
    ) -> Stage:
        """A plain training of the role's model, as a first stage is. Without distillation.

        `snapshot`: as a training of the role's whole length stands after `epochs`; the learning
        rate then decays over that length, otherwise over `epochs`.
        """

    def fit(self, training: TrainingSpec) -> Stage:
        """One training: a folder that `from_pretrained` loads."""

    def predict(
        self, trained: Stage, split: Split | None = None, inputs: tuple[str, ...] | None = None
    ) -> StoredOutputs:
        """Outputs of a trained stage on a split (default: the training rows)."""

    def with_preset(self, preset: str) -> Trainer:
        """The trainer of another model with the same settings, from random weights."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files; the others take part in trainings and predictions."""

    def run_stage(
        self, kind: str, spec: Mapping[str, Any], build: Callable[[Path], Mapping[str, Any] | None]
    ) -> Stage:
        """A stage of the method's own, from the store where it is finished.

        `spec` is what it depends on (JSON), besides the code of `build`, which is added. `build`
        is called on every process and writes on the main one; what it returns there is kept in
        the record.
        """

    def edit_model(
        self,
        trained: Stage,
        spec: Mapping[str, Any],
        edit: Callable[[PreTrainedModel], Mapping[str, Any]],
        *,
        code: type[Any],
    ) -> Stage:
        """The trained model after `edit` has changed its weights, as a model stage of its own.

        `spec` is what the change depends on (JSON), besides the model and the code of `code`.
        """
