"""Batch normalisation after compression: means and variances of what the smaller model computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness_plugin.errors import HarnessError
from harness_plugin.training.compression import CompressionContext, Compressor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class RecalibrateBatchNorm(Compressor):
    """Running means and variances estimated again on calibration rows; no weight changes.

    Weights that were rounded or set to 0 change what every layer reads, while batch normalisation
    still takes off the mean of the old model: before anything is trained this is a large part of
    the harm (EagleEye, Li et al. 2020, arXiv:2007.02491, "adaptive batch normalization"). Every
    batch normalisation normalises by the batch that passes, as in training, and keeps mean and
    variance of all rows together (PreciseBN, Wu and Johnson 2021, arXiv:2105.07576, section 3), not
    a moving average. It acts after what is named before it.
    """

    calibrated = True
    after_training = True
    defaults: ClassVar[Mapping[str, Any]] = {"calibration": "random", "rows": 1000}

    @classmethod
    @torch.no_grad()
    def compress(
        cls, model: PreTrainedModel, context: CompressionContext, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Replace the statistics; the record has the largest move of a mean, in its old sds."""
        norms = [
            module
            for module in model.modules()
            if isinstance(module, _BatchNorm) and module.running_mean is not None
        ]
        if not norms:
            raise HarnessError(
                f"{type(model).__name__} has no batch normalisation: leave recalibrate_batch_norm "
                "out."
            )
        moments, momenta = [Moments() for _ in norms], [norm.momentum for norm in norms]
        handles = [
            norm.register_forward_pre_hook(each.add)
            for norm, each in zip(norms, moments, strict=True)
        ]
        model.eval()
        for norm in norms:
            norm.train().momentum = 0.0  # what it keeps is written once, at the end
        for inputs in context.batches():
            model(**inputs)
        for handle in handles:
            handle.remove()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.eval().momentum = momentum
        moved = [each.write(norm) for norm, each in zip(norms, moments, strict=True)]
        return {"batch_norms": len(norms), "largest_shift": max(moved)}


class Moments:
    """Sums over rows and positions of one layer's inputs and their squares, by channel."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: Tensor = torch.zeros(())
        self.squares: Tensor = torch.zeros(())

    def add(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Count inputs (B, C, ...). Raises HarnessError where one value has no variance."""
        x = inputs[0].detach().double().transpose(0, 1).flatten(1)
        if x.shape[1] < 2:
            raise HarnessError(
                "a batch of one calibration row has no variance: change rows or eval_batch_size."
            )
        self.count += x.shape[1]
        self.sums = self.sums + x.sum(dim=1)
        self.squares = self.squares + x.square().sum(dim=1)

    def write(self, norm: _BatchNorm) -> float:
        """Into a layer's running statistics; the largest move of a mean, in standard deviations.

        The variance is the unbiased one, as torch keeps it. A layer without inputs stays as it is.
        """
        if not self.count or norm.running_mean is None or norm.running_var is None:
            return 0.0
        mean = self.sums / self.count
        centred = (self.squares / self.count - mean.square()).clamp(min=0)
        shift = (mean - norm.running_mean).abs() / (norm.running_var + norm.eps).sqrt()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(centred * self.count / (self.count - 1))
        return float(shift.max())
