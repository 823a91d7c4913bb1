"""The method: a loss that looks past what is learned first, and needs to know no groups."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from harness_plugin.training.batch import Batch
from harness_plugin.training.contracts import Method


class Focal(Method):
    """mean of -(1 - p_y)^gamma log p_y (Lin et al. 2017, section 3.2, without the class weights).

    A row that agrees with a spurious cue is learned first and then counts little, so that the
    rows that disagree weigh more. With gamma 0 it is ERM.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"gamma": 2.0}

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        each = cross_entropy(logits, batch.label, reduction="none")
        p, gamma = (-each).exp(), float(self.options["gamma"])
        return ((1 - p) ** gamma * each).mean()
