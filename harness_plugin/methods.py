"""What a debiaser and a distiller are. Losses always see the whole (global) batch.

The loop gathers logits, labels and row numbers over all processes before it calls a loss, with
the gradient flowing into the local part. A method is therefore written once, for one process,
and group losses, batch means and in-batch comparisons are those of the global batch however many
processes share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness_plugin.errors import HarnessError, unknown

NEEDS = {
    "groups": "group labels on the training rows",
    "bias_model": "a bias-only model (the task must offer `bias_features`)",
}


@dataclass(frozen=True)
class TrainingFacts:
    """What a method may know of the training rows before the first step.

    `group` (N,) int64, -1 = none; `label` (N,) int64; `bias_log_probs` (N, C) float32 of the
    bias-only model, or None.
    """

    label: Tensor
    group: Tensor
    n_labels: int
    groups: tuple[str, ...]
    bias_log_probs: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """The global batch: `row` (B,) int64 into the training rows, `label`, `group` (B,) int64."""

    row: Tensor
    label: Tensor
    group: Tensor


class Debiaser:
    """A training objective for the label term. Options are the class's `defaults`."""

    needs: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, facts: TrainingFacts, **options: Any) -> None:
        for name in options:
            if name not in self.defaults:
                raise unknown(f"option of method {type(self).__name__}", name, self.defaults)
        self.facts = facts
        self.options = {**self.defaults, **options}

    def sampling_weights(self) -> Tensor | None:
        """(N,) how often each row is drawn, up to a factor; None = every row once an epoch."""
        return None

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() the label term; logits (B, C) float32."""
        raise NotImplementedError

    def weights(self, batch: Batch) -> Tensor | None:
        """(B,) weights with mean about 1 for the distillation term; None = all 1."""
        return None

    def to(self, device: torch.device) -> Debiaser:
        """Move the method's tensors."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that change while training; they go into checkpoints."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave."""


class Distiller:
    """A per-example distillation loss on logits; the loop multiplies it by T^2 and kd_weight."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def loss(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """(B,) loss of every example; student and teacher logits (B, C) float32."""
        raise NotImplementedError


@dataclass(frozen=True)
class Objective:
    """ce_weight * debiaser loss + kd_weight * T^2 * mean(weights * distiller loss).

    The factor T^2 keeps the gradient's scale as T grows (Hinton et al. 2015, section 2.1) and is
    always applied. `teacher_logits` (N, C) are rows of the signal store, by training row.
    """

    debiaser: Debiaser
    distiller: Distiller | None = None
    teacher_logits: Tensor | None = field(default=None, repr=False)
    ce_weight: float = 1.0
    kd_weight: float = 0.0

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """() the loss of one global batch."""
        total = logits.new_zeros(())
        if self.ce_weight:
            total = total + self.ce_weight * self.debiaser.loss(logits, batch)
        if self.distiller is not None and self.kd_weight:
            if self.teacher_logits is None:
                raise HarnessError("a distiller needs teacher logits and none were given.")
            teacher = self.teacher_logits[batch.row].to(logits.device, logits.dtype)
            each = self.distiller.loss(logits, teacher, batch)
            weights = self.debiaser.weights(batch)
            term = each.mean() if weights is None else (weights * each).mean()
            total = total + self.kd_weight * self.distiller.temperature**2 * term
        return total


def missing_needs(method: type[Debiaser], facts: TrainingFacts) -> list[str]:
    """What `method` needs and `facts` cannot give, in words."""
    missing = []
    if "groups" in method.needs and (not facts.groups or bool((facts.group < 0).all())):
        missing.append(NEEDS["groups"])
    if "bias_model" in method.needs and facts.bias_log_probs is None:
        missing.append(NEEDS["bias_model"])
    return missing
