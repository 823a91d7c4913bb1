"""What a training minimises, and the module that gives it what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness_plugin.errors import HarnessError
from harness_plugin.models.layers import OnlineTeacher
from harness_plugin.models.network import Network
from harness_plugin.training.contracts import Batch, Distiller, Inputs, Method
from harness_plugin.training.ensemble import Ensemble


@dataclass(frozen=True)
class TeacherOutputs:
    """What a teacher said of the training rows, by training row.

    `logits` (N, C) in the order of the student's labels; (N, M, C) of M teachers, with the
    `ensemble` that makes them one. `features` (N, H) float32, the inputs of its last layer,
    memory-mapped, and that layer's `weight` (C, H) and `bias` (C,), for distillers that hear them;
    `live` is the teacher itself, for those that hear its layers.
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
        """The signals of some training rows (R,), which are rows 0 .. R-1 of what is trained on."""
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


@dataclass(frozen=True)
class DistillationLoss:
    """ce_weight * method loss + kd_weight * factor * mean(weights * distiller loss).

    The factor is T^2 for losses on softened probabilities and always applied. `teacher` are rows of
    the signal store, by training row.
    """

    method: Method
    distiller: Distiller | None = None
    teacher: TeacherOutputs | None = field(default=None, repr=False)
    ce_weight: float = 1.0
    kd_weight: float = 0.0

    def __post_init__(self) -> None:
        self.method.distilled = self.distils

    @property
    def distils(self) -> bool:
        """Whether the loss has a distillation term."""
        return self.distiller is not None and self.kd_weight > 0

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """() the loss of one global batch.

        A label term of weight 0 is computed all the same where the method weighs examples: group
        weights and losses that are remembered must follow the training.
        """
        # every parameter gets a gradient, if a zero: processes that share a model wait for all
        total = 0.0 * logits.sum()
        weighs = type(self.method).weights is not Method.weights
        if self.ce_weight or (weighs and self.kd_weight):
            total = total + self.ce_weight * self.method.loss(logits, batch)
        if self.distiller is not None and self.kd_weight:
            if self.teacher is None:
                raise HarnessError("a distiller needs teacher logits and none were given.")
            teacher = self.teacher.targets(logits, batch)
            if "features" in self.distiller.hears:
                features = self.teacher.features_of(batch.row, logits.device)
                outputs = {**batch.outputs, "teacher_features": features}
                batch = replace(batch, outputs=outputs)
            each = self.distiller.loss(logits, teacher, batch)
            weights = self.method.weights(batch)
            term = each.mean() if weights is None else (weights * each).mean()
            total = total + self.kd_weight * self.distiller.factor * term
        return total

    def to(self, device: torch.device) -> None:
        """Move what the method and the distiller remember."""
        self.method.to(device)
        if self.distiller is not None:
            self.distiller.to(device)
        if self.teacher is not None and self.teacher.live is not None:
            self.teacher.live.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors of the method and the distiller that change while training."""
        taught = self.distiller.state_dict() if self.distiller is not None else {}
        named = {f"{DISTILLER}{name}": value for name, value in taught.items()}
        return {**self.method.state_dict(), **named}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave."""
        own = {name: value for name, value in state.items() if not name.startswith(DISTILLER)}
        if own:
            self.method.load_state_dict(own)
        if self.distiller is not None and len(own) < len(state):
            taught = {name: state[name] for name in state.keys() - own.keys()}
            self.distiller.load_state_dict(
                {name.removeprefix(DISTILLER): value for name, value in taught.items()}
            )


DISTILLER = "distiller."


class TrainableModel(nn.Module):
    """A classifier with what its method and its distiller add to it: what Accelerate wraps."""

    def __init__(self, network: Network, objective: DistillationLoss) -> None:
        super().__init__()
        self.network = network
        self.method = objective.method
        self.parts = self.method.parts(network)
        self.distiller = objective.distiller if objective.distils else None
        self.distiller_parts: nn.Module | None = None
        self.live: OnlineTeacher | None = None
        if self.distiller is not None and objective.teacher is not None:
            self.distiller_parts = self.distiller.parts(network, objective.teacher)
            self.live = objective.teacher.live
        if self.live is not None:
            network.show_layers()

    def forward(
        self, inputs: Inputs, batch: Batch, partners: Inputs | None = None
    ) -> dict[str, Tensor]:
        """What the forwards of the method and the distiller give."""
        given: tuple[Any, ...] = (self.network, self.parts, inputs, batch, partners)
        if self.distiller is None or self.distiller.hears == {"logits"}:
            return self.method.forward(*given)
        with self.network.recorded() as answers:
            outputs = self.method.forward(*given)
        own = next((pair for pair in answers if pair[0].logits is outputs["logits"]), None)
        if own is None:
            raise HarnessError(
                f"{type(self.method).__name__} changes the network's logits, so that "
                f"{type(self.distiller).__name__} cannot tell which features they belong to; "
                "distil with method=erm."
            )
        answer, layers = own
        both = None
        if self.live is not None and layers is not None:
            both = (layers, self.live.layers(batch.row))
        return outputs | self.distiller.forward(self.distiller_parts, answer, both)

    def fold(self) -> None:
        """Put into the network what it is to answer with."""
        if self.distiller is not None:
            self.distiller.fold(self.network, self.distiller_parts)
