"""The reference every method is measured against."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from harness_plugin.training.batch import Batch
from harness_plugin.training.contracts import Method


class ERM(Method):
    """Mean cross-entropy."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        return cross_entropy(logits, batch.label)
