"""Compressors: a trained model made smaller, with or without a training that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from harness_plugin.training.batch import Inputs
from harness_plugin.training.contracts import Configured

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CALIBRATION = ("random", "balanced", "conflicting")
"""Which training rows calibrate: any, equally many of every group, or bias-conflicting ones."""


@dataclass(frozen=True)
class CompressionContext:
    """The arguments of a compressor besides the model.

    `folder`: of the stage, for files of its own. `batches`: the model inputs of the calibration
    rows, a batch at a time; empty for a compressor that is not `calibrated`.
    """

    folder: Path
    batches: Callable[[], Iterator[Inputs]]


class Compressor(Configured):
    """Makes a trained classifier smaller.

    A compressor overrides `compress`. One that reads training rows is `calibrated` and has the
    options `calibration` (one of `CALIBRATION`) and `rows` among its defaults.
    """

    calibrated: ClassVar[bool] = False
    after_training: ClassVar[bool] = False
    """Whether it comes after the training that mends the model, which would undo it: rounding.
    What others set to zero stays zero in that training."""
    cpu_only: ClassVar[bool] = False
    answers: ClassVar[bool] = False
    """Whether `answering` gives something else than the model."""

    @classmethod
    def compress(
        cls, model: PreTrainedModel, context: CompressionContext, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Change `model` in place; what it did, as JSON. `options` are resolved.

        `bytes` in what it returns is the size of the whole model by its own account.
        """
        raise NotImplementedError

    @classmethod
    def answering(
        cls, model: PreTrainedModel, folder: Path, options: Mapping[str, Any]
    ) -> nn.Module:
        """The model that predicts in the place of the compressed one: inputs in, `.logits` out.

        For libraries that run another format than float weights; the model itself by default, and
        it stays what analyses look into. `folder` is that of `CompressionContext`.
        """
        module: nn.Module = model
        return module

    @classmethod
    def refusal(cls, options: Mapping[str, Any], model_type: str) -> str:
        """Why it is not defined for these options or this architecture, "" when it is."""
        return ""
