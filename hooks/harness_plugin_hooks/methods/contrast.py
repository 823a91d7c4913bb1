"""Methods that work on the last layer's inputs of a whole batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from harness_plugin.errors import HarnessError
from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin.training.contracts import Method, Prepared
from harness_plugin.training.trainer import Trainer

PLAIN_UPDATES = 10
"""Updates of which the memory is the plain average (the authors' training/reweighting.py)."""
RIDGE = 1e-3
"""Added to the kernel's eigenvalues before the root (the authors' loss_reweighting.py)."""


class CnC(Method):
    """Correct-n-contrast: pull rows of a label together that an ERM model predicts differently.

    Zhang et al. 2022 (arXiv:2203.01517), section 4: with yhat the first model's predictions, the
    positives of an anchor have its label and another yhat, its negatives another label and its
    yhat; loss = contrast * L_con + (1 - contrast) * CE, on normalised features over `temperature`.
    Deviation: anchors, positives and negatives are those of the batch, which draws every cell
    label x (yhat right or wrong) equally often, instead of sets sampled for each anchor.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"epochs": 1.0, "contrast": 0.75, "temperature": 0.1}
    family: ClassVar[Mapping[str, Mapping[str, Any]]] = {"image": {"temperature": 0.05}}
    uses_features = True

    predicted: Tensor

    @classmethod
    def cannot_learn(cls, options: Mapping[str, Any], updates: int) -> str:
        """A last layer that no term trains."""
        if options["contrast"] < 1:
            return ""
        return "has no cross-entropy where contrast is 1: set contrast below 1"

    @classmethod
    def prepare(cls, trainer: Trainer, options: Mapping[str, Any]) -> Prepared:
        """yhat (N,) of an ERM model of `epochs` epochs. HarnessError when it is always right."""
        first = trainer.erm(epochs=options["epochs"])
        predicted = torch.from_numpy(trainer.predict(first).logits.argmax(axis=1))
        if bool((predicted.numpy() == trainer.train.label).all()):
            raise HarnessError(
                f"task {trainer.task.task}: CnC's first model, {options['epochs']:g} epoch(s) of "
                f"ERM, makes no error on {len(predicted)} training rows: nothing to contrast. "
                f"Train it shorter (option epochs)."
            )
        return Prepared({"predicted": predicted}, stages=(first,))

    def sampling_weights(self) -> Tensor:
        """(N,) the inverse size of each row's cell label x (right or wrong)."""
        right = self.predicted == self.label
        cell = self.label * 2 + right.long()
        return 1.0 / torch.bincount(cell).float()[cell]

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() both terms; a batch without a positive or negative has cross-entropy only."""
        predicted = self.predicted[batch.row]
        contrast = contrastive(
            batch.outputs["features"], batch.label, predicted, self.options["temperature"]
        )
        share: float = self.options["contrast"]
        return share * contrast + (1 - share) * cross_entropy(logits, batch.label)


def contrastive(features: Tensor, label: Tensor, predicted: Tensor, temperature: float) -> Tensor:
    """() mean over anchors of -mean_p log(exp(s_p) / (sum of exp(s) over positives, negatives)).

    s are cosines over the temperature. Anchors without a positive or a negative are left out; 0
    where that leaves none.
    """
    similarity = normalize(features, dim=1) @ normalize(features, dim=1).T / temperature
    same_label = label[:, None] == label
    same_guess = predicted[:, None] == predicted
    positive, negative = same_label & ~same_guess, ~same_label & same_guess
    usable = positive.any(dim=1) & negative.any(dim=1)
    if not bool(usable.any()):
        return 0.0 * features.sum()
    either = (positive | negative)[usable]
    inside = similarity[usable].masked_fill(~either, float("-inf"))
    log_share = inside - inside.logsumexp(dim=1, keepdim=True)
    chosen = positive[usable]
    each = -log_share.masked_fill(~chosen, 0.0).sum(dim=1) / chosen.sum(dim=1)
    return each.mean()


class KernelWhitening(Method):
    """Cross-entropy with weights that decorrelate the kernel features of a batch.

    Gao et al. 2022 (arXiv:2210.07547), section 3, and the authors' training/reweighting.py: Nystrom
    features Phi = K_nm (K_mm + .001)^(-1/2) of a cosine kernel on the last layer's inputs of the
    batch and of a memory of earlier features; the weights w of the batch start at 1 and take
    `steps` steps of gradient descent (momentum .9, the rate a tenth in the second half) on

        sum of squared off-diagonals of the covariance of Phi / lambdap + sum_i softmax(w)_i^2,

    the covariance weighted by the softmax of w and of the memory's weights; then mean(w CE). The
    memory averages features and weights, plainly over the first ten updates, then with momentum
    `memory`. Deviations: the mean over the batch instead of the sum, a factor that AdamW takes no
    notice of; the authors' class weights for HANS (1, .4, 1) are left out. `landmarks` above 0
    spans the features by so many rows of the batch, which costs less; the authors take all rows.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "landmarks": 0,
        "steps": 20,
        "rate": 6.0,
        "lambdap": 70.0,
        "memory": 0.9,
    }
    uses_features = True
    weighs_examples = True

    stored: Tensor
    stored_weight: Tensor
    seen: Tensor

    def __init__(self, metadata: TrainingMetadata, **options: Any) -> None:
        super().__init__(metadata, **options)
        self.register_buffer("stored", torch.zeros(0, 0))
        self.register_buffer("stored_weight", torch.zeros(0))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() weighted mean over the batch."""
        return self.loss_and_weights(logits, batch)[0]

    def loss_and_weights(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The weighted mean, and the weights (B,); the memory follows where gradients are on."""
        features = batch.outputs["features"].detach()
        stored, weight, seen = self.memory_for(features)
        everything = normalize(torch.cat([features, stored]), dim=1)
        most = self.options["landmarks"]
        landmarks = everything[: min(most, len(features))] if most else everything
        weights = decorrelating(
            nystrom(everything, landmarks),
            weight,
            steps=self.options["steps"],
            rate=self.options["rate"],
            lambdap=self.options["lambdap"],
        )
        if torch.is_grad_enabled():
            keep = seen / (seen + 1) if seen < PLAIN_UPDATES else self.options["memory"]
            size = len(features)
            stored[:size] = keep * stored[:size] + (1 - keep) * features
            weight[:size] = keep * weight[:size] + (1 - keep) * weights
            self.stored, self.stored_weight = stored, weight
            self.seen = torch.full_like(self.seen, seen + 1)
        each = cross_entropy(logits, batch.label, reduction="none")
        return (weights * each).mean(), weights

    def memory_for(self, features: Tensor) -> tuple[Tensor, Tensor, int]:
        """Copies of the stored features (M, H) and weights (M,), and how many updates made them.

        It starts anew, as zeros of weight 1, where a batch is larger than the memory.
        """
        if self.stored.shape[1:] == features.shape[1:] and len(self.stored) >= len(features):
            return (
                self.stored.to(features, copy=True),
                self.stored_weight.to(features, copy=True),
                int(self.seen),
            )
        return torch.zeros_like(features), features.new_ones(len(features)), 0

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take over the shape of the memory, which is that of a batch's features."""
        for name in ("stored", "stored_weight"):
            if (value := state_dict.get(f"{prefix}{name}")) is not None:
                setattr(self, name, getattr(self, name).new_zeros(value.shape, dtype=value.dtype))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def nystrom(features: Tensor, landmarks: Tensor) -> Tensor:
    """(M, L) K_nm (K_mm + RIDGE)^(-1/2) of the linear kernel on rows of norm 1."""
    values, vectors = torch.linalg.eigh(landmarks @ landmarks.T)
    root = (values.clamp(min=0.0) + RIDGE).rsqrt()
    out: Tensor = features @ landmarks.T @ (vectors * root) @ vectors.T
    return out


def off_diagonal(phi: Tensor, share: Tensor) -> Tensor:
    """() sum of the squared off-diagonals of the covariance of phi (M, R) under `share` (M,)."""
    centred = phi - share @ phi
    covariance = (centred * share[:, None]).T @ centred
    off: Tensor = covariance.square().sum() - covariance.diagonal().square().sum()
    return off


def decorrelating(
    phi: Tensor, stored: Tensor, *, steps: int, rate: float, lambdap: float
) -> Tensor:
    """(B,) weights of the first rows of phi (M, R); the last ones keep those in `stored`."""
    weight = phi.new_ones(len(phi) - len(stored))
    velocity = torch.zeros_like(weight)
    for step in range(steps):
        with torch.enable_grad():
            weight = weight.detach().requires_grad_()
            share = torch.cat([weight, stored]).softmax(dim=0)
            penalty = weight.softmax(dim=0).square().sum()
            (gradient,) = torch.autograd.grad(off_diagonal(phi, share) / lambdap + penalty, weight)
        velocity = 0.9 * velocity + gradient
        weight = weight.detach() - rate * (1.0 if 2 * step < steps else 0.1) * velocity
    return weight
