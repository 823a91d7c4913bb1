"""Several teachers become one, or one a stronger one: targets from the logits of all, row by row.

z_m (B, M, C) are the teachers' logits, p_m = softmax(z_m / T). Combined targets are given as
logits, so that every distiller on logits can learn from them: softmax(target / T) is the combined
probability.
For KD itself, sum_m w_m KL(p_m || p_s) and KL(sum_m w_m p_m || p_s) differ by a constant, so that
weighing teachers' losses and weighing their probabilities is the same training.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, log_softmax


@dataclass(frozen=True)
class Ensemble:
    """How teachers are combined; the logits (N, C) of a biased model for `agre`, `extrapolate`."""

    combine: str
    temperature: float
    biased: Tensor | None = field(default=None, repr=False)
    extrapolation: float = 0.0

    def __call__(self, teachers: Tensor, student: Tensor, label: Tensor, row: Tensor) -> Tensor:
        """(B, C) target logits of a batch.

        `teachers` (B, M, C), `student` (B, C) detached logits, `label` and `row` (B,).
        """
        t = self.temperature
        if self.combine == "mean_logit":
            return teachers.mean(dim=1)
        if self.combine == "extrapolate" and self.biased is not None:
            mean = teachers.mean(dim=1)
            return mean + self.extrapolation * (mean - biased_rows(self.biased, row, teachers))
        if self.combine == "confidence":
            weights = confidence(teachers, label)
        elif self.combine == "agre" and self.biased is not None:
            weights = agreement(
                teachers / t, student / t, biased_rows(self.biased, row, teachers) / t
            )
        else:
            weights = torch.full_like(teachers[..., 0], 1 / teachers.shape[1])
        return t * mixture(log_softmax(teachers / t, dim=2), weights)


def biased_rows(biased: Tensor, row: Tensor, like: Tensor) -> Tensor:
    """(B, C) logits of the biased model for the rows of a batch, on the device of `like`."""
    return biased[row].to(like.device, like.dtype)


def mixture(log_p: Tensor, weights: Tensor) -> Tensor:
    """(B, C) log of the mean of probabilities; log_p (B, M, C), weights (B, M) that sum to 1."""
    log_w = weights.clamp(min=torch.finfo(log_p.dtype).tiny).log()
    return torch.logsumexp(log_p + log_w[..., None], dim=1)


def confidence(teachers: Tensor, label: Tensor) -> Tensor:
    """(B, M) weights (1 - softmax over teachers of their cross-entropy) / (M - 1).

    A teacher that is wrong about a row says less of it (Zhang et al. 2022, CA-MKD,
    arXiv:2201.00007, equation 3).
    """
    rows, many, classes = teachers.shape
    each = cross_entropy(
        teachers.reshape(-1, classes), label.repeat_interleave(many), reduction="none"
    )
    return (1 - each.view(rows, many).softmax(dim=1)) / (many - 1)


def agreement(teachers: Tensor, student: Tensor, biased: Tensor) -> Tensor:
    """(B, M) weights proportional to 1 - cos(g_m, g_b), g = p_s - p the gradient towards a teacher.

    A teacher that pulls the student where the biased model does says less (AGRE-KD,
    arXiv:2411.14984). Gradients are those of the student's logits, not of its weights: they are
    known in closed form. All logits are divided by T. Rows on which every teacher pulls like the
    biased model weigh them equally.
    """
    p = student.softmax(dim=1)
    towards = p[:, None] - teachers.softmax(dim=2)
    avoided = (p - biased.softmax(dim=1))[:, None]
    weights = (1 - cosine_similarity(towards, avoided, dim=2)).clamp(min=0)
    total = weights.sum(dim=1, keepdim=True)
    equal = torch.full_like(weights, 1 / teachers.shape[1])
    return torch.where(total > 1e-6, weights / total.clamp(min=1e-6), equal)
