"""Methods that train on mixtures of two rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness_plugin.errors import HarnessError
from harness_plugin.models.network import ModelOutput
from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin.training.contracts import ForwardContext, Method

Ints = NDArray[np.int64]


class Mixup(Method):
    """lambda CE(y) + (1 - lambda) CE(y') on a mixture with a random other row.

    Zhang et al. 2018 (arXiv:1710.09412), lambda from Beta(alpha, alpha). Images are mixed pixel by
    pixel; texts have no mixture, so that the inputs of the last layer are mixed. Partner and lambda
    of a row depend on the update and the row alone.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"alpha": 0.2}

    def partners(self, batch: Batch) -> Tensor:
        """(B,) one training row for each row of the batch."""
        rows = [self.partner(row, self.stream(batch, row)) for row in batch.row.tolist()]
        return torch.tensor(rows)

    def partner(self, row: int, rng: np.random.Generator) -> int:
        """Any training row."""
        return int(rng.integers(len(self.label)))

    @staticmethod
    def stream(batch: Batch, row: int, use: int = 0) -> np.random.Generator:
        """The random stream of one row in one update."""
        return np.random.default_rng([batch.seed, row, use])

    def forward(self, context: ForwardContext) -> tuple[ModelOutput, dict[str, Tensor]]:
        """The mixture's output, `mixed` logits (b, C) and the share `kept` (b,) of the row itself.

        Where a distillation term needs it, the output is that of the row itself.
        """
        network, inputs, batch = context.network, context.inputs, context.batch
        if context.partner_inputs is None or batch.partner is None:
            raise HarnessError("mixing needs a partner for every row.")
        alpha = self.options["alpha"]
        draws = [float(self.stream(batch, row, 1).beta(alpha, alpha)) for row in batch.row.tolist()]
        kept = torch.tensor(draws, device=batch.row.device)
        if "pixel_values" in inputs:
            share = kept.view(-1, 1, 1, 1)
            others = context.partner_inputs["pixel_values"]
            pixels = share * inputs["pixel_values"] + (1 - share) * others
            mixed = network({**inputs, "pixel_values": pixels})
            plain = network(inputs) if context.distilled else mixed
        else:
            plain = network(inputs)
            other = network(context.partner_inputs).features
            share = kept.view(-1, 1)
            features = share * plain.features + (1 - share) * other
            mixed = ModelOutput(network.head(features).float(), features)
        output = plain if context.distilled else mixed
        return output, {"kept": kept, "mixed": mixed.logits}

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        if batch.partner is None:
            raise HarnessError("mixing needs a partner for every row.")
        mixed, kept = batch.outputs["mixed"], batch.outputs["kept"]
        ours = cross_entropy(mixed, batch.label, reduction="none")
        theirs = cross_entropy(mixed, self.label[batch.partner], reduction="none")
        return (kept * ours + (1 - kept) * theirs).mean()


class LISA(Mixup):
    """Mixup within a label across attributes, or within an attribute across labels.

    Selective augmentation, Yao et al. 2022 (arXiv:2201.00299), section 3: with probability
    `same_label` the partner has the same label and another attribute, else the same attribute and
    another label; lambda from Beta(alpha, alpha). A row for which there is no such partner, or of
    unknown attribute, is its own. Deviation: the kind of partner and lambda are drawn for each row
    instead of each batch.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"environments"})
    defaults: ClassVar[Mapping[str, Any]] = {"alpha": 2.0, "same_label": 0.5}

    def __init__(self, metadata: TrainingMetadata, **options: Any) -> None:
        super().__init__(metadata, **options)
        if metadata.environment is None:
            raise HarnessError("LISA needs the attribute of every training row.")
        self.labels = metadata.label.cpu().numpy()
        self.attributes = metadata.environment.cpu().numpy()
        self.pools: dict[tuple[int, int, bool], Ints] = {}

    def partner(self, row: int, rng: np.random.Generator) -> int:
        """A row of the pool that this row's label, attribute and the coin choose."""
        same_label = bool(rng.random() < self.options["same_label"])
        pool = self.pool(int(self.labels[row]), int(self.attributes[row]), same_label)
        return int(pool[rng.integers(len(pool))]) if len(pool) else row

    def pool(self, label: int, attribute: int, same_label: bool) -> Ints:
        """The rows a row of this label and attribute may be mixed with."""
        key = (label, attribute, same_label)
        if key not in self.pools:
            equal, other = self.labels == label, self.attributes == attribute
            partners = equal & ~other if same_label else other & ~equal
            known = (self.attributes >= 0) & (attribute >= 0)
            self.pools[key] = np.flatnonzero(partners & known)
        return self.pools[key]
