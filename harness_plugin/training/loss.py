"""The loss that a training minimises, and the module that computes its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from harness_plugin.errors import HarnessError
from harness_plugin.models.layers import OnlineTeacher
from harness_plugin.models.network import Network
from harness_plugin.training.batch import Batch, Inputs
from harness_plugin.training.contracts import Distiller, ForwardContext, Method
from harness_plugin.training.teacher_outputs import TeacherOutputs


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


@dataclass(frozen=True)
class BatchPart:
    """Rows of a batch that are padded together, with their and their partners' model inputs."""

    batch: Batch
    inputs: Inputs
    partner_inputs: Inputs | None = None


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

    def forward(self, parts: Sequence[BatchPart]) -> dict[str, Tensor]:
        """`logits` (b, C) of the local rows, and what else method and distiller give the loss."""
        each = [self._outputs(part) for part in parts]
        return {name: torch.cat([outputs[name] for outputs in each]) for name in each[0]}

    def _outputs(self, part: BatchPart) -> dict[str, Tensor]:
        """The outputs for the rows of one part."""
        distiller = self.loss.distiller
        output, extra = self.loss.method(
            ForwardContext(
                self.network, part.inputs, part.batch, part.partner_inputs, distiller is not None
            )
        )
        outputs = {"logits": output.logits, **extra}
        if distiller is None:
            return outputs
        layers = None if self.teacher is None else self.teacher.layers(part.batch.row)
        outputs.update(distiller(output, layers))
        return outputs

    def fold(self) -> None:
        """Put into the network what it is to answer with."""
        if self.loss.distiller is not None:
            self.loss.distiller.fold(self.network)
