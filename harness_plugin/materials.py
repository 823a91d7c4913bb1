"""What a training is made from: processors, encoded splits, facts for a method, the bias model."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from harness_plugin import encode, methods, models
from harness_plugin.bias import bias_stage
from harness_plugin.config import RoleSettings, RunConfig, TaskSettings
from harness_plugin.data import Split, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin.hardware import Choice
from harness_plugin.methods import Debiaser, TrainingFacts
from harness_plugin.plugins import Plugins
from harness_plugin.stages import Stage, Store, code_version
from harness_plugin.task import Task


@dataclass(frozen=True)
class Materials:
    """One task's data, settings and machine, and what a training is made from."""

    task: Task
    settings: TaskSettings
    data: TaskData
    config: RunConfig
    choice: Choice
    accelerator: Accelerator
    store: Store
    plugins: Plugins
    _processors: dict[str, tuple[Any, Path]] = field(default_factory=dict, compare=False)

    @property
    def quiet(self) -> bool:
        """No progress bars off the main process and off a terminal."""
        return not (self.accelerator.is_main_process and sys.stderr.isatty())

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels models are trained on."""
        return self.data.train.labels

    @cached_property
    def bias(self) -> Stage | None:
        """The bias-only model of the training rows."""
        return bias_stage(self.task, self.data.train, self.store, self.config.data_seed)

    def facts(self, method: type[Debiaser]) -> TrainingFacts:
        """What `method` may know of the training rows; HarnessError when it needs more."""
        device, split = self.accelerator.device, self.data.train
        bias = None
        if "bias_model" in method.needs and self.task.bias_features and self.bias:
            bias = torch.from_numpy(np.load(self.bias.path / "log_probs.npy")).to(device)
        facts = TrainingFacts(
            label=torch.from_numpy(split.label).to(device),
            group=torch.from_numpy(split.group).to(device),
            n_labels=len(split.labels),
            groups=split.groups,
            bias_log_probs=bias,
        )
        if missing := methods.missing_needs(method, facts):
            raise HarnessError(
                f"task {self.task.task}: method {method.__name__} needs {' and '.join(missing)}, "
                f"which {self.data.source} data of this task do not have. "
                f"Methods that work: {', '.join(self._workable(facts))}."
            )
        return facts

    def check_method(self, name: str) -> None:
        """Refuse a method whose needs or options this task's data and settings do not meet."""
        method: type[Debiaser] = self.plugins["debiaser"].get(name)
        method(self.facts(method), **self.method_options(name))

    def method_options(self, name: str) -> dict[str, Any]:
        """The options set for a method."""
        return dict(self.settings.method_options.get(name, {}))

    def _workable(self, facts: TrainingFacts) -> list[str]:
        offers = self.plugins["debiaser"]
        return [o.name for o in offers if not methods.missing_needs(o.load(), facts)]

    def processor(self, role: RoleSettings) -> tuple[Any, Path]:
        """The tokenizer or image processor of a role, and the folder it was loaded from."""
        source = models.locate(role, self.task.modality, self.plugins)
        folder = source.checkpoint or str(self._scratch_processor().path)
        if folder not in self._processors:
            trust = self.config.trust_remote_code and source.checkpoint is not None
            loaded = models.load_processor(folder, self.task.modality, trust)
            self._processors[folder] = (loaded, Path(folder))
        return self._processors[folder]

    def _scratch_processor(self) -> Stage:
        """The stage with the processor that models built from scratch share."""
        text = self.task.modality == "text"
        spec: dict[str, Any] = {"modality": self.task.modality, "code": code_version(models)}
        if text:
            spec |= {"train": self.data.train.fingerprint, "inputs": list(self.task.inputs)}
            spec["vocab_size"] = self.settings.vocab_size
        else:
            spec["image"] = self.settings.image.model_dump()

        def build(folder: Path) -> None:
            if not self.store.processes.is_main:
                return
            if text:
                texts = models.texts_of(self.data.train, self.task.inputs)
                models.train_tokenizer(texts, self.settings.vocab_size, folder)
            else:
                models.save_image_processor(self.settings.image, folder)

        return self.store.run("processor", spec, build)

    def encoded(self, split: Split, role: RoleSettings) -> encode.Encoded:
        """The model inputs of `split` as `role` reads them."""
        return encode.encode(
            split,
            self.task.inputs,
            self.processor(role)[0],
            self.store,
            max_length=role.max_length,
            center_crop=self.settings.image.center_crop,
            quiet=self.quiet,
        )
