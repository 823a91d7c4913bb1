"""Metadata of all training rows, and of the rows of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

Inputs: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class TrainingMetadata:
    """Facts of the training rows that a method may use before the first step.

    `label` (N,) int64; `group` and `environment` (N,) int64, -1 = none: indices into `groups` and
    `environments` (values of the attribute, unless they were inferred). `bias_log_probs` (N, C)
    float32 of the bias-only model, or None. `prepared` (N, ...) holds what the method's `prepare`
    gave.
    """

    label: Tensor
    group: Tensor
    n_labels: int
    groups: tuple[str, ...]
    bias_log_probs: Tensor | None = None
    environment: Tensor | None = None
    environments: tuple[str, ...] = ()
    prepared: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> TrainingMetadata:
        """The same metadata on `device`."""
        return self._each(lambda value: value.to(device))

    def select(self, rows: Tensor) -> TrainingMetadata:
        """The metadata of some rows (R,)."""
        return self._each(lambda value: value[rows])

    def _each(self, change: Callable[[Tensor], Tensor]) -> TrainingMetadata:
        """The metadata with every tensor changed in the same way."""
        changed: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if torch.is_tensor(value)
        }
        prepared = {name: change(value) for name, value in self.prepared.items()}
        return replace(self, **changed, prepared=prepared)


@dataclass(frozen=True)
class Batch:
    """A batch: `row` (B,) int64 into the training rows, `label`, `group`, `environment` (B,).

    `partner` (B,) are the rows that the method's `partners` chose. `update` counts from 0,
    `progress` is the share of the training that is done, in [0, 1); `seed` is the same on every
    process and another for every update. `outputs` are what the method's `forward` gave besides
    the logits, (B, ...) each.
    """

    row: Tensor
    label: Tensor
    group: Tensor
    environment: Tensor | None = None
    partner: Tensor | None = None
    update: int = 0
    progress: float = 0.0
    seed: int = 0
    outputs: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def generator(self) -> torch.Generator:
        """A random stream (CPU) of this update, the same on every process."""
        return torch.Generator().manual_seed(self.seed)

    def part(self, start: int, stop: int) -> Batch:
        """Rows `start` to `stop` of the batch."""
        own = ("row", "label", "group", "environment", "partner")
        cut: dict[str, Any] = {
            name: value[start:stop] for name in own if (value := getattr(self, name)) is not None
        }
        return replace(self, **cut)
