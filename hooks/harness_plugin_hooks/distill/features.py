"""Distillers on the teacher's features h_t, the inputs of its last layer.

They come from the store, as logits do: the teacher is asked once for all its students, whatever its
tokenizer or architecture. h_s are the student's features, which may have another width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, normalize, smooth_l1_loss

from harness_plugin.errors import HarnessError
from harness_plugin.models.network import ModelOutput, Network
from harness_plugin.training.batch import Batch
from harness_plugin_hooks.distill.intermediate import LOGITS, IntermediateDistiller

if TYPE_CHECKING:
    from harness_plugin.models.layers import Layers
    from harness_plugin.training.teacher_outputs import TeacherOutputs


class FeatureDistiller(IntermediateDistiller):
    """weight x a loss on features + logits x T^2 KL."""

    teacher_outputs: ClassVar[frozenset[str]] = frozenset({"logits", "features"})

    def forward(self, student: ModelOutput, teacher_layers: Layers | None) -> dict[str, Tensor]:
        """`features` (b, H) of the student, projected where the distiller has a projector."""
        return {"features": self.projected(student.features)}

    def intermediate_loss(self, batch: Batch) -> Tensor:
        """(B,) or (): `compare` of both models' features."""
        return self.compare(batch.outputs["features"], batch.outputs["teacher_features"])

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(B,), or () for a loss of the whole batch; features (B, H_s) and (B, H_t)."""
        raise NotImplementedError


class Hints(FeatureDistiller):
    """MSE(r(h_s), h_t), r a linear layer that is trained along (FitNets, Romero et al. 2015).

    arXiv:1412.6550, equation 3, on the last layer's inputs instead of a middle layer's: later
    features carry less of the background. Mean over the H_t dimensions. Default weight: that of
    RepDistiller.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**LOGITS, "weight": 100.0}

    def setup(self, network: Network, teacher: TeacherOutputs) -> None:
        """The projector r."""
        self.projector = nn.Linear(network.head.in_features, teacher.width)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(B,) mean squared difference."""
        return mse_loss(student, teacher, reduction="none").mean(dim=1)


class RelationalKD(FeatureDistiller):
    """Distances and angles among the examples of a batch (Park et al. 2019, arXiv:1904.05068).

    distance x smooth-L1 of pairwise distances over their mean (equations 6-8) + angle x smooth-L1
    of the cosines of all triplets (equations 10-11). No projector: neither depends on the width.
    Rows bear equal parts. Default weights: those of RepDistiller.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        **LOGITS,
        "weight": 1.0,
        "distance": 25.0,
        "angle": 50.0,
    }
    parts = ("distance", "angle")

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """() weighted sum of both terms."""
        distance = smooth_l1_loss(distances(student), distances(teacher))
        angle = smooth_l1_loss(cosines(student), cosines(teacher))
        total: Tensor = self.options["distance"] * distance + self.options["angle"] * angle
        return total


def distances(features: Tensor) -> Tensor:
    """(B, B) Euclidean distances over their mean off the diagonal."""
    squared = features.pow(2).sum(dim=1)
    gram = features @ features.T
    # the root has no gradient at 0, where the diagonal is
    away = (squared[:, None] + squared[None] - 2 * gram).clamp(min=1e-12).sqrt()
    away = away.masked_fill(torch.eye(len(away), dtype=torch.bool, device=away.device), 0.0)
    known = away[away > 1e-5]
    return away / known.mean() if len(known) else away


def cosines(features: Tensor) -> Tensor:
    """(B, B, B) cosine of the angle at row i between rows j and k."""
    steps = normalize(features[None] - features[:, None], dim=2)
    return steps @ steps.transpose(1, 2)


class SimilarityPreserving(FeatureDistiller):
    """|| G_s - G_t ||_F^2 / B^2, G the row-normalised h h^T (Tung & Mori 2019, arXiv:1907.09682).

    Equations 1-4. No projector: only similarities among examples count. Rows bear equal parts.
    Default weight: the authors' gamma 3000.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**LOGITS, "weight": 3000.0}

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """() squared difference of the similarity matrices."""
        return (similarities(student) - similarities(teacher)).pow(2).mean()


def similarities(features: Tensor) -> Tensor:
    """(B, B) inner products, each row of length 1."""
    return normalize(features @ features.T, dim=1)


class ContrastiveKD(FeatureDistiller):
    """The teacher's features of a row tell it from the other rows of the batch (CRD, lite).

    Tian et al. 2020 (arXiv:1910.10699) project both sides and contrast with a memory bank of 16,384
    rows; here the student is projected to the teacher's width, the negatives are the other rows of
    the global batch, and the loss is InfoNCE in both directions. tau is the authors' .07, the
    weight their .8.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**LOGITS, "weight": 0.8, "tau": 0.07}

    def setup(self, network: Network, teacher: TeacherOutputs) -> None:
        """The student's projector."""
        self.projector = nn.Linear(network.head.in_features, teacher.width)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(B,) mean of both directions."""
        scores = normalize(student, dim=1) @ normalize(teacher, dim=1).T / self.options["tau"]
        own = torch.arange(len(scores), device=scores.device)
        there = cross_entropy(scores, own, reduction="none")
        back = cross_entropy(scores.T, own, reduction="none")
        return (there + back) / 2


class SimKD(FeatureDistiller):
    """MSE(P(h_s), h_t); the student answers with the teacher's last layer on P(h_s).

    Chen et al. 2022 (arXiv:2203.14001), equation 3, and the last-layer transplant of DeTT (Lee and
    Lee 2023, arXiv:2302.11187). P is a linear layer on pooled features, where the paper has three
    convolutions on feature maps, so that head and projector fold into the one linear layer that the
    student has anyway: W = W_t P. The projector is trained. Labels are not used.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"weight": 1.0, "logits": 0.0}

    head_weight: Tensor
    head_bias: Tensor

    @classmethod
    def refusal(cls, options: Mapping[str, Any], ce_weight: float, n_labels: int) -> str:
        """The student's own last layer is replaced: nothing may train it."""
        if ce_weight or options["logits"]:
            return (
                "replaces the student's last layer by the teacher's, so that no loss on logits "
                "can train it: set ce_weight=0 and leave distiller_options.logits at 0"
            )
        return ""

    def setup(self, network: Network, teacher: TeacherOutputs) -> None:
        """The projector P; without a bias where the student's last layer has none to fold it into.

        HarnessError where the teacher's has one all the same.
        """
        if teacher.weight is None or teacher.bias is None:
            raise HarnessError("simkd needs the teacher's last layer.")
        has_bias = network.head.bias is not None
        if not has_bias and bool(teacher.bias.any()):
            raise HarnessError(
                f"simkd: the last layer of {type(network.model).__name__} has no bias to take over "
                "the teacher's: take hints, or a teacher of the student's family."
            )
        self.register_buffer("head_weight", teacher.weight, persistent=False)
        self.register_buffer("head_bias", teacher.bias, persistent=False)
        self.projector = nn.Linear(network.head.in_features, teacher.width, bias=has_bias)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(B,) mean squared difference."""
        return mse_loss(student, teacher, reduction="none").mean(dim=1)

    @torch.no_grad()
    def fold(self, network: Network) -> None:
        """The student's last layer becomes W_t P h + W_t p + b_t."""
        projector, head = self.projector, network.head
        if not isinstance(projector, nn.Linear):
            raise HarnessError("simkd has no projector to fold.")
        weight, bias = (x.to(head.weight.device) for x in (self.head_weight, self.head_bias))
        head.weight.copy_(weight @ projector.weight.float())
        if head.bias is not None:
            head.bias.copy_(weight @ projector.bias.float() + bias)
