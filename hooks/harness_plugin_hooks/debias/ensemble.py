"""Methods that lean on a bias-only model while training and drop it afterwards."""

from typing import Any, ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from harness_plugin.errors import HarnessError
from harness_plugin.methods import Batch, Debiaser, TrainingFacts


class ProductOfExperts(Debiaser):
    """Cross-entropy of softmax(log p + b), b the bias-only model's log-probabilities.

    Clark et al. 2019 (arXiv:1909.03683), "bias product"; also Karimi Mahabadi et al. 2020. The
    bias-only model is fixed and scored on folds it was not fitted on. Testing uses the logits
    alone. With uniform b it is ERM.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"bias_model"})

    def __init__(self, facts: TrainingFacts, **options: Any) -> None:
        super().__init__(facts, **options)
        if facts.bias_log_probs is None:
            raise HarnessError("product of experts needs the bias-only model's log-probabilities.")
        self.bias = facts.bias_log_probs

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        joint = log_softmax(logits, dim=1) + self.bias[batch.row]
        return cross_entropy(joint, batch.label)
