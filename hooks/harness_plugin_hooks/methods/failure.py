"""Methods that let one model fail on purpose and learn from where it fails."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness_plugin.models.network import ModelOutput, Network
from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin.training.contracts import ForwardContext, Method, Prepared
from harness_plugin.training.trainer import Trainer


def generalised_cross_entropy(logits: Tensor, label: Tensor, q: float) -> Tensor:
    """(B,) q p_y^q CE with p_y^q detached: its gradient is q times that of (1 - p_y^q) / q.

    Zhang, Sabuncu 2018 (arXiv:1805.07836) in the form of the LfF authors' code. Rows that are
    easy already count more, which amplifies a bias.
    """
    each = cross_entropy(logits, label, reduction="none")
    return q * (-each.detach() * q).exp() * each


def no_gradient(options: Mapping[str, Any]) -> str:
    """Why the generalised cross-entropy teaches nothing, "" when it does."""
    return "" if options["q"] > 0 else "has a loss of 0 where q is 0: set q above 0"


class GCE(Method):
    """Generalised cross-entropy alone: it amplifies the bias. The first stage of PGD."""

    defaults: ClassVar[Mapping[str, Any]] = {"q": 0.7}

    @classmethod
    def cannot_learn(cls, options: Mapping[str, Any], updates: int) -> str:
        """A loss that is 0."""
        return no_gradient(options)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        return generalised_cross_entropy(logits, batch.label, self.options["q"]).mean()


class LfF(Method):
    """Learning from failure: what a biased network finds hard counts more for the other one.

    Nam et al. 2020 (arXiv:2007.02561), algorithm 1 and the authors' code: both networks train at
    once, the biased one with generalised cross-entropy; W = l_b / (l_b + l_d), l the cross-entropy
    of each row, averaged over its visits (`ema`) and divided by the largest of its label. The
    biased network starts as a copy of the other. Weights for distillation: W over its mean in the
    batch.
    """

    warm = False
    defaults: ClassVar[Mapping[str, Any]] = {"q": 0.7, "ema": 0.7}
    has_trainable_modules = True
    weighs_examples = True

    @classmethod
    def cannot_learn(cls, options: Mapping[str, Any], updates: int) -> str:
        """A biased network that does not learn."""
        return no_gradient(options)

    easy: Tensor
    hard: Tensor
    visited: Tensor

    def __init__(self, metadata: TrainingMetadata, **options: Any) -> None:
        super().__init__(metadata, **options)
        for name in ("easy", "hard", "visited"):  # averages of both networks, and rows seen: (N,)
            self.register_buffer(name, torch.zeros(len(metadata.label)))

    def setup(self, network: Network) -> None:
        """The biased network."""
        self.biased = deepcopy(network)

    def forward(self, context: ForwardContext) -> tuple[ModelOutput, dict[str, Tensor]]:
        """The network's output, and `biased`, the logits of the biased one (b, C)."""
        output = context.network(context.inputs)
        return output, {"biased": self.biased(context.inputs).logits}

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() the losses of both networks."""
        return self.loss_and_weights(logits, batch)[0]

    def loss_and_weights(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The losses of both networks, and (B,) W over its mean in the batch.

        The averages follow the batch first where gradients are on.
        """
        biased = batch.outputs["biased"]
        each = cross_entropy(logits, batch.label, reduction="none")
        theirs = cross_entropy(biased, batch.label, reduction="none")
        if torch.is_grad_enabled():
            self.remember(batch.row, theirs.detach(), each.detach())
        scaled = [self.scaled(table, batch) for table in (self.easy, self.hard)]
        weights = scaled[0] / (scaled[0] + scaled[1] + 1e-8)
        failing = generalised_cross_entropy(biased, batch.label, self.options["q"]).mean()
        return (weights * each).mean() + failing, weights / weights.mean().clamp(min=1e-8)

    def remember(self, row: Tensor, theirs: Tensor, ours: Tensor) -> None:
        """Moving averages of both networks' losses; a first visit counts whole."""
        ema = self.options["ema"]
        share = 1 - ema * self.visited[row]
        self.easy[row] = ema * self.easy[row] + share * theirs.to(self.easy)
        self.hard[row] = ema * self.hard[row] + share * ours.to(self.hard)
        self.visited[row] = 1

    def scaled(self, table: Tensor, batch: Batch) -> Tensor:
        """(B,) averages of the batch's rows over the largest one of their label."""
        largest = table.new_zeros(self.n_labels).scatter_reduce(0, self.label, table, "amax")
        return table[batch.row] / largest[batch.label].clamp(min=1e-8)


class PGD(Method):
    """Cross-entropy on rows drawn in proportion to their gradient norm in a biased model.

    Per-sample gradient based debiasing, Ahn, Kim, Yun 2023 (arXiv:2205.15704), algorithm 1: a model
    is trained with generalised cross-entropy; row i is drawn with probability s_i / sum s, s_i the
    norm of its gradient in the last layer's weights, |p - y| |h|, as the authors' code takes it;
    training goes on from the biased weights. `bias_term` counts the layer's bias as well,
    |p - y| sqrt(|h|^2 + 1).
    """

    warm = False
    defaults: ClassVar[Mapping[str, Any]] = {"epochs": 2.0, "q": 0.7, "bias_term": False}

    norm: Tensor

    @classmethod
    def cannot_learn(cls, options: Mapping[str, Any], updates: int) -> str:
        """A biased model that does not learn."""
        return no_gradient(options)

    @classmethod
    def prepare(cls, trainer: Trainer, options: Mapping[str, Any]) -> Prepared:
        """The biased model's weights to start from, and the norms (N,)."""
        biased = trainer.erm(epochs=options["epochs"], method="gce", options={"q": options["q"]})
        answers = trainer.predict(biased)
        norms = gradient_norms(
            answers.logits, answers.features, trainer.train.label, options["bias_term"]
        )
        return Prepared({"norm": torch.from_numpy(norms).float()}, start=biased, stages=(biased,))

    def sampling_weights(self) -> Tensor:
        """(N,) the gradient norms."""
        return self.norm

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        return cross_entropy(logits, batch.label)


def gradient_norms(
    logits: NDArray[np.float32],
    features: NDArray[np.float32],
    label: NDArray[np.int64],
    bias_term: bool,
) -> NDArray[np.float64]:
    """(N,) norm of each row's cross-entropy gradient in the last layer."""
    z = logits.astype(np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(p)), label] -= 1
    squares = np.einsum("nh,nh->n", features, features, dtype=np.float64)
    width = squares + (1 if bias_term else 0)
    norms: NDArray[np.float64] = np.linalg.norm(p, axis=1) * np.sqrt(width)
    return norms
