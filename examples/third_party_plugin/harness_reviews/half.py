"""The compressor: weights in half precision."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from harness_plugin.training.compression import CompressionContext, Compressor


class Half(Compressor):
    """Every parameter rounded to float16, and held in float32 again."""

    after_training = True

    @classmethod
    def compress(
        cls, model: PreTrainedModel, context: CompressionContext, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Round; two bytes a parameter are left."""
        for parameter in model.parameters():
            parameter.data.copy_(parameter.data.half().float())
        return {"bytes": 2 * sum(parameter.numel() for parameter in model.parameters())}
