"""Every role's model and its predictions as stages: teacher, student, control, ERM references."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.utils import cached_file

from harness_plugin.config.settings import RoleSettings
from harness_plugin.data.dataset import Split
from harness_plugin.errors import HarnessError
from harness_plugin.models import (
    checkpoints,
    classifiers,
    layers,
    network,
    processors,
    transplant,
)
from harness_plugin.pipeline import augmenting, distilling, lab, materials, roles
from harness_plugin.pipeline.distilling import Distillation, labels_of, role_of
from harness_plugin.pipeline.lab import Lab, Training, crossed, metadata_of
from harness_plugin.pipeline.materials import Materials
from harness_plugin.records import Predictions, TrainedModel
from harness_plugin.store.stages import Stage, code_version
from harness_plugin.training import (
    batching,
    contracts,
    encode,
    ensemble,
    loop,
    loss,
    predict,
    selection,
)
from harness_plugin.training.contracts import (
    BiasModel,
    GroupInference,
    Method,
    Prepared,
    TrainingMetadata,
)

CODE = (
    augmenting,
    batching,
    distilling,
    encode,
    ensemble,
    transplant,
    lab,
    layers,
    materials,
    contracts,
    checkpoints,
    classifiers,
    processors,
    network,
    loss,
    predict,
    roles,
    selection,
    loop,
)
"""A change in any of these makes a new model; the methods' own modules are added by name."""


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
        continues from the same weights. A student of several rounds is trained as often.
        """
        if settings.epochs == 0:
            return self.as_it_is(role, settings, seed)
        if distillation is not None and distillation.settings.augmentations:
            return augmenting.trained(self, role, settings, method_name, seed, distillation)
        return self.trained_on_rows(role, settings, method_name, seed, distillation)

    def trained_on_rows(
        self,
        role: str,
        settings: RoleSettings,
        method_name: str,
        seed: int,
        distillation: Distillation | None,
    ) -> TrainedModel:
        """The trained model of a role on the training rows of this workshop, round by round."""
        if distillation is None or distillation.settings.rounds == 1:
            return self._trained_once(role, settings, method_name, seed, distillation)
        plan = distillation.settings
        if plan.equal_budget:
            shares = {"epochs": settings.epochs / plan.rounds}
            shares["erm_epochs"] = settings.erm_epochs / plan.rounds
            settings = settings.model_copy(update=shares)
        rounds: list[TrainedModel] = []
        while len(rounds) < plan.rounds:
            this = replace(distillation, round=len(rounds))
            if rounds and plan.between_rounds != "initialises":
                this = replace(this, teachers=(rounds[-1],))
            if rounds and plan.between_rounds != "teaches":
                before = rounds[-1]
                stage = Stage(before.settings["stage"], before.path, {}, before.reused)
                this = replace(this, start=stage)
            rounds.append(self._trained_once(role, settings, method_name, seed, this))
        return replace(
            rounds[-1],
            settings={**rounds[-1].settings, "rounds": [r.settings["stage"] for r in rounds]},
            updates=sum(r.updates for r in rounds),
            seconds=sum(r.seconds for r in rounds),
            reused=all(r.reused for r in rounds),
        )

    def _trained_once(
        self,
        role: str,
        settings: RoleSettings,
        method_name: str,
        seed: int,
        distillation: Distillation | None,
    ) -> TrainedModel:
        """The trained model of a role, or of one of its rounds."""
        place = Lab(self, role, settings, seed, distillation)
        method: type[Method] = self.plugins["method"].get(method_name)
        options = method.resolved(self.method_options(method_name), self.task.modality)
        rows = method.rows(place, options)
        parts = self._loop(place, method.base or method_name, rows)
        stage = parts[-1]
        if method.base:
            stage = method.finish(place, stage, options)
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
                "supervision": self.supervision(
                    method_name, distilling.supervised_by(self, distillation)
                ),
                "selection": parts[-1].record.get("selection"),
                "from_teacher": next(
                    (r for part in parts if (r := part.record.get("from_teacher"))), None
                ),
            }
            | ({"distillation": distillation.settings.model_dump()} if distillation else {}),
            updates=sum(int(part.record.get("updates", 0)) for part in parts),
            seconds=sum(float(part.record.get("training_seconds", 0)) for part in parts),
            reused=stage.reused,
        )

    def _loop(self, place: Lab, method_name: str, rows: NDArray[np.int64] | None) -> list[Stage]:
        """The stages of a training through the loop, the last one last."""
        settings, distillation = place.settings, place.distillation
        method: type[Method] = self.plugins["method"].get(method_name)
        options = method.resolved(self.method_options(method_name), self.task.modality)
        prepared = method.prepare(place, options)
        taught = distilling.needs(self, distillation)
        facts, used = self.facts(method.needs | taught, place, prepared)
        plain_distillation = distillation is not None and method_name == "erm"
        start, before = prepared.start, list(prepared.stages)
        if distillation is not None and distillation.start is not None:
            if start is not None:
                raise HarnessError(
                    f"{place.role}: method {method_name} starts from weights of its own, so that a "
                    "round cannot initialise the next: set between_rounds=teaches."
                )
            start = distillation.start
        epochs = settings.epochs
        if settings.erm_epochs and method.warm and not plain_distillation:
            start = place.fit(
                Training(
                    "erm",
                    rows=rows,
                    start=start,
                    epochs=settings.erm_epochs,
                    learning_rate=settings.erm_learning_rate or settings.learning_rate,
                    facts=replace(facts, prepared={}) if taught else None,
                    keys=tuple(stage.key for stage in used) if taught else (),
                    distilled=True,
                )
            )
            before.append(start)
            epochs -= settings.erm_epochs
        final = place.fit(
            Training(
                method_name,
                options,
                rows=rows,
                facts=facts,
                keys=tuple(stage.key for stage in (*prepared.stages, *used)),
                start=start,
                epochs=epochs,
                distilled=True,
                selected=True,
            )
        )
        return [*before, *used, final]

    def facts(
        self, needs: frozenset[str], place: Lab, prepared: Prepared
    ) -> tuple[TrainingMetadata, list[Stage]]:
        """What a method and a distiller with these `needs` may know of the training rows.

        And the stages that found it out.
        """
        facts = replace(metadata_of(self.data.train), prepared=prepared.tensors)
        used: list[Stage] = []
        if self.infers(needs):
            name = self.settings.group_inference
            inference: type[GroupInference] = self.plugins["group_inference"].get(name)
            given = self.settings.group_inference_options.get(name, {})
            options = inference.resolved(given, self.task.modality)
            stage = inference.environments(place, options)
            environment = torch.from_numpy(np.load(stage.path / "environment.npy"))
            names = tuple(stage.record["names"])
            facts = crossed(
                replace(facts, environment=environment, environments=names), self.labels
            )
            used.append(stage)
        if "bias_model" in needs:
            stage = self.bias_model()
            log_probs = torch.from_numpy(np.load(stage.path / "log_probs.npy"))
            facts = replace(facts, bias_log_probs=log_probs)
            used.append(stage)
        return facts, used

    def bias_model(self) -> Stage:
        """The bias-only model's log-probabilities of the training rows: one for all seeds."""
        name = self.settings.bias_model
        kind: type[BiasModel] = self.plugins["bias_model"].get(name)
        given = self.settings.bias_model_options.get(name, {})
        options = kind.resolved(given, self.task.modality)
        place = Lab(self, "bias_model", self.settings.student, self.config.data_seed)
        return kind.log_probs(place, options)

    def as_it_is(self, role: str, settings: RoleSettings, seed: int) -> TrainedModel:
        """A checkpoint that is evaluated (or teaches) without further training."""
        source = checkpoints.locate(settings, self.task.modality, self.plugins)
        if source.checkpoint is None:
            raise HarnessError(
                f"{role}: {settings.model!r} is a preset with random weights; an evaluation needs "
                f"a trained checkpoint (a folder saved with save_pretrained, or a hub id)."
            )
        labels = checkpoints.trained_labels(
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

    def code(self) -> list[str]:
        """The versions of the modules that every model depends on."""
        return [code_version(module) for module in CODE]

    def selection_key(self) -> Any:
        """What makes two selections the same."""
        if self.settings.select == "none" or self.data.validation is None:
            return None
        return [self.settings.select, self.data.validation.fingerprint]

    def identity(self, source: checkpoints.Source) -> Any:
        """What makes two starting points the same: the preset's configuration, or the weights."""
        if source.backbone is not None:
            return [source.backbone.model_type, dict(source.backbone.config)]
        return weights_key(Path(str(source.checkpoint)))

    def logits(self, model: TrainedModel, split: Split) -> Stage:
        """One model's logits on one split as a stage: `logits.npy` (N, C) float32, by row.

        Ids are not kept beside them: the stage's key holds the split's fingerprint, and with it
        every id in order, so that a million rows of three logits are 12 MB.
        """
        return self._asked(model.path, role_of(model), split, self.task.inputs, features=False)

    def answers(
        self, path: Path, role: RoleSettings, split: Split, inputs: tuple[str, ...] | None
    ) -> Stage:
        """As `logits`, with the last layer's inputs: `features.npy` (N, H)."""
        return self._asked(path, role, split, inputs or self.task.inputs, features=True)

    def _asked(
        self,
        path: Path,
        role: RoleSettings,
        split: Split,
        inputs: tuple[str, ...],
        *,
        features: bool,
    ) -> Stage:
        """What a checkpoint answers on a split.

        Keyed by weights, data and preprocessing, so that no model is ever served another's.
        """
        role = role.model_copy(update={"model": str(path), "config": {}})
        spec = {
            "model": weights_key(path),
            "split": split.fingerprint,
            "inputs": list(inputs),
            "processor": encode.processor_key(self.processor(role)[0]),
            "max_length": role.max_length,
            "crop": self.settings.image.center_crop,
            "hardware": [self.choice.device, self.choice.precision, self.choice.attention],
            "batch_size": self.config.eval_batch_size,
            "code": [code_version(module) for module in (predict, network, batching, encode)],
        }

        def build(folder: Path) -> dict[str, Any]:
            loaded = classifiers.load_trained(
                str(path),
                self.task.modality,
                attention=self.choice.attention,
                trust_remote_code=self.config.trust_remote_code,
            )
            ask = predict.predict_with_features if features else predict.predict
            out = ask(
                self.accelerator,
                loaded,
                self.encoded(split, role, inputs),
                batch_size=self.config.eval_batch_size,
                name=f"{path.name} on {split.name}",
                quiet=self.quiet,
            )
            if self.store.processes.is_main:
                logits = out[0] if isinstance(out, tuple) else out
                np.save(folder / "logits.npy", logits)
                if isinstance(out, tuple):
                    np.save(folder / "features.npy", out[1])
            return {"rows": len(split)}

        return self.store.run("answers" if features else "logits", spec, build)

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
