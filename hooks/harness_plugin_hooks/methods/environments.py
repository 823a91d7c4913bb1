"""Methods that compare environments: what holds in all of them is not the bias.

The environment of a row is the value of its attribute, or what group inference found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness_plugin.errors import HarnessError
from harness_plugin.training.batch import Batch
from harness_plugin.training.contracts import Method


def rows_of(batch: Batch, least: int) -> Iterator[Tensor]:
    """Positions in the batch of every environment with at least `least` rows."""
    if batch.environment is None:
        raise HarnessError("an environment method was given a batch without environments.")
    for value in sorted(set(batch.environment.tolist())):
        rows = (batch.environment == value).nonzero().flatten()
        if value >= 0 and len(rows) >= least:
            yield rows


class Invariance(Method):
    """mean_e CE_e + w * penalty over the environments in the batch.

    w is 1 for the first `anneal` updates, where the method has that option, and `weight` after
    them. Rows of no environment count in no term; a batch without any environment has plain
    cross-entropy. The penalty skips environments with fewer rows than it needs: they would make it
    nan.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"environments"})
    least: ClassVar[int] = 1

    @classmethod
    def cannot_learn(cls, options: Mapping[str, Any], updates: int) -> str:
        """A penalty that never gets its weight."""
        if (anneal := options.get("anneal", 0)) < updates:
            return ""
        return (
            f"gives its penalty the weight {options['weight']:g} after {anneal} updates (option "
            f"anneal), and it trains {updates}: set anneal below that, 0 after ERM epochs"
        )

    def penalty(self, logits: Tensor, batch: Batch, rows: list[Tensor]) -> Tensor:
        """() over environments of at least `least` rows."""
        raise NotImplementedError

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() the sum of both terms."""
        each = cross_entropy(logits, batch.label, reduction="none")
        present = list(rows_of(batch, 1))
        if not present:
            return each.mean()
        risk = torch.stack([each[rows].mean() for rows in present]).mean()
        rows = [rows for rows in present if len(rows) >= self.least]
        if not rows:
            return risk
        on = batch.update >= self.options.get("anneal", 0)
        weight = self.options["weight"] if on else 1.0
        total: Tensor = risk + weight * self.penalty(logits, batch, rows)
        return total


class VREx(Invariance):
    """Risk extrapolation: the penalty is the population variance of the environments' risks.

    Krueger et al. 2021 (arXiv:2003.00688), equation 8; weight and annealing as in DomainBed, which
    also starts Adam anew at the switch (ours goes on).
    """

    defaults: ClassVar[Mapping[str, Any]] = {"weight": 10.0, "anneal": 500}

    def penalty(self, logits: Tensor, batch: Batch, rows: list[Tensor]) -> Tensor:
        """() variance of the mean cross-entropies."""
        each = cross_entropy(logits, batch.label, reduction="none")
        return torch.stack([each[r].mean() for r in rows]).var(correction=0)


class IRM(Invariance):
    """Invariant risk minimisation (IRMv1): the squared gradient of each risk by a scale of z.

    Arjovsky et al. 2019 (arXiv:1907.02893), equation IRMv1 and appendix D: the square is estimated
    without bias by the product of two halves (even and odd rows of the environment). The gradient
    of row i at scale 1 is sum_c p_c z_c - z_y. Environments of one row are skipped. Weight and
    annealing as in DomainBed, which also starts Adam anew at the switch (ours goes on); the
    authors divide the loss by the weight, which Adam and clipping make no difference to.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"weight": 100.0, "anneal": 500}
    least = 2

    def penalty(self, logits: Tensor, batch: Batch, rows: list[Tensor]) -> Tensor:
        """() mean over environments of the product of both halves' gradients."""
        mean = (logits.softmax(dim=1) * logits).sum(dim=1)
        gradient = mean - logits.gather(1, batch.label[:, None]).squeeze(1)
        halves = [(gradient[r[::2]].mean(), gradient[r[1::2]].mean()) for r in rows]
        return torch.stack([even * odd for even, odd in halves]).mean()


class CORAL(Invariance):
    """Correlation alignment: means and covariances of the last layer's inputs shall agree.

    Sun, Saenko 2016 (arXiv:1607.01719) for pairs of environments, as in DomainBed: the penalty is
    the mean over pairs of mean((mu_i - mu_j)^2) + mean((C_i - C_j)^2), covariances over n - 1.
    Environments of one row are skipped.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"weight": 1.0}
    least = 2
    uses_features = True

    def penalty(self, logits: Tensor, batch: Batch, rows: list[Tensor]) -> Tensor:
        """() mean over the pairs of environments."""
        moments = []
        for r in rows:
            features = batch.outputs["features"][r]
            centred = features - features.mean(dim=0)
            moments.append((features.mean(dim=0), centred.T @ centred / (len(r) - 1)))
        pairs = [
            (m - n).square().mean() + (c - d).square().mean()
            for (m, c), (n, d) in combinations(moments, 2)
        ]
        return torch.stack(pairs).mean() if pairs else logits.new_zeros(())
