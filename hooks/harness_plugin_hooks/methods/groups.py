"""Methods that know the group (label x attribute) of every training row."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin.training.contracts import Method


def group_counts(group: Tensor, n_groups: int) -> Tensor:
    """(G,) float32 training rows of each group; `group` (N,), -1 = none."""
    return torch.bincount(group[group >= 0], minlength=n_groups).float()


def balanced_sampling(group: Tensor, n_groups: int) -> Tensor:
    """(N,) weights that draw every non-empty group equally often; rows of no group never."""
    inverse = 1.0 / group_counts(group, n_groups).clamp(min=1.0)
    return torch.where(group >= 0, inverse[group.clamp(min=0)], 0.0)


class ReSample(Method):
    """Cross-entropy on batches that draw every group equally often, with replacement.

    "RWG" of Idrissi et al. 2022 (arXiv:2110.14503), ReSample of SubpopBench (Yang et al. 2023,
    arXiv:2302.12254). A row of no group is never drawn.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"groups"})

    def sampling_weights(self) -> Tensor:
        """(N,) the inverse size of each row's group."""
        return balanced_sampling(self.group, len(self.groups))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        return cross_entropy(logits, batch.label)


class ReSampleClass(ReSample):
    """Cross-entropy on batches that draw every label equally often ("RWY", Idrissi et al. 2022)."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def sampling_weights(self) -> Tensor:
        """(N,) the inverse frequency of each row's label."""
        counts = torch.bincount(self.label, minlength=self.n_labels).float()
        return 1.0 / counts[self.label]


class ReWeight(Method):
    """Cross-entropy with weights w_g = G n_g^-power / sum_k n_k^-power, empty groups 0.

    Inverse-frequency weighting: ReWeight of SubpopBench (Yang et al. 2023, arXiv:2302.12254);
    power 0.5 is its square-root variant. With equal group sizes it is ERM. A row of no group keeps
    weight 1.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"groups"})
    defaults: ClassVar[Mapping[str, Any]] = {"power": 1.0}
    weighs_examples = True

    group_weights: Tensor

    def __init__(self, metadata: TrainingMetadata, **options: Any) -> None:
        super().__init__(metadata, **options)
        counts = group_counts(self.group, len(self.groups))
        inverse = torch.where(counts > 0, counts.clamp(min=1.0) ** -self.options["power"], 0.0)
        weights = (counts > 0).sum() * inverse / inverse.sum()
        self.register_buffer("group_weights", weights, persistent=False)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean of the weighted cross-entropies."""
        return self.loss_and_weights(logits, batch)[0]

    def loss_and_weights(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean of the weighted cross-entropies, and (B,) the weight of each row's group."""
        known = self.group_weights[batch.group.clamp(min=0)]
        weights = torch.where(batch.group >= 0, known, 1.0)
        return (weights * cross_entropy(logits, batch.label, reduction="none")).mean(), weights


class GroupWeights(nn.Module):
    """q (G,), the weights of group DRO: q_g <- q_g exp(eta L_g), normalised; empty groups have 0.

    Sagawa et al. 2020 (arXiv:1911.08731), algorithm 1, and the authors' loss.py: the loss of a
    group absent from a batch is 0 there, plus its adjustment.
    """

    q: Tensor

    def __init__(self, counts: Tensor, eta: float) -> None:
        super().__init__()
        self.register_buffer("q", (counts > 0).float() / (counts > 0).sum().clamp(min=1))
        self.eta = eta

    def update(self, each: Tensor, group: Tensor, adjustment: Tensor | float = 0.0) -> Tensor:
        """Mean loss (G,) of each group, 0 of an absent one, plus `adjustment` (G,).

        q follows them where gradients are on; `each` and `group` (B,) are rows with a group.
        """
        zeros = each.new_zeros(len(self.q))
        counts = zeros.index_add(0, group, torch.ones_like(each))
        means = zeros.index_add(0, group, each) / counts.clamp(min=1.0) + adjustment
        if torch.is_grad_enabled():
            q = self.q * torch.exp(self.eta * means.detach())
            self.q = (q / q.sum().clamp(min=1e-30)).to(self.q)  # 0 where no row has a group
        return means

    def of_rows(self, group: Tensor) -> Tensor:
        """(B,) q_g / (share of g in the batch), so that group means count as q says; others 1."""
        counts = torch.bincount(group.clamp(min=0), minlength=len(self.q))
        share = counts.float().clamp(min=1.0) / len(group)
        weights = (self.q / share)[group.clamp(min=0)]
        return torch.where(group >= 0, weights, 1.0)


class GroupDRO(Method):
    """Distributionally robust optimisation over groups (Sagawa et al. 2020, algorithm 1).

    q_g <- q_g exp(eta (L_g + C / sqrt(n_g))), normalised; loss = sum_g q_g (L_g + C / sqrt(n_g)),
    L_g the mean cross-entropy of group g in the global batch, 0 where the batch has none of it: the
    authors' loss.py. As in their runs the sampler is group-balanced (`--reweight_groups`), so that
    every group is in nearly every batch.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"groups"})
    defaults: ClassVar[Mapping[str, Any]] = {"eta": 0.01, "adjustment": 0.0, "balanced": True}
    weighs_examples = True

    adjustment: Tensor

    def __init__(self, metadata: TrainingMetadata, **options: Any) -> None:
        super().__init__(metadata, **options)
        counts = group_counts(self.group, len(self.groups))
        adjustment = self.options["adjustment"] / counts.clamp(min=1.0).sqrt()
        self.register_buffer("adjustment", adjustment, persistent=False)
        self.group_weights = GroupWeights(counts, self.options["eta"])

    def sampling_weights(self) -> Tensor | None:
        """(N,) group-balanced unless `balanced` is off."""
        return balanced_sampling(self.group, len(self.groups)) if self.options["balanced"] else None

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() q-weighted group losses, after q has been updated with this batch."""
        known = batch.group >= 0
        each = cross_entropy(logits, batch.label, reduction="none")[known]
        means = self.group_weights.update(each, batch.group[known], self.adjustment)
        return (self.group_weights.q * means).sum()

    def loss_and_weights(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and (B,) q_g / (share of g in the batch): group means count as q says."""
        return self.loss(logits, batch), self.group_weights.of_rows(batch.group)
