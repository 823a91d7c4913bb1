"""Effects of a method's named deviations from its source: a table of docs/methods_measured.md.

Each row trains a method once as its source has it and once as it is here, on the embedded tasks,
and compares worst-group accuracy, paired by seed. Options and files are those of methods.py.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from methods import Comparison, Variant, finish, parser
from torch import Tensor

from harness_plugin.training.batch import Batch
from harness_plugin_hooks.methods import ensemble
from harness_plugin_hooks.methods.contrast import KernelWhitening

START = "<!-- table: python bench/deviations.py -->"


class RUBiUncentred(ensemble.RUBi):
    """z * sigmoid(b): the bias model's log-probabilities as they are stand in for its logits."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        masked = ensemble.masked(logits, self.bias(batch))
        return ensemble.cross_entropy(masked, batch.label)


def authors_exponent(theta: float, epochs: float, batch: Batch) -> float:
    """np.linspace(1, theta, updates + epochs)[update], as in the authors' code."""
    if not batch.update:
        return 1.0
    updates = batch.update / batch.progress
    return 1.0 + (theta - 1.0) * batch.update / (updates + epochs - 1)


class PoEAuthorsLine(ensemble.ProductOfExperts):
    """Annealed over `epochs` more updates than there are."""

    defaults: ClassVar[Mapping[str, Any]] = {"theta": 0.8, "epochs": 3.0}

    def annealed(self, b: Tensor, batch: Batch) -> Tensor:
        """With the authors' exponent."""
        exponent = authors_exponent(self.options["theta"], self.options["epochs"], batch)
        return ensemble.log_softmax(exponent * b, dim=1)


class BiasReweightAuthorsPower(ensemble.BiasReweight):
    """Weights (1 - p_B,y)^theta instead of 1 - p_B^theta renormalised, on the authors' line."""

    defaults: ClassVar[Mapping[str, Any]] = {"theta": 0.8, "epochs": 3.0}

    def gold(self, batch: Batch) -> Tensor:
        """(B,) 1 - (1 - p_B,y)^theta, of which the loss takes the rest."""
        p = self.bias_log_probs[batch.row].gather(1, batch.label[:, None]).squeeze(1).exp()
        exponent = authors_exponent(self.options["theta"], self.options["epochs"], batch)
        return 1 - (1 - p).pow(exponent)


class KernelWhiteningSum(KernelWhitening):
    """The sum over the batch, which a cut of the gradient's norm does take notice of."""

    def loss_and_weights(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """B times the mean."""
        loss, weights = super().loss_and_weights(logits, batch)
        return len(logits) * loss, weights


OFFERS = {
    "rubi_uncentred": "RUBiUncentred",
    "poe_authors_line": "PoEAuthorsLine",
    "bias_reweight_authors_power": "BiasReweightAuthorsPower",
    "kernel_whitening_sum": "KernelWhiteningSum",
}


def rows_of(task: str) -> list[Comparison]:
    """As the source has it, beside as it is here."""
    copies = {"hans": 5, "celeba_bias": 51}.get(task, 5)  # the authors add lambda copies to the row
    pairs = [
        ("rubi_uncentred", Variant("rubi")),
        ("poe_authors_line", Variant("poe", sets=("method_options.poe.theta=0.8",))),
        (
            "bias_reweight_authors_power",
            Variant("bias_reweight", sets=("method_options.bias_reweight.theta=0.8",)),
        ),
        ("kernel_whitening_sum", Variant("kernel_whitening")),
    ]
    rows = [Comparison(task, Variant(name), ours) for name, ours in pairs]
    more = Variant("jtt", sets=(f"method_options.jtt.upweight={copies}",))
    return [*rows, Comparison(task, more, Variant("jtt"))]


def main() -> int:
    """Print the tables; write them where that is asked."""
    args = parser(__doc__.splitlines()[0]).parse_args()
    offers = tuple((name, f"deviations:{cls}") for name, cls in OFFERS.items())
    return finish(args, START, rows_of, "the method as it is here", offers)


if __name__ == "__main__":
    sys.exit(main())
