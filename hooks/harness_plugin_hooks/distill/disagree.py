"""A distiller that looks where teacher and bias disagree; it needs no groups and no labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness_plugin.errors import HarnessError
from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin.training.contracts import Distiller
from harness_plugin_hooks.distill.logits import divergence

MOST = 20.0
"""No row weighs more."""


class Disagree(Distiller):
    """KD in which a row counts by how far the teacher and a bias-only model disagree on it.

    d = KL(p_t^tau || p_B^tau), w = min(20, 1 - share + share d^power / mean(d^power)), loss w KL.
    Where a debiased teacher and the bias agree there is little to hand on; where they part, the
    teacher's answer is what debiasing is. After ConfiG (2025, arXiv:2506.02294), DMU (2023,
    arXiv:2305.13067) and DeDiER (2023, arXiv:2310.18590), which weigh or choose rows by such a
    disagreement; read from their abstracts, the values of the options are ours. The mean is over
    the batch.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"bias_model"})
    defaults: ClassVar[Mapping[str, Any]] = {"share": 0.5, "power": 1.0, "tau": 2.0}
    weighs_examples = True

    def __init__(
        self, temperature: float, metadata: TrainingMetadata | None = None, **options: Any
    ) -> None:
        super().__init__(temperature, metadata, **options)
        if metadata is None or metadata.bias_log_probs is None:
            raise HarnessError("disagree needs the bias-only model's log-probabilities.")

    def loss(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """(B,) weighted divergence of each example."""
        each = divergence(student / self.temperature, teacher / self.temperature)
        return self.weights(teacher, batch) * each

    def weights(self, teacher: Tensor, batch: Batch) -> Tensor:
        """(B,) of mean 1 unless some are cut; 1 for all where nothing disagrees."""
        if self.bias_log_probs is None:
            raise HarnessError("disagree needs the bias-only model's log-probabilities.")
        tau, share = float(self.options["tau"]), float(self.options["share"])
        bias = self.bias_log_probs[batch.row].to(teacher.dtype)
        apart = divergence(bias / tau, teacher / tau).clamp(min=0) ** float(self.options["power"])
        mean = apart.mean()
        relative = torch.where(mean > 0, apart / mean.clamp(min=1e-12), torch.ones_like(apart))
        return (1 - share + share * relative).clamp(max=MOST)
