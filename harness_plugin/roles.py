"""Every role's model and its predictions as stages: teacher, student, control, ERM references."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.utils import cached_file

from harness_plugin import batches, encode, materials, methods, models, predict, roles, train
from harness_plugin.config import RoleSettings, StudentSettings, TaskSettings
from harness_plugin.data import Split
from harness_plugin.errors import HarnessError
from harness_plugin.materials import Materials
from harness_plugin.methods import Debiaser, Distiller, Objective
from harness_plugin.records import Predictions, TrainedModel
from harness_plugin.stages import Stage, code_version

CODE = (batches, encode, materials, methods, models, predict, roles, train)
"""A change in any of these makes a new model; the methods' own modules are added by name."""


@dataclass(frozen=True)
class Distillation:
    """How a student hears its teacher."""

    teacher: TrainedModel
    settings: StudentSettings


class Workshop(Materials):
    """Builds every role's model and asks it; each training and each answer is a stage."""

    def trained(
        self,
        role: str,
        settings: RoleSettings,
        method_name: str,
        seed: int,
        distillation: Distillation | None = None,
    ) -> TrainedModel:
        """The trained model of a role: ERM epochs first where the recipe has them, then the method.

        The ERM epochs are a stage of their own, so that every method of the same model and seed
        continues from the same weights.
        """
        if settings.epochs == 0:
            return self.as_it_is(role, settings, seed)
        warm: Stage | None = None
        rest = settings
        plain_distillation = distillation is not None and method_name == "erm"
        if settings.erm_epochs and not plain_distillation:
            rate = settings.erm_learning_rate or settings.learning_rate
            warm = self._fit(
                role,
                settings.model_copy(update={"epochs": settings.erm_epochs, "learning_rate": rate}),
                "erm",
                seed,
                distillation,
                None,
            )
            rest = settings.model_copy(update={"epochs": settings.epochs - settings.erm_epochs})
        stage = self._fit(role, rest, method_name, seed, distillation, warm)
        parts = [part for part in (warm, stage) if part is not None]
        return TrainedModel(
            task=self.task.task,
            role=role,
            seed=seed,
            name=f"{self.task.task}-{role}-{method_name}-seed{seed}",
            path=stage.path,
            settings={
                **settings.model_dump(),
                "labels": self.labels,
                "method": method_name,
                "stage": stage.key,
            }
            | ({"distillation": distillation.settings.model_dump()} if distillation else {}),
            updates=sum(int(part.record["updates"]) for part in parts),
            seconds=sum(float(part.record["training_seconds"]) for part in parts),
            reused=stage.reused,
        )

    def as_it_is(self, role: str, settings: RoleSettings, seed: int) -> TrainedModel:
        """A checkpoint that is evaluated (or teaches) without further training."""
        source = models.locate(settings, self.task.modality, self.plugins)
        if source.checkpoint is None:
            raise HarnessError(
                f"{role}: {settings.model!r} is a preset with random weights; an evaluation needs "
                f"a trained checkpoint (a folder saved with save_pretrained, or a hub id)."
            )
        labels = models.trained_labels(
            source.checkpoint, settings.labels, role, self.config.trust_remote_code
        )
        return TrainedModel(
            task=self.task.task,
            role=role,
            seed=seed,
            name=source.name,
            path=Path(source.checkpoint),
            settings={**settings.model_dump(), "labels": labels, "method": "as saved"},
            reused=True,
        )

    def _fit(
        self,
        role: str,
        settings: RoleSettings,
        method_name: str,
        seed: int,
        distillation: Distillation | None,
        start: Stage | None,
    ) -> Stage:
        """One training as a stage."""
        method: type[Debiaser] = self.plugins["debiaser"].get(method_name)
        options = self.method_options(method_name)
        source = models.locate(settings, self.task.modality, self.plugins)
        processor, processor_folder = self.processor(settings)
        family = "teacher" if "teacher" in role else "student"
        init_seed = 1000 * seed + (0 if family == "teacher" else 500)
        plan = train.Plan(
            seed=init_seed + (1 if start else 0),
            **{name: getattr(settings, name) for name in PLAN_FIELDS},
        )
        signals = None
        own_code = [method.__module__]
        if distillation is not None:
            signals = self.signals(distillation)
            own_code.append(
                self.plugins["distiller"].get(distillation.settings.distiller).__module__
            )
        spec: dict[str, Any] = {
            "train": self.data.train.fingerprint,
            "plan": vars(plan),
            "model": self._identity(source),
            "config": settings.config,
            "max_length": settings.max_length,
            "processor": encode.processor_key(processor),
            "method": method_name,
            "method_options": options,
            "start": start.key if start else None,
            "bias": self.bias.key if "bias_model" in method.needs and self.bias else None,
            "distillation": distillation
            and {
                **distillation.settings.model_dump(exclude={"method"}),
                "signals": signals.key if signals else None,
            },
            "hardware": [self.choice.device, self.choice.precision, self.choice.attention],
            "torch": torch.__version__,
            "code": [code_version(module) for module in CODE]
            + [code_version(sys.modules[name]) for name in own_code],
        }

        def build(folder: Path) -> dict[str, Any]:
            first = models.Source(source.name, checkpoint=str(start.path)) if start else source
            model = models.build_model(
                first,
                settings,
                modality=self.task.modality,
                labels=self.labels,
                processor=processor,
                attention=self.choice.attention,
                seed=init_seed,
                trust_remote_code=self.config.trust_remote_code,
            )
            facts = self.facts(method)
            record = train.fit(
                self.accelerator,
                model,
                self.encoded(self.data.train, settings),
                facts,
                self._objective(method(facts, **options), distillation, signals),
                plan,
                name=f"{self.task.task} seed {seed} {role} ({method_name})",
                folder=folder,
                checkpoint_steps=self.config.checkpoint_steps,
                compile_model=self.config.compile,
                quiet=self.quiet,
            )
            if self.store.processes.is_main:
                train.drop_checkpoints(folder)
                self.accelerator.unwrap_model(model).save_pretrained(folder)
                models.load_processor(str(processor_folder), self.task.modality).save_pretrained(
                    folder
                )
                facts_of_card = {"task": self.task.task, "role": role, "seed": seed} | record
                models.model_card(folder, {**facts_of_card, "spec": spec})
            return record

        return self.store.run("model", spec, build)

    def _objective(
        self, debiaser: Debiaser, distillation: Distillation | None, signals: Stage | None
    ) -> Objective:
        """The loss of a training."""
        if distillation is None or signals is None:
            return Objective(debiaser)
        settings = distillation.settings
        distiller: type[Distiller] = self.plugins["distiller"].get(settings.distiller)
        logits = np.load(signals.path / "logits.npy")
        order = label_order(distillation.teacher, self.labels)
        return Objective(
            debiaser,
            distiller(settings.temperature),
            torch.from_numpy(logits[:, order]).to(self.accelerator.device),
            ce_weight=settings.ce_weight,
            kd_weight=settings.kd_weight,
        )

    def _identity(self, source: models.Source) -> Any:
        """What makes two starting points the same: the preset's configuration, or the weights."""
        if source.backbone is not None:
            return [source.backbone.model_type, dict(source.backbone.config)]
        return weights_key(Path(str(source.checkpoint)))

    def signals(self, distillation: Distillation) -> Stage:
        """The teacher's logits on the training rows, computed once for all its students."""
        return self.logits(distillation.teacher, self.data.train)

    def logits(self, model: TrainedModel, split: Split) -> Stage:
        """One model's logits on one split as a stage: `logits.npy` (N, C), `ids.npy` (N,).

        Keyed by weights, data and preprocessing, so that no model is ever served another's.
        """
        role = RoleSettings.model_validate(
            {key: model.settings[key] for key in RoleSettings.model_fields}
            | {"model": str(model.path), "config": {}}
        )
        spec = {
            "model": weights_key(model.path),
            "split": split.fingerprint,
            "processor": encode.processor_key(self.processor(role)[0]),
            "max_length": role.max_length,
            "crop": self.settings.image.center_crop,
            "hardware": [self.choice.device, self.choice.precision, self.choice.attention],
            "batch_size": self.config.eval_batch_size,
            "code": [code_version(module) for module in (predict, batches, encode)],
        }

        def build(folder: Path) -> dict[str, Any]:
            loaded = models.load_trained(
                str(model.path),
                self.task.modality,
                attention=self.choice.attention,
                trust_remote_code=self.config.trust_remote_code,
            )
            out = predict.predict(
                self.accelerator,
                loaded,
                self.encoded(split, role),
                batch_size=self.config.eval_batch_size,
                name=f"{model.name} on {split.name}",
                quiet=self.quiet,
            )
            if self.store.processes.is_main:
                np.save(folder / "logits.npy", out)
                np.save(folder / "ids.npy", split.ids)
            return {"rows": len(split)}

        stage = self.store.run("logits", spec, build)
        if not np.array_equal(np.load(stage.path / "ids.npy"), split.ids):
            raise HarnessError(f"stage {stage.path} holds other rows than split {split.name!r}.")
        return stage

    def predictions(self, model: TrainedModel, split: Split) -> Predictions:
        """What `model` answers on `split`."""
        logits: NDArray[np.float32] = np.load(self.logits(model, split).path / "logits.npy")
        return predict.as_predictions(
            split,
            logits,
            task=self.task.task,
            role=model.role,
            model=model.name,
            seed=model.seed,
            model_labels=labels_of(model),
            texts=self.task.inputs if self.task.modality == "text" else (),
        )


PLAN_FIELDS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "lr_warmup",
    "weight_decay",
    "adam_beta2",
    "max_grad_norm",
    "gradient_accumulation_steps",
)


def labels_of(model: TrainedModel) -> tuple[str, ...]:
    """The labels of a model's logits, in order."""
    given: tuple[str, ...] | None = model.settings.get("labels")
    return tuple(given) if given else models.checkpoint_labels(str(model.path))


def label_order(teacher: TrainedModel, labels: tuple[str, ...]) -> list[int]:
    """Columns of the teacher's logits in the order of `labels`; matched by name, never position."""
    theirs = [name.lower() for name in labels_of(teacher)]
    wanted = [name.lower() for name in labels]
    if sorted(theirs) != sorted(wanted):
        raise HarnessError(
            f"teacher {teacher.name} predicts {', '.join(labels_of(teacher))}, its student "
            f"{', '.join(labels)}: distillation needs the same labels."
        )
    return [theirs.index(name) for name in wanted]


def weights_key(checkpoint: Path) -> str:
    """Hash of a checkpoint's weights and configuration; a hub id's key is its commit."""
    if not checkpoint.is_dir():
        commit = Path(str(cached_file(str(checkpoint), "config.json"))).parent.name
        return f"{checkpoint}@{commit}"
    files = sorted([*checkpoint.glob("*.safetensors"), checkpoint / "config.json"])
    return hash_of(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@cache
def hash_of(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Hash of the content of files; size and time tell a file that was replaced meanwhile."""
    digest = hashlib.sha256()
    for file, _, _ in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:20]


def plan_of_roles(settings: TaskSettings) -> Mapping[str, str]:
    """Every role a run will train, and its method, in training order."""
    plan = {"teacher": settings.method}
    if settings.references:
        plan["erm_teacher"] = "erm"
    for name, student in settings.students.items():
        plan[name] = settings.method if student.method == "same" else student.method
    if settings.control:
        plan["control"] = settings.method
    if settings.references:
        plan["erm_student"] = "erm"
    return plan


def check_comparable(shop: Workshop) -> None:
    """Refuse an evaluation of checkpoints that cannot be compared: other labels, no weights."""
    settings = shop.settings
    labels = {}
    roles = {"teacher": settings.teacher, "student": settings.student}
    if isinstance(settings.control, str):
        roles["control"] = settings.student.model_copy(update={"model": settings.control})
    for role, chosen in roles.items():
        labels[role] = labels_of(shop.as_it_is(role, chosen, 0))
        for split in shop.data.evaluation:
            predict.check_labels(split, role, labels[role])
    sets = {role: frozenset(name.lower() for name in names) for role, names in labels.items()}
    for role in sets:
        if sets[role] != sets["teacher"]:
            raise HarnessError(
                f"teacher predicts {', '.join(labels['teacher'])}, {role} "
                f"{', '.join(labels[role])}: models with different label sets are not compared."
            )
