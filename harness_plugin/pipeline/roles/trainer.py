"""The trainer of one role and seed: each training is a stage whose key says all it depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from harness_plugin.config.roles import init_seed
from harness_plugin.data.split import Split
from harness_plugin.data.task import Task
from harness_plugin.errors import HarnessError
from harness_plugin.models import classifiers, processors
from harness_plugin.models.checkpoints import Source, locate
from harness_plugin.models.saving import check_can_be_saved
from harness_plugin.pipeline.prepare.hardware import start_tracker
from harness_plugin.pipeline.prepare.plan import Component, ResolvedRole, component
from harness_plugin.pipeline.roles.context import RunContext, hardware_key, is_quiet
from harness_plugin.pipeline.roles.split_stages import (
    encoded_key,
    encoded_rows,
    predict_stage,
    processor_of,
    weights_key,
)
from harness_plugin.pipeline.roles.supervision import (
    TeacherModels,
    distillation_loss,
    initialise_from_teacher,
    metadata_of,
    output_stages,
)
from harness_plugin.store.keys import code_version, target_of
from harness_plugin.store.stages import RESUME, Stage
from harness_plugin.training import loop
from harness_plugin.training.contracts import Method
from harness_plugin.training.inputs.encode import EncodedRows
from harness_plugin.training.loop import TrainingArgs
from harness_plugin.training.selection import ModelSelection
from harness_plugin.training.trainer import Ints, StoredOutputs, TrainingSpec
from harness_plugin.training.update import TrainingRows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TRAINING = "harness_plugin.pipeline.roles.trainer:RoleTrainer"
"""Where the code of a training begins; the method's and the distiller's classes are added."""


@dataclass(frozen=True)
class RoleTrainer:
    """Trains models of one role and seed; what methods with several stages are handed."""

    ctx: RunContext
    role: ResolvedRole
    seed: int
    teachers: TeacherModels | None = None

    @property
    def task(self) -> Task:
        """The task."""
        return self.ctx.task

    @property
    def role_name(self) -> str:
        """The role, for messages."""
        return self.role.name

    @property
    def epochs(self) -> float:
        """Of the role's whole training."""
        return self.role.args.epochs

    @property
    def train(self) -> Split:
        """The training rows."""
        return self.ctx.data.train

    @property
    def has_validation(self) -> bool:
        """Whether there are validation rows."""
        return self.ctx.data.validation is not None

    @property
    def validation(self) -> Split:
        """The validation rows; HarnessError when there are none."""
        if self.ctx.data.validation is None:
            raise HarnessError(
                f"task {self.task.task}: {self.role.name} needs a validation split; this data has "
                f"none. Hold rows out: --set validation_fraction=0.1."
            )
        return self.ctx.data.validation

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
        """As `Trainer.erm` says."""
        epochs = self.epochs if epochs is None else epochs
        return self.fit(
            TrainingSpec(
                method,
                options or {},
                split=split,
                rows=rows,
                inputs=inputs,
                epochs=epochs,
                schedule_epochs=self.epochs if snapshot and epochs < self.epochs else 0.0,
                learning_rate=self.role.erm_learning_rate,
            )
        )

    def predict(
        self, trained: Stage, split: Split | None = None, inputs: tuple[str, ...] | None = None
    ) -> StoredOutputs:
        """Outputs of a trained stage on a split (default: the training rows)."""
        stage = predict_stage(
            self.ctx,
            trained.path,
            trained.key,
            self.role.max_length,
            split or self.train,
            inputs,
            role=self.role.name,
            features=True,
        )
        return StoredOutputs(
            stage.key,
            np.load(stage.path / "logits.npy"),
            np.load(stage.path / "features.npy", mmap_mode="r"),
        )

    def with_preset(self, preset: str) -> RoleTrainer:
        """The trainer of another model with the same settings, from random weights."""
        settings = self.role.settings.model_copy(update={"model": preset, "config": {}})
        source = locate(settings, self.task.modality, self.ctx.plugins)
        args = replace(self.role.args, freeze_encoder=False)
        role = replace(self.role, model=source, model_config={}, settings=settings, args=args)
        return replace(self, role=role)

    def args_of(self, training: TrainingSpec) -> TrainingArgs:
        """How long, how fast and from which seed a training goes."""
        changed: dict[str, Any] = {"epochs": training.epochs}
        changed["learning_rate"] = training.learning_rate
        changed["schedule_epochs"] = training.schedule_epochs
        seed = init_seed(
            self.seed,
            self.role.init_group,
            self.teachers.round_number if self.teachers else 0,
            continued=training.start is not None,
        )
        known = {name: value for name, value in changed.items() if value is not None}
        return replace(self.role.args, seed=seed, **known)

    def method_of(self, training: TrainingSpec) -> Component[Method]:
        """The method of a training: the role's, or the one that a first stage asks for."""
        return component(
            self.ctx.plugins,
            self.task.modality,
            "method",
            Method,
            training.method,
            training.options,
        )

    def spec_of(self, training: TrainingSpec, method: Component[Method]) -> dict[str, Any]:
        """Everything that a training depends on, as JSON: what its key is the hash of."""
        ctx, role, split = self.ctx, self.role, training.split or self.train
        targets = [TRAINING, target_of(method.cls)]
        distilled = None
        if training.distilled and role.distillation is not None and self.teachers is not None:
            distillation, teachers = role.distillation, self.teachers
            targets.append(target_of(distillation.distiller.cls))
            distilled = {
                **distillation.spec(),
                "round": teachers.round_number,
                "teachers": [model.key for model in teachers.models],
                "outputs": [stage.key for stage in output_stages(ctx, distillation, teachers)],
            }
        selection = None
        if training.selected and ctx.plan.select != "none":
            rows = encoded_key(ctx, self.validation, role.model.checkpoint, role.max_length)
            selection = [ctx.plan.select, self.validation.fingerprint, rows]
            selection += [stage.key for stage in self._environments()]
        source = role.model
        rows_key = encoded_key(ctx, split, source.checkpoint, role.max_length, training.inputs)
        return {
            "split": split.fingerprint,
            "encoded": rows_key,
            "inputs": list(training.inputs or self.task.inputs),
            "rows": None if training.rows is None else hash_of_rows(training.rows),
            "args": asdict(self.args_of(training)),
            "model": source.spec()
            if source.checkpoint is None
            else [source.spec(), weights_key(source.checkpoint)],
            "model_config": dict(role.model_config),
            "method": method.name,
            "method_options": dict(method.options),
            "start": training.start.key if training.start else None,
            "keep_zeros": training.keep_zeros,
            "metadata": list(training.keys),
            "selection": selection,
            "distillation": distilled,
            "hardware": hardware_key(ctx),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "code": code_version(*targets),
        }

    def fit(self, training: TrainingSpec) -> Stage:
        """One training as a stage: a folder that `from_pretrained` loads."""
        method = self.method_of(training)
        spec = self.spec_of(training, method)

        def build(folder: Path) -> dict[str, Any]:
            return self._build(training, method, spec, folder)

        return self.ctx.store.run("model", spec, build)

    def _build(
        self,
        training: TrainingSpec,
        method: Component[Method],
        spec: Mapping[str, Any],
        folder: Path,
    ) -> dict[str, Any]:
        """Build the model, train it, save it; returns the record."""
        ctx, role, split = self.ctx, self.role, training.split or self.train
        processor, processor_folder = processor_of(ctx, role.model.checkpoint)
        args = self.args_of(training)
        source, settings = role.model, role.settings
        if training.start is not None:  # its configuration has what the settings override
            source = Source(source.name, checkpoint=str(training.start.path))
            settings = settings.model_copy(update={"config": {}})
        model = classifiers.build_model(
            source,
            settings,
            modality=self.task.modality,
            labels=split.labels,
            processor=processor,
            attention=ctx.hardware.attention,
            seed=args.seed - (training.start is not None),
            trust_remote_code=ctx.config.trust_remote_code,
        )
        check_can_be_saved(model, f"task {self.task.task}: {role.name}")
        teachers = self.teachers if training.distilled else None
        transplanted = None
        if teachers is not None and role.distillation is not None and training.start is None:
            transplanted = initialise_from_teacher(
                ctx, model, processor, role.distillation, teachers
            )
        metadata = training.metadata or metadata_of(split)
        checkpoint = role.model.checkpoint
        encoded = encoded_rows(ctx, split, checkpoint, role.max_length, training.inputs)
        if training.rows is not None:
            encoded = EncodedRows(encoded, training.rows)
            metadata = metadata.select(torch.from_numpy(training.rows))
        metadata = metadata.to(ctx.accelerator.device)
        if ctx.config.log_with:
            start_tracker(ctx.accelerator, f"harness_plugin_{self.task.task}")
        record = loop.fit(
            ctx.accelerator,
            model,
            TrainingRows(encoded, metadata),
            distillation_loss(
                ctx, role, method.cls(metadata, **method.options), metadata, teachers, training.rows
            ),
            args,
            loop.LoopOptions(
                name=f"{role.name} on {self.task.task}, seed {self.seed} ({training.method})",
                folder=folder / RESUME,
                checkpoint_steps=ctx.config.checkpoint_steps,
                compile_model=ctx.config.compile,
                quiet=is_quiet(ctx),
                keep_zeros=training.keep_zeros,
            ),
            self._selection() if training.selected else None,
        )
        record |= {"from_teacher": transplanted.record()} if transplanted else {}
        if ctx.store.processes.is_main:
            self.save(ctx.accelerator.unwrap_model(model), processor_folder, folder, record, spec)
        return record

    def save(
        self,
        model: PreTrainedModel,
        processor_folder: Path,
        folder: Path,
        record: Mapping[str, Any],
        spec: Mapping[str, Any],
    ) -> None:
        """Weights, configuration, processor, card: a folder that `from_pretrained` loads."""
        model.save_pretrained(folder)
        processor = processors.load_processor(str(processor_folder), self.task.modality)
        if self.task.modality == "text":  # who loads it elsewhere truncates as in training
            processor.model_max_length = self.role.max_length
        processor.save_pretrained(folder)
        about = {"task": self.task.task, "role": self.role.name, "seed": self.seed}
        classifiers.model_card(folder, {**about, **record, "spec": spec})

    def _selection(self) -> ModelSelection | None:
        """By what the best epoch is chosen, on validation rows; None: the last one counts."""
        ctx, role = self.ctx, self.role
        if ctx.plan.select == "none":
            return None
        split = self.validation
        group = split.group
        for stage in self._environments():
            environment = np.load(stage.path / "environment.npy")
            group = split.label * len(stage.record["names"]) + environment
        return ModelSelection(
            ctx.plan.select,
            split.name,
            encoded_rows(ctx, split, role.model.checkpoint, role.max_length),
            split.label,
            group,
            ctx.config.eval_batch_size,
        )

    def _environments(self) -> tuple[Stage, ...]:
        """The stage with the environments of the validation rows, if these select the epoch."""
        inference = self.ctx.plan.selection_environments
        if inference is None:
            return ()
        return (inference.cls.environments(self, inference.options, self.validation),)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files; the others take part in trainings and predictions."""
        return self.ctx.store.processes.is_main

    def run_stage(
        self, kind: str, spec: Mapping[str, Any], build: Callable[[Path], Mapping[str, Any] | None]
    ) -> Stage:
        """As `Trainer.run_stage` says."""
        code = code_version(f"{build.__module__}:{build.__qualname__.partition('.')[0]}")
        return self.ctx.store.run(kind, {**spec, "code": code}, build)

    def edit_model(
        self,
        trained: Stage,
        spec: Mapping[str, Any],
        edit: Callable[[PreTrainedModel], Mapping[str, Any]],
        *,
        code: type[Any],
    ) -> Stage:
        """As `Trainer.edit_model` says."""
        ctx = self.ctx
        full = {**spec, "trained": trained.key, "torch": torch.__version__}
        full["code"] = code_version(target_of(code), TRAINING)

        def build(folder: Path) -> Mapping[str, Any]:
            model = classifiers.load_trained(
                str(trained.path),
                self.task.modality,
                attention=ctx.hardware.attention,
                trust_remote_code=ctx.config.trust_remote_code,
            )
            record = edit(model)
            _, processor_folder = processor_of(ctx, self.role.model.checkpoint)  # may be a stage
            if self.is_main:
                self.save(model, processor_folder, folder, record, full)
            return record

        return ctx.store.run("model", full, build)


def bias_model_trainer(ctx: RunContext) -> RoleTrainer:
    """The trainer of bias models: of the students' size, one for all seeds of a run."""
    if ctx.plan.bias_trainer is None:
        raise HarnessError(f"task {ctx.task.task}: no role of this plan needs a bias model.")
    return RoleTrainer(ctx, ctx.plan.bias_trainer, ctx.config.data_seed)


def hash_of_rows(rows: Ints) -> str:
    """Hash of a choice of rows."""
    return hashlib.sha256(np.ascontiguousarray(rows, np.int64).tobytes()).hexdigest()[:20]
