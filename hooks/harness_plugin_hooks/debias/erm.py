"""The reference every method is measured against."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from harness_plugin.methods import Batch, Debiaser


class ERM(Debiaser):
    """Mean cross-entropy."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        return cross_entropy(logits, batch.label)
