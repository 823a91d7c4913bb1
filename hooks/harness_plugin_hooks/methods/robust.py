"""Distributional robustness without groups."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness_plugin.errors import HarnessError
from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin.training.contracts import Method


class CVaRDRO(Method):
    """The mean of the worst share `alpha` of the batch's cross-entropies.

    Conditional value at risk, Levy et al. 2020 (arXiv:2010.05893), as in SubpopBench: of the m
    losses in falling order the first floor(alpha m) have weight 1 / (alpha m), the next one the
    rest. alpha 1 is ERM, alpha 1/m the largest loss.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"alpha": 0.1}

    def __init__(self, metadata: TrainingMetadata, **options: Any) -> None:
        super().__init__(metadata, **options)
        if not 0 < self.options["alpha"] <= 1:
            raise HarnessError(f"CVaRDRO: alpha must be in (0, 1], found {self.options['alpha']}.")

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() weighted sum over the batch."""
        each = cross_entropy(logits, batch.label, reduction="none").sort(descending=True).values
        share = self.options["alpha"] * len(each)
        place = torch.arange(len(each), device=each.device, dtype=each.dtype)
        weights = (share - place).clamp(min=0.0, max=1.0) / max(share, 1e-12)
        # a share below one row still counts the worst row whole
        mean: Tensor = (weights * each).sum() / weights.sum()
        return mean
