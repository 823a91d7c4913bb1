"""Methods that know the group (label x attribute) of every training row."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness_plugin.training.contracts import Batch, Method, TrainingMetadata


def group_counts(facts: TrainingMetadata) -> Tensor:
    """(G,) float32 training rows of each group."""
    known = facts.group[facts.group >= 0]
    return torch.bincount(known, minlength=len(facts.groups)).float()


def balanced_sampling(facts: TrainingMetadata) -> Tensor:
    """(N,) weights that draw every non-empty group equally often; rows of no group never."""
    inverse = 1.0 / group_counts(facts).clamp(min=1.0)
    return torch.where(facts.group >= 0, inverse[facts.group.clamp(min=0)], 0.0)


class ReSample(Method):
    """Cross-entropy on batches that draw every group equally often, with replacement.

    "RWG" of Idrissi et al. 2022 (arXiv:2110.14503), ReSample of SubpopBench (Yang et al. 2023,
    arXiv:2302.12254). A row of no group is never drawn.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"groups"})

    def sampling_weights(self) -> Tensor:
        """(N,) the inverse size of each row's group."""
        return balanced_sampling(self.facts)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        return cross_entropy(logits, batch.label)


class ReSampleClass(ReSample):
    """Cross-entropy on batches that draw every label equally often ("RWY", Idrissi et al. 2022)."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def sampling_weights(self) -> Tensor:
        """(N,) the inverse frequency of each row's label."""
        counts = torch.bincount(self.facts.label, minlength=self.facts.n_labels).float()
        return 1.0 / counts[self.facts.label]


class ReWeight(Method):
    """Cross-entropy with weights w_g = G n_g^-power / sum_k n_k^-power, empty groups 0.

    Inverse-frequency weighting: ReWeight of SubpopBench (Yang et al. 2023, arXiv:2302.12254);
    power 0.5 is its square-root variant. With equal group sizes it is ERM. A row of no group keeps
    weight 1.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"groups"})
    defaults: ClassVar[Mapping[str, Any]] = {"power": 1.0}

    def __init__(self, facts: TrainingMetadata, **options: Any) -> None:
        super().__init__(facts, **options)
        counts = group_counts(facts)
        inverse = torch.where(counts > 0, counts.clamp(min=1.0) ** -self.options["power"], 0.0)
        self.group_weights = (counts > 0).sum() * inverse / inverse.sum()

    def weights(self, batch: Batch) -> Tensor:
        """(B,) the weight of each row's group."""
        known = self.group_weights[batch.group.clamp(min=0)]
        return torch.where(batch.group >= 0, known, 1.0)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean of the weighted cross-entropies."""
        return (self.weights(batch) * cross_entropy(logits, batch.label, reduction="none")).mean()


class GroupWeights:
    """q (G,), the weights of group DRO: q_g <- q_g exp(eta L_g), normalised; empty groups have 0.

    Sagawa et al. 2020 (arXiv:1911.08731), algorithm 1. A group absent from a batch keeps its q:
    counting its loss as 0 would shrink it for being rare.
    """

    def __init__(self, counts: Tensor, eta: float) -> None:
        self.q = (counts > 0).float() / (counts > 0).sum()
        self.eta = eta

    def update(
        self, each: Tensor, group: Tensor, adjustment: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean loss (G,) of each group, plus `adjustment` (G,), and which are present (G,).

        q follows them where gradients are on; `each` and `group` (B,) are rows with a group.
        """
        zeros = each.new_zeros(len(self.q))
        counts = zeros.index_add(0, group, torch.ones_like(each))
        sums = zeros.index_add(0, group, each)
        present = counts > 0
        means = sums / counts.clamp(min=1.0)
        if adjustment is not None:
            means = means + torch.where(present, adjustment, 0.0)
        if torch.is_grad_enabled():
            q = self.q * torch.exp(self.eta * means.detach() * present)
            self.q = q / q.sum()
        return means, present

    def of_rows(self, group: Tensor) -> Tensor:
        """(B,) q_g / (share of g in the batch), so that group means count as q says; others 1."""
        counts = torch.bincount(group.clamp(min=0), minlength=len(self.q))
        share = counts.float().clamp(min=1.0) / len(group)
        weights = (self.q / share)[group.clamp(min=0)]
        return torch.where(group >= 0, weights, 1.0)


class GroupDRO(Method):
    """Distributionally robust optimisation over groups (Sagawa et al. 2020, algorithm 1).

    q_g <- q_g exp(eta (L_g + C / sqrt(n_g))), normalised; loss = sum_g q_g (L_g + C / sqrt(n_g)),
    L_g the mean cross-entropy of group g in the global batch. As in the authors' runs the sampler
    is group-balanced, so that every group is in nearly every batch. A group absent from a batch
    keeps its q: counting its loss as 0 would shrink it for being rare.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"groups"})
    defaults: ClassVar[Mapping[str, Any]] = {"eta": 0.01, "adjustment": 0.0, "balanced": True}

    def __init__(self, facts: TrainingMetadata, **options: Any) -> None:
        super().__init__(facts, **options)
        counts = group_counts(facts)
        self.adjustment = self.options["adjustment"] / counts.clamp(min=1.0).sqrt()
        self.group_weights = GroupWeights(counts, self.options["eta"])

    def sampling_weights(self) -> Tensor | None:
        """(N,) group-balanced unless `balanced` is off."""
        return balanced_sampling(self.facts) if self.options["balanced"] else None

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() q-weighted group losses, after q has been updated with this batch."""
        known = batch.group >= 0
        each = cross_entropy(logits, batch.label, reduction="none")[known]
        means, present = self.group_weights.update(each, batch.group[known], self.adjustment)
        return (self.group_weights.q * means)[present].sum()

    def weights(self, batch: Batch) -> Tensor:
        """(B,) q_g / (share of g in the batch), so that group means count as q says."""
        return self.group_weights.of_rows(batch.group)

    def to(self, device: torch.device) -> Method:
        """Move the group weights."""
        self.group_weights.q = self.group_weights.q.to(device)
        return super().to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """The group weights."""
        return {"q": self.group_weights.q}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the group weights."""
        self.group_weights.q = state["q"].to(self.group_weights.q.device)
