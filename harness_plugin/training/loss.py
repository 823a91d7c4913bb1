"""What a training minimises, and the module that gives it what it needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness_plugin.errors import HarnessError
from harness_plugin.models.layers import OnlineTeacher
from harness_plugin.models.network import Network
from harness_plugin.training.contracts import Batch, Distiller, ForwardContext, Inputs, Method
from harness_plugin.training.ensemble import Ensemble


@dataclass(frozen=True)
class TeacherOutputs:
    """What a teacher said of the training rows, by training row.

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
        return torch.from_numpy(chosen).to(device)


class DistillationLoss(nn.Module):
    """ce_weight * method loss + kd_weight * factor * mean(weights * distiller loss).

    The factor is T^2 for losses on softened probabilities alone, and always applied; it is 1 for
    others. The weights are the method's. `teacher` gives its outputs by training row. A `distiller`
    of `kd_weight` 0 is left out.
    """

    def __init__(
        self,
        method: Method,
        distiller: Distiller | None = None,
        teacher: TeacherOutputs | None = None,
        ce_weight: float = 1.0,
        kd_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.method = method
        self.distiller = distiller if kd_weight > 0 else None
        self.teacher = teacher
        self.ce_weight = ce_weight
        self.kd_weight = kd_weight

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        """() the loss of one global batch.

        A label term of weight 0 is computed all the same where the method weighs examples: group
        weights and losses that are remembered must follow the training.
        """
        # every parameter gets a gradient, if a zero: processes that share a model wait for all
        total = 0.0 * logits.sum()
        if self.distiller is None:
            if self.ce_weight:
                total = total + self.ce_weight * self.method.loss(logits, batch)
            return total
        weights = None
        if self.ce_weight or self.method.weighs_examples:
            label_term, weights = self.method.loss_and_weights(logits, batch)
            total = total + self.ce_weight * label_term
        each = self._distiller_loss(self.distiller, logits, batch)
        term = each.mean() if weights is None else (weights * each).mean()
        factor = self.distiller.temperature_factor if self.distiller.softened_only else 1.0
        return total + self.kd_weight * factor * term

    def _distiller_loss(self, distiller: Distiller, logits: Tensor, batch: Batch) -> Tensor:
        """(B,) what the distiller makes of the teacher's outputs, or () for the whole batch."""
        if self.teacher is None:
            raise HarnessError("a distiller needs teacher logits and none were given.")
        targets = self.teacher.targets(logits, batch)
        if "features" in distiller.teacher_outputs:
            features = self.teacher.features_of(batch.row, logits.device)
            batch = replace(batch, outputs={**batch.outputs, "teacher_features": features})
        return distiller.loss(logits, targets, batch)


class TrainableModel(nn.Module):
    """A classifier with what its method and its distiller add to it: what Accelerate wraps."""

    def __init__(self, network: Network, loss: DistillationLoss) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        # Read by DistributedDataParallel. What is known and remembered of the training rows is the
        # same on every process; to send it before every forward would cost time only.
        self._ddp_params_and_buffers_to_ignore = [
            f"loss.{name}" for name, _ in loss.named_buffers()
        ]
        loss.method.setup(network)
        self.teacher: OnlineTeacher | None = None
        if loss.distiller is not None and loss.teacher is not None:
            loss.distiller.setup(network, loss.teacher)
            self.teacher = loss.teacher.live
        if self.teacher is not None:
            network.record_layers()

    def forward(
        self, inputs: Inputs, batch: Batch, partner_inputs: Inputs | None = None
    ) -> dict[str, Tensor]:
        """`logits` (b, C) of the local rows, and what else method and distiller give the loss."""
        distiller = self.loss.distiller
        output, extra = self.loss.method(
            ForwardContext(self.network, inputs, batch, partner_inputs, distiller is not None)
        )
        outputs = {"logits": output.logits, **extra}
        if distiller is None:
            return outputs
        layers = None if self.teacher is None else self.teacher.layers(batch.row)
        outputs.update(distiller(output, layers))
        return outputs

    def fold(self) -> None:
        """Put into the network what it is to answer with."""
        if self.loss.distiller is not None:
            self.loss.distiller.fold(self.network)
