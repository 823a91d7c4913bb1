"""Where one role's model of one seed is trained, in as many stages as its method has."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness_plugin.config.settings import RoleSettings
from harness_plugin.data.dataset import Split
from harness_plugin.errors import HarnessError
from harness_plugin.models import checkpoints, classifiers, processors
from harness_plugin.pipeline import distilling
from harness_plugin.store.stages import Stage, Store, code_version
from harness_plugin.training import encode, loop
from harness_plugin.training.contracts import Method, TrainingMetadata
from harness_plugin.training.encode import EncodedRows
from harness_plugin.training.selection import ModelSelection

if TYPE_CHECKING:
    from harness_plugin.pipeline.distilling import Distillation
    from harness_plugin.pipeline.roles import Workshop

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """What a trained model gives on a split: logits (N, C), last-layer inputs (N, H), float32."""

    key: str
    logits: NDArray[np.float32]
    features: NDArray[np.float32]


@dataclass(frozen=True)
class Training:
    """One training: with which objective, on which rows, from which weights.

    `rows` (R,) are row numbers of `split` (None = all). `facts` are those of all rows of the split;
    `keys` name the stages they came from. `inputs` are the input columns the model sees.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    split: Split | None = None
    rows: Ints | None = None
    inputs: tuple[str, ...] | None = None
    facts: TrainingMetadata | None = None
    keys: tuple[str, ...] = ()
    start: Stage | None = None
    epochs: float | None = None
    learning_rate: float | None = None
    distilled: bool = False
    """Whether the role's distillation term is part of the loss."""
    selected: bool = False
    """Whether the run's model selection chooses the epoch."""


@dataclass(frozen=True)
class Lab:
    """The trainings of one role and seed. Methods with several stages are handed one."""

    shop: Workshop
    role: str
    settings: RoleSettings
    seed: int
    distillation: Distillation | None = None

    @property
    def train(self) -> Split:
        """The training rows."""
        return self.shop.data.train

    @property
    def store(self) -> Store:
        """Where stages are kept."""
        return self.shop.store

    @property
    def validation(self) -> Split:
        """The validation rows; HarnessError when there are none."""
        if self.shop.data.validation is None:
            raise HarnessError(
                f"task {self.shop.task.task}: {self.role} needs a validation split; this data has "
                f"none. Hold rows out: --set validation_fraction=0.1."
            )
        return self.shop.data.validation

    def erm(
        self,
        *,
        epochs: float | None = None,
        rows: Ints | None = None,
        split: Split | None = None,
        inputs: tuple[str, ...] | None = None,
        method: str = "erm",
        options: Mapping[str, Any] | None = None,
    ) -> Stage:
        """A plain training of the role's model, as a first stage is. Without distillation."""
        rate = self.settings.erm_learning_rate or self.settings.learning_rate
        return self.fit(
            Training(
                method,
                options or {},
                split=split,
                rows=rows,
                inputs=inputs,
                epochs=self.settings.epochs if epochs is None else epochs,
                learning_rate=rate,
            )
        )

    def answers(
        self, trained: Stage, split: Split | None = None, inputs: tuple[str, ...] | None = None
    ) -> Answers:
        """What a trained stage gives on a split (default: the training rows)."""
        stage = self.shop.answers(trained.path, self.settings, split or self.train, inputs)
        return Answers(
            stage.key,
            np.load(stage.path / "logits.npy"),
            np.load(stage.path / "features.npy", mmap_mode="r"),
        )

    def fit(self, training: Training) -> Stage:
        """One training as a stage: a folder that `from_pretrained` loads."""
        shop, settings = self.shop, self.settings
        split = training.split or self.train
        inputs = training.inputs or shop.task.inputs
        method: type[Method] = shop.plugins["method"].get(training.method)
        options = method.resolved(training.options, shop.task.modality)
        source = checkpoints.locate(settings, shop.task.modality, shop.plugins)
        processor, processor_folder = shop.processor(settings)
        init_seed = self.init_seed()
        changed = {"epochs": training.epochs, "learning_rate": training.learning_rate}
        plan = loop.TrainingArgs(
            seed=init_seed + (1 if training.start else 0),
            **{name: getattr(settings, name) for name in PLAN_FIELDS}
            | {name: value for name, value in changed.items() if value is not None},
        )
        distillation = self.distillation if training.distilled else None
        signals = distilling.signals(shop, distillation) if distillation else ()
        own_code = [base.__module__ for base in method.__mro__ if base is not object]
        if distillation is not None:
            kind = distilling.distiller_of(shop, distillation.settings)
            own_code += [base.__module__ for base in kind.__mro__ if base is not object]
        spec: dict[str, Any] = {
            "train": split.fingerprint,
            "rows": None if training.rows is None else hash_of_rows(training.rows),
            "inputs": list(inputs),
            "plan": vars(plan),
            "model": shop.identity(source),
            "config": settings.config,
            "max_length": settings.max_length,
            "processor": encode.processor_key(processor),
            "method": training.method,
            "method_options": options,
            "start": training.start.key if training.start else None,
            "facts": list(training.keys),
            "selection": shop.selection_key() if training.selected else None,
            "distillation": distillation and distilling.identity(shop, distillation, signals),
            "hardware": [shop.choice.device, shop.choice.precision, shop.choice.attention],
            "torch": torch.__version__,
            "code": shop.code() + [code_version(sys.modules[name]) for name in own_code],
        }

        def build(folder: Path) -> dict[str, Any]:
            first = source
            if training.start is not None:
                first = checkpoints.Source(source.name, checkpoint=str(training.start.path))
            model = classifiers.build_model(
                first,
                settings,
                modality=shop.task.modality,
                labels=split.labels,
                processor=processor,
                attention=shop.choice.attention,
                seed=init_seed,
                trust_remote_code=shop.config.trust_remote_code,
            )
            begun = None
            if distillation is not None and training.start is None:
                begun = distilling.begin(shop, model, processor, distillation)
            facts = training.facts or metadata_of(split)
            encoded = shop.encoded(split, settings, inputs)
            if training.rows is not None:
                encoded = EncodedRows(encoded, training.rows)
                facts = facts.select(torch.from_numpy(training.rows))
            facts = facts.to(shop.accelerator.device)
            goal = distilling.objective(
                shop, method(facts, **options), facts, distillation, signals, training.rows
            )
            record = loop.fit(
                shop.accelerator,
                model,
                loop.TrainingRows(encoded, facts),
                goal,
                plan,
                loop.LoopOptions(
                    name=f"{shop.task.task} seed {self.seed} {self.role} ({training.method})",
                    folder=folder,
                    checkpoint_steps=shop.config.checkpoint_steps,
                    compile_model=shop.config.compile,
                    quiet=shop.quiet,
                ),
                self._selection() if training.selected else None,
            )
            record |= {"from_teacher": begun.record()} if begun else {}
            if shop.store.processes.is_main:
                loop.drop_checkpoints(folder)
                self.save(shop.accelerator.unwrap_model(model), folder, processor_folder)
                about = {"task": shop.task.task, "role": self.role, "seed": self.seed}
                classifiers.model_card(folder, {**about, **record, "spec": spec})
            return record

        return shop.store.run("model", spec, build)

    def init_seed(self) -> int:
        """The seed of a model's first weights and its batches.

        The same for every student and its control, so that they are compared; another for the
        teachers, each further teacher and each round.
        """
        further = list(self.shop.settings.teachers)
        number = further.index(self.role) + 1 if self.role in further else 0
        base = 0 if "teacher" in self.role else 500
        rounds = self.distillation.round if self.distillation else 0
        return 1000 * self.seed + base + 20 * number + 2 * rounds

    def save(self, model: Any, folder: Path, processor_folder: Path) -> None:
        """Weights, configuration and processor, so that `from_pretrained` loads the folder."""
        model.save_pretrained(folder)
        processor = processors.load_processor(str(processor_folder), self.shop.task.modality)
        processor.save_pretrained(folder)

    def _selection(self) -> ModelSelection | None:
        """What the run's `select` scores a training on; None when it selects nothing."""
        if self.shop.settings.select == "none":
            return None
        split = self.validation
        return ModelSelection(
            self.shop.settings.select,
            split.name,
            self.shop.encoded(split, self.settings),
            split.label,
            split.group,
            self.shop.config.eval_batch_size,
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


def metadata_of(split: Split) -> TrainingMetadata:
    """Labels, groups and attributes of a split as it is."""
    values, environment = np.unique(
        np.asarray(split.column("attribute"), np.str_), return_inverse=True
    )
    names = tuple(value for value in values.tolist() if value)
    environment = environment.astype(np.int64) - (1 if "" in values else 0)  # "" sorts first
    return TrainingMetadata(
        label=torch.from_numpy(split.label),
        group=torch.from_numpy(split.group),
        n_labels=len(split.labels),
        groups=split.groups,
        environment=torch.from_numpy(environment),
        environments=names,
    )


def crossed(facts: TrainingMetadata, labels: tuple[str, ...]) -> TrainingMetadata:
    """The facts with the groups label x environment: "entailment/overlap" and so on."""
    if facts.environment is None:
        raise HarnessError("groups were asked for from environments that do not exist.")
    names = facts.environments
    group = facts.label * len(names) + facts.environment
    return replace(
        facts,
        group=torch.where(facts.environment < 0, -1, group),
        groups=tuple(f"{label}/{name}" for label in labels for name in names),
    )


def hash_of_rows(rows: Ints) -> str:
    """Hash of a choice of rows."""
    return hashlib.sha256(np.ascontiguousarray(rows, np.int64).tobytes()).hexdigest()[:20]
