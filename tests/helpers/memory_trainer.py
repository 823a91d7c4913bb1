"""Methods' first and last stages without a store: models are trained and asked in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from harness_plugin.store.stages import Stage
from harness_plugin.training import loop
from harness_plugin.training.batch import TrainingMetadata
from harness_plugin.training.contracts import Method
from harness_plugin.training.inputs.encode import Encoded, EncodedRows
from harness_plugin.training.loss import DistillationLoss
from harness_plugin.training.predict import predict_with_features
from harness_plugin.training.trainer import StoredOutputs, TrainingSpec
from harness_plugin.training.update import TrainingRows

ARGS = loop.TrainingArgs(
    epochs=1.0,
    batch_size=12,
    learning_rate=1e-2,
    lr_warmup=0.0,
    weight_decay=0.0,
    adam_beta2=0.999,
    max_grad_norm=1.0,
    gradient_accumulation_steps=1,
    seed=0,
)


@dataclass(frozen=True)
class MemorySplit:
    """Some rows (R,) of the rows there are, with what methods ask of a split."""

    rows: Any
    label: Any
    group: Any
    labels: tuple[str, ...]
    name: str = "train"
    fingerprint: str = "made"

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, rows: Any) -> MemorySplit:
        return replace(self, rows=self.rows[rows], label=self.label[rows], group=self.group[rows])


@dataclass
class MemoryTrainer:
    """A `Trainer` of `harness_plugin.training.trainer` over one model; trainings of two updates."""

    accelerator: Accelerator
    model: Any
    encoded: Encoded
    metadata: TrainingMetadata
    methods: Any
    modality: str
    folder: Path
    models: dict[str, Any] = field(default_factory=dict)
    role_name: str = "teacher"
    seed: int = 0
    epochs: float = 1.0
    has_validation: bool = True
    is_main: bool = True

    def __post_init__(self) -> None:
        self.task = SimpleNamespace(task="made", inputs=("a", "b"), modality=self.modality)
        self.train = MemorySplit(
            np.arange(len(self.encoded)),
            self.metadata.label.numpy(),
            self.metadata.group.numpy(),
            tuple("abc"[: self.metadata.n_labels]),
        )
        self.validation = replace(self.train, name="validation")

    def keep(self, model: Any, record: Mapping[str, Any]) -> Stage:
        """A stage of a trained model."""
        key = f"model-{len(self.models)}"
        self.models[key] = model
        return Stage(key, self.folder / key, record, False)

    def fit_loss(
        self, make: Callable[[TrainingMetadata], DistillationLoss], training: TrainingSpec
    ) -> Stage:
        """A training with the loss that `make` gives for the metadata of its rows."""
        model = self.models[training.start.key] if training.start else self.model
        model, encoded = copy.deepcopy(model), self.encoded
        metadata = training.metadata or self.metadata
        rows = self.train.rows if training.split is None else training.split.rows
        rows = rows if training.rows is None else rows[training.rows]
        if len(rows) < len(encoded):
            encoded = EncodedRows(encoded, rows)
            metadata = metadata.select(torch.from_numpy(rows))
        record = loop.fit(
            self.accelerator,
            model,
            TrainingRows(encoded, metadata),
            make(metadata),
            replace(ARGS, batch_size=min(ARGS.batch_size, len(rows) // 2)),
            loop.LoopOptions(name="made", folder=self.folder),
        )
        return self.keep(model, record)

    def fit(self, training: TrainingSpec) -> Stage:
        cls = self.methods.offer(training.method).subclass(Method)
        options = cls.resolved(training.options, self.modality)
        return self.fit_loss(lambda known: DistillationLoss(cls(known, **options)), training)

    def erm(self, *, method: str = "erm", options: Any = None, **changes: Any) -> Stage:
        kept = {name: changes[name] for name in ("rows", "split") if name in changes}
        return self.fit(TrainingSpec(method, options or {}, **kept))

    def predict(self, trained: Stage, split: Any = None, inputs: Any = None) -> StoredOutputs:
        encoded = self.encoded
        if split is not None and len(split) < len(encoded):
            encoded = EncodedRows(encoded, split.rows)
        result = predict_with_features(
            self.accelerator, self.models[trained.key], encoded, batch_size=8
        )
        return StoredOutputs(trained.key, *result)

    def run_stage(self, kind: str, spec: Mapping[str, Any], build: Any) -> Stage:
        folder = self.folder / f"{kind}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        return Stage(folder.name, folder, build(folder) or {}, False)

    def edit_model(self, trained: Stage, spec: Any, edit: Any, *, code: Any) -> Stage:
        model = copy.deepcopy(self.models[trained.key])
        return self.keep(model, edit(model))
