"""What a training is made from: processors, encoded splits, facts for a method, the bias model."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from harness_plugin.config.roles import plan_of_roles
from harness_plugin.config.settings import RoleSettings, RunConfig, TaskSettings
from harness_plugin.data.dataset import Split, TaskData
from harness_plugin.data.task import Task
from harness_plugin.errors import HarnessError
from harness_plugin.models import checkpoints, processors
from harness_plugin.pipeline.hardware import HardwareSettings
from harness_plugin.plugins.registry import Plugins
from harness_plugin.store.stages import Stage, Store, code_version
from harness_plugin.training import contracts, encode
from harness_plugin.training.contracts import BiasModel, Configured, Method


@dataclass(frozen=True)
class Materials:
    """One task's data, settings and machine, and what a training is made from."""

    task: Task
    settings: TaskSettings
    data: TaskData
    config: RunConfig
    choice: HardwareSettings
    accelerator: Accelerator
    store: Store
    plugins: Plugins
    vocabulary: Split | None = None
    """Whose words a tokenizer made here knows, where the training rows are not the task's own."""
    _processors: dict[str, tuple[Any, Path]] = field(default_factory=dict, compare=False)

    @property
    def quiet(self) -> bool:
        """No progress bars off the main process and off a terminal."""
        return not (self.accelerator.is_main_process and sys.stderr.isatty())

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels models are trained on."""
        return self.data.train.labels

    def available(self) -> set[str]:
        """What this data can give a method: keys of `contracts.NEEDS`."""
        train, validation, found = self.data.train, self.data.validation, set()
        if train.groups and bool((train.group >= 0).any()):
            found.add("groups")
        if any(train.column("attribute")):
            found.add("environments")
        if validation is not None:
            found.add("validation")
            if validation.groups and bool((validation.group >= 0).any()):
                found.add("validation_groups")
        if self.inferred:
            inference = self.plugins["group_inference"].get(self.settings.group_inference)
            if not contracts.missing_needs(inference, found):
                found |= {"groups", "environments"}
        if self.task.bias_features is not None:
            found.add("bias_features")
        if self.task.counterfactual is not None:
            found.add("counterfactual")
        if self.task.modality == "text" and len(self.task.inputs) > 1:
            found.add("text_pair")
        if self.settings.bias_model in self.plugins["bias_model"]:
            bias: type[BiasModel] = self.plugins["bias_model"].get(self.settings.bias_model)
            found |= set() if contracts.missing_needs(bias, found) else {"bias_model"}
        return found

    @property
    def inferred(self) -> bool:
        """Whether training groups are found instead of being read."""
        return self.settings.group_inference != "none"

    def infers(self, needs: frozenset[str]) -> bool:
        """Whether the groups or environments among `needs` are inferred ones."""
        return self.inferred and bool(needs & {"groups", "environments"})

    def check_method(self, name: str, role: RoleSettings) -> None:
        """Refuse a method whose needs, options or model this task does not meet."""
        method: type[Method] = self.plugins["method"].get(name)
        method.resolved(self.method_options(name))
        available = self.available()
        reasons = self._missing(method, available)
        source = checkpoints.locate(role, self.task.modality, self.plugins)
        kind = checkpoints.model_type(source, self.config.trust_remote_code)
        where = f"task {self.task.task}: method {name}"
        if reasons:
            raise HarnessError(
                f"{where} needs {' and '.join(reasons)}, which {self.data.source} data of this "
                f"task do not have. Methods that work: {', '.join(self._workable(available))}."
            )
        if refusal := method.refusal(self.task.modality, kind):
            raise HarnessError(f"{where} cannot train {role.model}: {refusal}.")

    def check_settings(self) -> None:
        """Refuse a model selection, bias model or group inference that this task cannot have."""
        settings, available = self.settings, self.available()
        chosen = {"group_inference": settings.group_inference} if self.inferred else {}
        roles = plan_of_roles(settings)
        taught = {name: r.distillation for name, r in roles.items() if r.distillation}
        used = {self.plugins["method"].get(role.method) for role in roles.values()}
        used |= {self.plugins["distiller"].get(s.distiller) for s in taught.values()}
        if any("bias_model" in method.needs for method in used):
            chosen["bias_model"] = settings.bias_model
        for kind, name in chosen.items():
            offered: type[Configured] = self.plugins[kind].get(name)
            offered.resolved(getattr(settings, f"{kind}_options").get(name, {}))
            if missing := contracts.missing_needs(offered, available):
                raise HarnessError(
                    f"task {self.task.task}: {kind} {name} needs {' and '.join(missing)}, which "
                    f"{self.data.source} data of this task do not have."
                )
        for name, student in taught.items():
            method = roles[name].method
            trains = self.plugins["method"].get(method).has_trainable_modules
            if trains and student.ce_weight == 0:
                raise HarnessError(
                    f"task {self.task.task}: {name} has ce_weight 0, and method {method} trains "
                    f"modules of its own with the label term: give it a weight, or "
                    f"students.{name}.method=erm."
                )
        wanted = {"average": "validation", "worst_group": "validation_groups"}.get(settings.select)
        if wanted and wanted not in available:
            raise HarnessError(
                f"task {self.task.task}: --select {settings.select} needs "
                f"{contracts.NEEDS[wanted]}, which {self.data.source} data of this task "
                "do not have."
            )

    def supervision(self, name: str, taught: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Which labels besides the task's own a model was trained and chosen with.

        `name` is its method, `taught` are the needs of its distiller and augmentations.
        """
        needs = self.plugins["method"].get(name).needs | taught
        inferred = self.infers(needs)
        wants = bool(needs & {"groups", "environments"})
        inference = self.settings.group_inference if inferred else None
        held = {"validation_groups"} & needs
        if inference:
            held |= {"validation_groups"} & self.plugins["group_inference"].get(inference).needs
        return {
            "train_groups": wants and not inferred,
            "validation_groups": bool(held) or self.settings.select == "worst_group",
            "group_inference": inference,
            "bias_model": self.settings.bias_model if "bias_model" in needs else None,
            "select": self.settings.select,
        }

    def method_options(self, name: str) -> dict[str, Any]:
        """The options set for a method."""
        return dict(self.settings.method_options.get(name, {}))

    def _missing(self, method: type[Method], available: set[str]) -> list[str]:
        """What a method, and the one that trains its base, needs and cannot have, in words."""
        base = [self.plugins["method"].get(method.base)] if method.base else []
        return [
            word for each in (method, *base) for word in contracts.missing_needs(each, available)
        ]

    def _workable(self, available: set[str]) -> list[str]:
        """The methods this data can serve."""
        return [
            offer.name
            for offer in self.plugins["method"]
            if not self._missing(offer.load(), available)
        ]

    def processor(self, role: RoleSettings) -> tuple[Any, Path]:
        """The tokenizer or image processor of a role, and the folder it was loaded from."""
        source = checkpoints.locate(role, self.task.modality, self.plugins)
        folder = source.checkpoint or str(self._scratch_processor().path)
        if folder not in self._processors:
            trust = self.config.trust_remote_code and source.checkpoint is not None
            loaded = processors.load_processor(folder, self.task.modality, trust)
            self._processors[folder] = (loaded, Path(folder))
        return self._processors[folder]

    def _scratch_processor(self) -> Stage:
        """The stage with the processor that models built from scratch share."""
        text = self.task.modality == "text"
        spec: dict[str, Any] = {"modality": self.task.modality, "code": code_version(processors)}
        if text:
            known = self.vocabulary or self.data.train
            spec |= {"train": known.fingerprint, "inputs": list(self.task.inputs)}
            spec["vocab_size"] = self.settings.vocab_size
        else:
            spec["image"] = self.settings.image.model_dump()

        def build(folder: Path) -> None:
            if not self.store.processes.is_main:
                return
            if text:
                texts = processors.texts_of(known, self.task.inputs)
                processors.train_tokenizer(texts, self.settings.vocab_size, folder)
            else:
                processors.save_image_processor(self.settings.image, folder)

        return self.store.run("processor", spec, build)

    def encoded(
        self, split: Split, role: RoleSettings, inputs: tuple[str, ...] | None = None
    ) -> encode.Encoded:
        """The model inputs of `split` as `role` reads them; `inputs` are the columns it sees."""
        return encode.encode(
            split,
            inputs or self.task.inputs,
            self.processor(role)[0],
            self.store,
            max_length=role.max_length,
            center_crop=self.settings.image.center_crop,
            quiet=self.quiet,
        )
