"""Distillers that need the teacher's logits only; z_s, z_t logits, p^T = softmax(z / T)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, kl_div, log_softmax

from harness_plugin.errors import HarnessError
from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin.training.contracts import Distiller
from harness_plugin_hooks.methods.groups import GroupWeights, group_counts


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """(B,) KL(teacher || student) of logits (B, C), summed over the classes."""
    return kl_div(
        log_softmax(student, dim=1), log_softmax(teacher, dim=1), log_target=True, reduction="none"
    ).sum(dim=1)


class KD(Distiller):
    """KL(p_t^T || p_s^T), summed over classes (Hinton et al. 2015, arXiv:1503.02531, section 2).

    Averaged over the batch this is PyTorch's "batchmean"; its "mean" would divide by the number
    of classes as well.
    """

    def loss(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """(B,) divergence of each example."""
        return divergence(student / self.temperature, teacher / self.temperature)


class DecoupledKD(Distiller):
    """alpha TCKD + beta NCKD (Zhao et al. 2022, arXiv:2203.08679, equation 7).

    TCKD is the divergence of (p_y, 1 - p_y), NCKD that of the other classes' probabilities among
    themselves. KD = TCKD + (1 - p_t,y) NCKD. With two labels NCKD is 0 and this is alpha KD.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"alpha": 1.0, "beta": 8.0}

    @classmethod
    def refusal(cls, options: Mapping[str, Any], ce_weight: float, n_labels: int) -> str:
        """Two labels leave nothing to decouple."""
        if n_labels > 2:
            return ""
        return "is alpha x kd with two labels, NCKD is 0 there: take kd"

    @classmethod
    def term_weights(cls, options: Mapping[str, Any]) -> tuple[float, ...]:
        """Those of TCKD and NCKD."""
        return options["alpha"], options["beta"]

    def loss(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """(B,) weighted sum of both parts."""
        tckd, nckd = decoupled(student / self.temperature, teacher / self.temperature, batch.label)
        total: Tensor = self.options["alpha"] * tckd + self.options["beta"] * nckd
        return total


def decoupled(student: Tensor, teacher: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD (B,) of logits (B, C) that are divided by T already."""
    gold = label[:, None]
    log_s, log_t = log_softmax(student, dim=1), log_softmax(teacher, dim=1)
    is_gold = torch.zeros_like(student, dtype=torch.bool).scatter(1, gold, True)

    def rest(log_p: Tensor) -> Tensor:
        return log_p.masked_fill(is_gold, -torch.inf).logsumexp(dim=1)

    rest_s, rest_t = rest(log_s), rest(log_t)
    y_s, y_t = (log_p.gather(1, gold).squeeze(1) for log_p in (log_s, log_t))
    tckd = y_t.exp() * (y_t - y_s) + rest_t.exp() * (rest_t - rest_s)
    among_t, among_s = log_t - rest_t[:, None], log_s - rest_s[:, None]
    each = (among_t.exp() * (among_t - among_s)).masked_fill(is_gold, 0.0)
    return tckd, each.sum(dim=1)


class DIST(Distiller):
    """inter (1 - Pearson over the classes of a row) + intra (1 - Pearson over the rows of a class).

    Huang et al. 2022 (arXiv:2205.10536), equations 9 and 10, on p^T. `intra` compares the whole
    batch, every row bears the same part of it. With two labels the inter term is 0 or 2 and has no
    gradient.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"inter": 1.0, "intra": 1.0}

    @classmethod
    def refusal(cls, options: Mapping[str, Any], ce_weight: float, n_labels: int) -> str:
        """Two labels leave the inter term without a gradient."""
        if n_labels > 2 or not options["inter"]:
            return ""
        return (
            "has an inter term without gradient with two labels: set "
            "distiller_options={inter: 0}, which keeps the intra term"
        )

    @classmethod
    def term_weights(cls, options: Mapping[str, Any]) -> tuple[float, ...]:
        """Those of inter and intra."""
        return options["inter"], options["intra"]

    def loss(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """(B,) inter of each row, plus the intra of the batch."""
        p_s, p_t = ((z / self.temperature).softmax(dim=1) for z in (student, teacher))
        inter = 1 - pearson(p_s, p_t)
        intra = (1 - pearson(p_s.T, p_t.T)).mean()
        total: Tensor = self.options["inter"] * inter + self.options["intra"] * intra
        return total


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """(R,) correlation of the rows of a and b (R, K); 0 for a row without variance."""
    return cosine_similarity(a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True))


class LogitStandardisation(Distiller):
    """KL of softened z-scores: logits of a row less their mean, over their sample deviation.

    Sun et al. 2024 (arXiv:2403.01427), algorithm 1: what a student with other magnitudes of logits
    can follow. T is the base temperature tau of the z-scores, and T^2 the weight the authors use in
    combination with kd. With two labels every z-score is +-.707.
    """

    @classmethod
    def refusal(cls, options: Mapping[str, Any], ce_weight: float, n_labels: int) -> str:
        """Two labels lose all confidence."""
        if n_labels > 2:
            return ""
        return "makes every pair of logits -.707 and .707 with two labels: take kd"

    def loss(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """(B,) divergence of the standardised logits."""
        return divergence(
            z_scores(student) / self.temperature, z_scores(teacher) / self.temperature
        )


def z_scores(logits: Tensor) -> Tensor:
    """(B, C) standardised over the classes of each row."""
    centred = logits - logits.mean(dim=1, keepdim=True)
    return centred / logits.std(dim=1, keepdim=True).clamp(min=1e-7)


class BiasAwareKD(Distiller):
    """KD from a teacher that is less sure where the bias is: target ~ (p_t^T)^(1 - p_B,y).

    The scaled target of confidence regularisation (Utama et al. 2020, arXiv:2005.00315, section
    3.2) put to distillation: where a bias-only model gives the gold label probability 1, the target
    is uniform; where it gives 0, this is KD.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"bias_model"})

    bias: Tensor

    def __init__(
        self, temperature: float, metadata: TrainingMetadata | None = None, **options: Any
    ) -> None:
        super().__init__(temperature, metadata, **options)
        if metadata is None or metadata.bias_log_probs is None:
            raise HarnessError("bias_aware_kd needs the bias-only model's log-probabilities.")
        gold = metadata.bias_log_probs.gather(1, metadata.label[:, None])
        self.register_buffer("bias", gold.squeeze(1).exp(), persistent=False)

    def loss(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """(B,) divergence from the smoothed target."""
        exponent = (1 - self.bias[batch.row])[:, None] / self.temperature
        return divergence(student / self.temperature, teacher * exponent)


class GroupDROKD(KD):
    """Group DRO over the groups' KD losses: sum_g q_g mean_g(KL), q_g <- q_g exp(eta mean_g).

    The label losses of Sagawa et al. 2020 (arXiv:1911.08731, algorithm 1) replaced by the
    divergences from the teacher: the group on which the student is furthest from it counts most. A
    group absent from a batch keeps its q; rows of no group weigh 1.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"groups"})
    defaults: ClassVar[Mapping[str, Any]] = {"eta": 0.01}
    weighs_examples = True

    def __init__(
        self, temperature: float, metadata: TrainingMetadata | None = None, **options: Any
    ) -> None:
        super().__init__(temperature, metadata, **options)
        if metadata is None:
            raise HarnessError("group_dro_kd needs the metadata of the training rows.")
        counts = group_counts(metadata.group, len(metadata.groups))
        self.group_weights = GroupWeights(counts, self.options["eta"])

    def loss(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """(B,) divergences whose mean is the q-weighted sum of the groups' means."""
        each = super().loss(student, teacher, batch)
        known = batch.group >= 0
        divergences = self.temperature_factor * each.detach()[known]
        self.group_weights.update(divergences, batch.group[known])
        return self.group_weights.of_rows(batch.group) * each
