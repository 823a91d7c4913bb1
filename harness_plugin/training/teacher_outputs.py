"""The targets of a student: its teachers' outputs on the training rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness_plugin.errors import HarnessError
from harness_plugin.models.layers import OnlineTeacher
from harness_plugin.training.batch import Batch
from harness_plugin.training.ensemble import Ensemble
from harness_plugin.training.inputs.transfer import to_device


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's outputs on the training rows, by training row.

    `logits` (N, C) in the order of the student's labels; (N, M, C) of M teachers, with the
    `ensemble` that makes them one. `features` (N, H) float32, the inputs of its last layer,
    memory-mapped, and that layer's `weight` (C, H) and `bias` (C,), for distillers on features;
    `live` is the teacher itself, for those on layers.
    """

    logits: Tensor
    features: NDArray[np.float32] | None = field(default=None, repr=False)
    weight: Tensor | None = field(default=None, repr=False)
    bias: Tensor | None = field(default=None, repr=False)
    ensemble: Ensemble | None = None
    live: OnlineTeacher | None = field(default=None, repr=False)

    def targets(self, student: Tensor, batch: Batch) -> Tensor:
        """(B, C) what the student is to answer; its own logits (B, C) decide where some count."""
        rows = self.logits[batch.row].to(student.device, student.dtype)
        if self.ensemble is None:
            return rows
        return self.ensemble(rows, student.detach(), batch.label, batch.row)

    def select(self, rows: Tensor) -> TeacherOutputs:
        """The outputs for some training rows (R,), which become rows 0 .. R-1."""
        ensemble = self.ensemble
        if ensemble is not None and ensemble.biased is not None:
            ensemble = replace(ensemble, biased=ensemble.biased[rows.to(ensemble.biased.device)])
        return replace(
            self,
            logits=self.logits[rows.to(self.logits.device)],
            features=None if self.features is None else self.features[rows.cpu().numpy()],
            ensemble=ensemble,
        )

    @property
    def width(self) -> int:
        """H; HarnessError where there are no features."""
        return int(self.known_features.shape[1])

    @property
    def known_features(self) -> NDArray[np.float32]:
        """The features; HarnessError where there are none."""
        if self.features is None:
            raise HarnessError("a distiller needs the teacher's features and none were given.")
        return self.features

    def features_of(self, row: Tensor, device: torch.device) -> Tensor:
        """(B, H) of the rows of a batch."""
        chosen = np.array(self.known_features[row.cpu().numpy()])
        return to_device(torch.from_numpy(chosen), device)
