"""Methods that lean on a bias-only model while training and drop it afterwards.

b (B, C) are the bias-only model's log-probabilities, p_B = exp(b); they are fixed, and scored on
rows the model was not fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, softplus

from harness_plugin.errors import HarnessError
from harness_plugin.models.network import ModelOutput, Network
from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin.training.contracts import ForwardContext, Method, Prepared
from harness_plugin.training.trainer import Trainer

THETA = {"theta": 1.0}
"""Exponent on p_B at the end of the training, annealed linearly from 1; 1 = off.

Utama et al. 2020 (arXiv:2009.12303), section 3.3: to 0.8, p_B^theta renormalised, whatever the
loss. Deviations from their code, not from the text: it stretches the line by as many updates as
there are epochs and so never gets to theta, and its reweighting takes (1 - p_B)^theta. A loss
differs by up to 4e-3; `bench/deviations.py` measures what either does to a trained model.
"""


class BiasEnsemble(Method):
    """Base of ensembles with a bias model: a batch's bias, its probability of the gold label."""

    needs: ClassVar[frozenset[str]] = frozenset({"bias_model"})
    defaults: ClassVar[Mapping[str, Any]] = THETA

    bias_log_probs: Tensor

    def __init__(self, metadata: TrainingMetadata, **options: Any) -> None:
        super().__init__(metadata, **options)
        if metadata.bias_log_probs is None:
            name = type(self).__name__
            raise HarnessError(f"{name} needs the bias-only model's log-probabilities.")

    def bias(self, batch: Batch) -> Tensor:
        """(B, C) log p_B, with the annealed exponent."""
        return self.annealed(self.bias_log_probs[batch.row], batch)

    def annealed(self, b: Tensor, batch: Batch) -> Tensor:
        """Log-probabilities with the exponent of the batch's place in the training."""
        exponent = 1.0 + (self.options["theta"] - 1.0) * batch.progress
        return b if exponent == 1.0 else log_softmax(exponent * b, dim=1)

    def gold(self, batch: Batch) -> Tensor:
        """(B,) p_B of the gold label."""
        return self.bias(batch).gather(1, batch.label[:, None]).squeeze(1).exp()

    def gold_in_training(self, batch: Batch) -> Tensor:
        """(N,) p_B of the gold label of every training row, annealed as the batch is."""
        b = self.annealed(self.bias_log_probs, batch)
        return b.gather(1, self.label[:, None]).squeeze(1).exp()


class ProductOfExperts(BiasEnsemble):
    """Cross-entropy of softmax(log p + b).

    Clark et al. 2019 (arXiv:1909.03683), "bias product"; also Karimi Mahabadi et al. 2020. Testing
    uses the logits alone. With uniform b it is ERM.
    """

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        return cross_entropy(log_softmax(logits, dim=1) + self.bias(batch), batch.label)


class DebiasedFocalLoss(BiasEnsemble):
    """-(1 - p_B,y)^gamma log p_y, not normalised by the sum of the weights.

    Karimi Mahabadi et al. 2020 (arXiv:1909.06321), section 3.3.2; there the bias branch is trained
    along. gamma 0 is ERM.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**THETA, "gamma": 2.0}
    weighs_examples = True

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        each = cross_entropy(logits, batch.label, reduction="none")
        gamma: float = self.options["gamma"]
        return ((1 - self.gold(batch)).pow(gamma) * each).mean()

    def loss_and_weights(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and (B,) (1 - p_B,y)^gamma over its mean on the training rows."""
        gamma: float = self.options["gamma"]
        mean = (1 - self.gold_in_training(batch)).pow(gamma).mean().clamp(min=1e-12)
        return self.loss(logits, batch), (1 - self.gold(batch)).pow(gamma) / mean


class LearnedMixin(BiasEnsemble):
    """Cross-entropy of softmax(log p + s b) + penalty * H(softmax(s b)), s = softplus(w h).

    Clark et al. 2019, "learned-mixin +H": s (B,) is learnt from the last layer's inputs h, and the
    entropy keeps it from ignoring the bias. s = 1 is the product of experts, s = 0 ERM. Default
    penalty: the authors' for HANS.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**THETA, "penalty": 0.03}
    has_trainable_modules = True

    def setup(self, network: Network) -> None:
        """The layer w, as wide as the network's features."""
        self.scale = nn.Linear(network.head.in_features, 1)

    def forward(self, context: ForwardContext) -> tuple[ModelOutput, dict[str, Tensor]]:
        """The network's output, and `scale` (b,)."""
        output = context.network(context.inputs)
        return output, {"scale": softplus(self.scale(output.features)).squeeze(1)}

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() both terms, means over the batch."""
        scaled = batch.outputs["scale"][:, None] * self.bias(batch)
        alone = log_softmax(scaled, dim=1)
        entropy: Tensor = -(alone.exp() * alone).sum(dim=1).mean()
        joint = cross_entropy(log_softmax(logits, dim=1) + scaled, batch.label)
        return joint + float(self.options["penalty"]) * entropy


class BiasReweight(BiasEnsemble):
    """sum(w CE) / sum(w), w = 1 - p_B,y.

    Clark et al. 2019, "reweight"; also Schuster et al. 2019. With uniform b it is ERM.
    """

    weighs_examples = True

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() weighted mean over the batch; 0 where every weight is 0."""
        w = 1 - self.gold(batch)
        each = cross_entropy(logits, batch.label, reduction="none")
        return (w * each).sum() / w.sum().clamp(min=1e-12)

    def loss_and_weights(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and (B,) w over its mean on the training rows."""
        mean = (1 - self.gold_in_training(batch)).mean().clamp(min=1e-12)
        return self.loss(logits, batch), (1 - self.gold(batch)) / mean


class RUBi(BiasEnsemble):
    """Cross-entropy of z * sigmoid(z_B): the bias mask shrinks the logits it disagrees with.

    Cadene et al. 2019 (arXiv:1906.10169), equation 3. Deviations: the bias-only model is fixed
    instead of trained along, and its log-probabilities, centred over the labels, stand in for the
    logits z_B, which are known up to a constant: a bias model without an opinion then halves all
    logits alike, whatever the number of labels. With the log-probabilities as they are a loss
    differs by up to 5%; `bench/deviations.py` measures what that does to a trained model.
    """

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        b = self.bias(batch)
        return cross_entropy(masked(logits, b - b.mean(dim=1, keepdim=True)), batch.label)


def masked(logits: Tensor, bias_logits: Tensor) -> Tensor:
    """(B, C) z * sigmoid(z_B)."""
    return logits * bias_logits.sigmoid()


class ConfidenceRegularisation(BiasEnsemble):
    """Cross-entropy with the targets t_c proportional to p_T,c^(1 - p_B,y).

    Utama et al. 2020 (arXiv:2005.00315), section 3: the teacher p_T is an ERM model of the same
    architecture and role; where the bias is sure of the label the target is flat. p_B,y = 0 gives
    the teacher's distribution, 1 the uniform one.
    """

    teacher_log_probs: Tensor

    @classmethod
    def prepare(cls, trainer: Trainer, options: Mapping[str, Any]) -> Prepared:
        """Log-probabilities (N, C) of the ERM model on the training rows."""
        teacher = trainer.erm()
        logits = torch.from_numpy(trainer.predict(teacher).logits)
        return Prepared({"teacher_log_probs": log_softmax(logits, dim=1)}, stages=(teacher,))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        teacher = self.teacher_log_probs[batch.row]
        target = ((1 - self.gold(batch))[:, None] * teacher).softmax(dim=1)
        return -(target * log_softmax(logits, dim=1)).sum(dim=1).mean()
