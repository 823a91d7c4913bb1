"""Base of distillers on features and on layers: their own loss beside the KL of the logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from harness_plugin.training.batch import Batch
from harness_plugin.training.contracts import Distiller
from harness_plugin_hooks.distill.logits import divergence

if TYPE_CHECKING:
    from harness_plugin.training.batch import TrainingMetadata

LOGITS = {"logits": 1.0}
"""Weight of T^2 KL(p_t^T || p_s^T), with which these losses are combined in their papers."""


class IntermediateDistiller(Distiller):
    """weight x a loss on what is inside + logits x T^2 KL; the factor T^2 is on the KL alone."""

    defaults: ClassVar[Mapping[str, Any]] = {**LOGITS, "weight": 1.0}
    softened_only = False
    parts: ClassVar[tuple[str, ...]] = ()
    """Options that weigh the parts of the loss on what is inside, where it has several."""

    projector: nn.Module | None

    def __init__(
        self, temperature: float, metadata: TrainingMetadata | None = None, **options: Any
    ) -> None:
        super().__init__(temperature, metadata, **options)
        self.projector = None
        """Maps the student's vectors onto the teacher's width; made in `setup`."""

    @classmethod
    def term_weights(cls, options: Mapping[str, Any]) -> tuple[float, ...]:
        """Those of the terms on what is inside, and of the KL of the logits."""
        parts = [options[name] for name in cls.parts] or [1.0]
        return (*(options["weight"] * part for part in parts), options["logits"])

    def loss(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """(B,) both terms."""
        each: Tensor = self.options["weight"] * self.intermediate_loss(batch)
        if self.options["logits"]:
            t = self.temperature
            soft = divergence(student / t, teacher / t)
            each = each + self.options["logits"] * self.temperature_factor * soft
        return each

    def intermediate_loss(self, batch: Batch) -> Tensor:
        """(B,), or () for a loss of the whole batch, from what `forward` gave."""
        raise NotImplementedError

    def projected(self, vectors: Tensor) -> Tensor:
        """(..., H_t) of the student's (..., H_s), or these where there is no projector."""
        if self.projector is None:
            return vectors
        mapped: Tensor = self.projector(vectors)
        return mapped
