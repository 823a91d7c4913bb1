"""The contracts of methods and distillers. Losses always see the whole (global) batch.

The loop gathers what a method's `forward` gives over all processes before it calls `loss`, with
the gradient flowing into the local part. A method is therefore written once, for one process, and
group losses, batch means and in-batch comparisons are those of the global batch however many
processes share it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from harness_plugin.errors import HarnessError, unknown
from harness_plugin.models.network import ModelOutput, Network
from harness_plugin.training.batch import Batch, Inputs, TrainingMetadata
from harness_plugin.training.teacher_outputs import TeacherOutputs
from harness_plugin.training.trainer import Trainer

if TYPE_CHECKING:
    from harness_plugin.data.dataset import Split
    from harness_plugin.data.task import Task
    from harness_plugin.models.layers import Layers, Shape
    from harness_plugin.store.stages import Stage

NEEDS = {
    "groups": "group labels on the training rows (or `group_inference`)",
    "environments": "an attribute on the training rows (or `group_inference`)",
    "bias_model": "a bias-only model (`bias_features` of the task, or another `bias_model`)",
    "bias_features": "`bias_features` of the task",
    "counterfactual": "a `counterfactual` of the task",
    "text_pair": "two input texts",
    "validation": "a validation split (or `validation_fraction`)",
    "validation_groups": "group labels on a validation split (or `validation_fraction`)",
}
"""The values that a method may declare in `needs`, in words."""


@dataclass(frozen=True)
class Prepared:
    """The result of a method's first stage: tensors (N, ...) by name, and weights to start from.

    Every tensor becomes a buffer of the method under its name.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    start: Stage | None = None
    stages: tuple[Stage, ...] = ()
    """The stages it used: their keys become part of the training's key, their cost of its cost."""


class Configured:
    """Something with options: a class with `defaults` and `needs` (keys of NEEDS).

    `family` holds the defaults that differ by modality: {"text": {...}, "image": {...}}.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Mapping[str, Any]] = {}
    family: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @classmethod
    def resolved(cls, options: Mapping[str, Any], modality: str = "") -> dict[str, Any]:
        """`options` over the defaults; HarnessError for an unknown name or another type."""
        for name, value in options.items():
            if name not in cls.defaults:
                raise unknown(f"option of {cls.__name__}", name, cls.defaults)
            check_option(f"{cls.__name__}: option {name}", value, cls.defaults[name])
        return {**cls.defaults, **cls.family.get(modality, {}), **options}


class BiasModel(Configured):
    """A model of the spurious cue alone, whose log-probabilities ensemble methods lean on."""

    @classmethod
    def log_probs(cls, trainer: Trainer, options: Mapping[str, Any]) -> Stage:
        """A stage with `log_probs.npy` (N, C) float32 of the training rows, clamped from below.

        No row may be scored by a model that was fitted on it. `options` are resolved.
        """
        raise NotImplementedError


class GroupInference(Configured):
    """Finds environments where there are no group labels: label x environment are the groups."""

    @classmethod
    def environments(
        cls, trainer: Trainer, options: Mapping[str, Any], split: Split | None = None
    ) -> Stage:
        """A stage with `environment.npy` (N,) int64 and their `names` in its record.

        Of the rows of `split` (default: the training rows), which train nothing. Model selection
        asks those whose `needs` have no validation groups for the validation rows.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class ForwardContext:
    """The arguments of a method's `forward`: the local rows of a batch.

    `partner_inputs` are those of the rows that `partners` chose. `distilled`: whether the loss has
    a distillation term, which needs the output for the plain inputs.
    """

    network: Network
    inputs: Inputs
    batch: Batch
    partner_inputs: Inputs | None = None
    distilled: bool = False


class Objective(nn.Module, Configured):
    """Base of methods and distillers: options, and the metadata of the training rows as buffers.

    `label`, `group`, `environment` (N,) and `bias_log_probs` (N, C) are those of
    `TrainingMetadata`, and so is every tensor of its `prepared`, under its own name. They are data:
    in no checkpoint. What changes while training is a persistent buffer.
    """

    weighs_examples: ClassVar[bool] = False
    """Whether it gives every example a weight of its own; a method by `loss_and_weights`."""

    @classmethod
    def cannot_learn(cls, options: Mapping[str, Any], updates: int) -> str:
        """Why a training of `updates` updates learns nothing by it, "" when it does.

        `options` are resolved. Asked before anything is trained, and then refused; the words
        follow the name of the method or distiller and say what to set.
        """
        return ""

    label: Tensor
    group: Tensor
    environment: Tensor | None
    bias_log_probs: Tensor | None

    def __init__(self, metadata: TrainingMetadata | None, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.options = self.resolved(options)
        if metadata is None:
            return
        self.n_labels = metadata.n_labels
        self.groups = metadata.groups
        for name in ("label", "group", "environment", "bias_log_probs"):
            self.register_buffer(name, getattr(metadata, name), persistent=False)
        for name, value in metadata.prepared.items():
            self.register_buffer(name, value, persistent=False)


class Method(Objective):
    """A training objective for the label term.

    A method overrides what it is about: most only `loss`. `needs` and `refusal` are checked
    before anything is trained.
    """

    base: ClassVar[str] = ""
    """For methods that work on a trained model (`finish`): the method that trains it."""
    warm: ClassVar[bool] = True
    """Whether a recipe's ERM epochs come before; False for methods that define their own start."""
    uses_features: ClassVar[bool] = False
    """Whether `loss` finds the last layer's inputs (B, H) in `batch.outputs["features"]`."""
    has_trainable_modules: ClassVar[bool] = False
    """Whether `setup` adds modules that are trained with the label term."""

    def __init__(self, metadata: TrainingMetadata, **options: Any) -> None:
        super().__init__(metadata, options)

    @classmethod
    def refusal(cls, modality: str, model_type: str) -> str:
        """Why the method is not defined for a model, "" when it is."""
        return ""

    @classmethod
    def rows(cls, trainer: Trainer, options: Mapping[str, Any]) -> NDArray[np.int64] | None:
        """(R,) the training rows that the loop may see; None = all."""
        return None

    @classmethod
    def prepare(cls, trainer: Trainer, options: Mapping[str, Any]) -> Prepared:
        """A first stage, trained through the same loop; called with resolved options."""
        return Prepared()

    @classmethod
    def finish(cls, trainer: Trainer, trained: Stage, options: Mapping[str, Any]) -> Stage:
        """A last stage on the trained model, for methods with a `base`."""
        return trained

    def setup(self, network: Network) -> None:
        """Add trainable modules of the method's own as sub-modules, before the optimiser is made.

        They are in checkpoints, and dropped after training. Declare `has_trainable_modules`.
        """

    def sampling_weights(self) -> Tensor | None:
        """(N,) how often each row is drawn, up to a factor; None = every row once an epoch."""
        return None

    def partners(self, batch: Batch) -> Tensor | None:
        """(B,) a second training row for each row of the batch, whose inputs `forward` gets."""
        return None

    def forward(self, context: ForwardContext) -> tuple[ModelOutput, dict[str, Tensor]]:
        """The network's output for the local rows, and whatever else `loss` wants, (b, ...) each.

        The logits of the output and all else reach `loss` gathered over all processes. A distiller
        learns from the same output.
        """
        output = context.network(context.inputs)
        return output, {"features": output.features} if self.uses_features else {}

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() the label term; logits (B, C) float32."""
        raise NotImplementedError

    def loss_and_weights(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The label term, and (B,) weights of mean about 1 for the distillation term; None = all 1.

        Called instead of `loss` where there is a distillation term. Declare `weighs_examples`.
        """
        return self.loss(logits, batch), None


class Distiller(Objective):
    """The loss that a student learns from its teacher by, on the rows of a batch.

    A distiller overrides what it is about: most only `loss`. `needs` and `refusal` are checked
    before anything is trained. One that `weighs_examples` is refused beside a method that does:
    the weights would count twice.
    """

    teacher_outputs: ClassVar[frozenset[str]] = frozenset({"logits"})
    """Teacher outputs in the loss: "logits"; "features", the inputs of its last layer;
    "layers", what is inside, for which the teacher runs along in the training."""
    softened_only: ClassVar[bool] = True
    """Whether the loss has no term but on softened probabilities: then `DistillationLoss`
    multiplies the whole of it by `temperature_factor`."""

    def __init__(
        self, temperature: float, metadata: TrainingMetadata | None = None, **options: Any
    ) -> None:
        super().__init__(metadata, options)
        self.temperature = temperature

    @property
    def temperature_factor(self) -> float:
        """T^2: it keeps the gradient's scale as T grows (Hinton et al. 2015, section 2.1)."""
        return self.temperature**2

    @classmethod
    def refusal(cls, options: Mapping[str, Any], ce_weight: float, n_labels: int) -> str:
        """Why the loss is not defined or says nothing for these settings, "" when it does."""
        return ""

    @classmethod
    def term_weights(cls, options: Mapping[str, Any]) -> tuple[float, ...]:
        """The weights of the loss's terms. Refused: one below 0, and all of them 0."""
        return (1.0,)

    @classmethod
    def cannot_learn(cls, options: Mapping[str, Any], updates: int) -> str:
        """Terms of which none has a weight, or one a weight below 0."""
        weights = cls.term_weights(options)
        if min(weights) >= 0 and any(weights):
            return ""
        return (
            f"learns nothing, or the opposite: its terms weigh "
            f"{', '.join(f'{weight:g}' for weight in weights)} by its distiller_options; give none "
            f"a weight below 0 and at least one a weight above it"
        )

    @classmethod
    def mismatch(cls, options: Mapping[str, Any], student: Shape, teacher: Shape) -> str:
        """Why the loss cannot compare two models' layers, "" when it can."""
        return ""

    def setup(self, network: Network, teacher: TeacherOutputs) -> None:
        """Add trainable modules of the distiller's own (projectors) as sub-modules.

        They are in checkpoints, and dropped after training.
        """

    def forward(self, student: ModelOutput, teacher_layers: Layers | None) -> dict[str, Tensor]:
        """Student outputs for `loss` besides logits, (b, ...) each, for the local rows.

        With "layers" in `teacher_outputs` there are those of the teacher and of the student.
        """
        return {}

    def loss(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """(B,) loss of every example; student and teacher logits (B, C) float32.

        The outputs of `forward` are in `batch.outputs`, with "features" in `teacher_outputs` also
        `teacher_features` (B, H).
        """
        raise NotImplementedError

    def fold(self, network: Network) -> None:
        """Put into the network what it answers with: before it is scored, and after training."""


class Augmentation(Configured):
    """Further training rows. Ids must be new; columns are those of the train split."""

    @classmethod
    def labelled(cls, options: Mapping[str, Any]) -> bool:
        """Whether the labels of its rows are their own.

        Others are labelled by the student's first teacher, and kept where it is at least as sure as
        the option `confidence`, if there is one; a role without a teacher cannot learn from them.
        """
        return True

    @classmethod
    def rows(cls, task: Task, train: Split, options: Mapping[str, Any], seed: int) -> list[Split]:
        """The rows to add; `seed` is the data seed."""
        raise NotImplementedError


def check_option(where: str, value: Any, default: Any) -> None:
    """Refuse a value that is of another kind than the default."""
    number = isinstance(default, int | float) and not isinstance(default, bool)
    if number:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        fits = fits and (isinstance(default, float) or float(value).is_integer())
    else:
        fits = default is None or isinstance(value, type(default))
    if not fits:
        kind = "whole number" if isinstance(default, int) else type(default).__name__
        kind = "bool" if isinstance(default, bool) else kind
        raise HarnessError(f"{where} must be a {kind}, found {value!r}.")


def missing_needs(method: type[Configured], available: Collection[str]) -> list[str]:
    """The `needs` of `method` that are not `available`, in words."""
    if strange := sorted(method.needs - NEEDS.keys()):
        raise unknown(f"need of {method.__name__}", strange[0], NEEDS)
    return [NEEDS[need] for need in sorted(method.needs - set(available))]
