"""Distillers that need the teacher's logits only."""

from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from harness_plugin.methods import Batch, Distiller


class KD(Distiller):
    """KL(teacher || student) at temperature T, summed over classes (Hinton et al. 2015).

    Averaged over the batch this is PyTorch's "batchmean"; its "mean" would divide by the number
    of classes as well.
    """

    def loss(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """(B,) divergence of each example."""
        t = self.temperature
        return kl_div(
            log_softmax(student / t, dim=1),
            log_softmax(teacher / t, dim=1),
            log_target=True,
            reduction="none",
        ).sum(dim=1)
