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

    Gao et al. 2022 (arXiv:2210.07547), section 3: Nystrom features Phi = K_nm K_mm^(-1/2) of a
    cosine kernel on the last layer's inputs; weights w of the batch's rows (mean 1) minimise the
    squared off-diagonals of the weighted covariance of Phi over the batch and a memory of earlier
    features, by `steps` steps of gradient descent; then mean(w CE). Deviations: the landmarks are
    `landmarks` rows of the batch (the authors take all), eigenvalues below a millionth of the
    largest are cut off, the inner steps have no momentum and no penalty on w, and the memory is an
    average of features with momentum `memory`, kept while the batch size stays the same. In small
    models the weights stay near 1.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "landmarks": 16,
        "steps": 20,
        "rate": 6.0,
        "memory": 0.9,
    }
    uses_features = True
    weighs_examples = True

    stored: Tensor

    def __init__(self, metadata: TrainingMetadata, **options: Any) -> None:
        super().__init__(metadata, **options)
        self.register_buffer("stored", torch.zeros(0, 0))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() weighted mean over the batch."""
        return self.loss_and_weights(logits, batch)[0]

    def loss_and_weights(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The weighted mean, and the weights (B,); the memory follows where gradients are on."""
        features = normalize(batch.outputs["features"].detach(), dim=1)
        usable = self.stored.shape == features.shape
        known = self.stored.to(features) if usable else features[:0]
        phi = nystrom(torch.cat([known, features]), features[: self.options["landmarks"]])
        weights = decorrelating(
            phi, len(known), steps=self.options["steps"], rate=self.options["rate"]
        )
        if torch.is_grad_enabled():
            keep = self.options["memory"] if usable else 0.0
            old = self.stored.to(features) if usable else features
            self.stored = keep * old + (1 - keep) * features
        each = cross_entropy(logits, batch.label, reduction="none")
        return (weights * each).mean(), weights

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take over the shape of the memory, which is that of a batch's features."""
        if (stored := state_dict.get(f"{prefix}stored")) is not None:
            self.stored = self.stored.new_zeros(stored.shape, dtype=stored.dtype)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def nystrom(features: Tensor, landmarks: Tensor) -> Tensor:
    """(M, R) K_nm K_mm^(-1/2) of the linear kernel on rows of norm 1, R the rank kept."""
    values, vectors = torch.linalg.eigh(landmarks @ landmarks.T)
    kept = values > 1e-6 * values[-1]
    out: Tensor = features @ landmarks.T @ (vectors[:, kept] / values[kept].sqrt())
    return out


def off_diagonal(phi: Tensor, weight: Tensor) -> Tensor:
    """() sum of the squared off-diagonals of the weighted covariance of phi (M, R)."""
    share = weight / weight.sum()
    centred = phi - share @ phi
    covariance = (centred * share[:, None]).T @ centred
    off: Tensor = covariance.square().sum() - covariance.diagonal().square().sum()
    return off


def decorrelating(phi: Tensor, known: int, *, steps: int, rate: float) -> Tensor:
    """(B,) weights of mean 1 for the rows after the first `known`, which keep weight 1."""
    with torch.enable_grad():
        raw = torch.zeros(len(phi) - known, device=phi.device, dtype=phi.dtype).requires_grad_()
        for _ in range(steps):
            weight = torch.cat([phi.new_ones(known), raw.softmax(dim=0) * len(raw)])
            (gradient,) = torch.autograd.grad(off_diagonal(phi, weight), raw)
            raw = (raw - rate * gradient).detach().requires_grad_()
    return raw.detach().softmax(dim=0) * len(raw)
