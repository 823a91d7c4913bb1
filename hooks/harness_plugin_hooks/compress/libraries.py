"""Integer models as libraries run them on a CPU: their own answers, file sizes and latencies."""

from __future__ import annotations

import importlib.util
import io
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from harness_plugin.training.batch import Inputs
from harness_plugin.training.compression import CompressionContext, Compressor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

REPEATS = 15
"""Forwards of one row that a latency is the median of, after three that do not count."""
ONNX = "model.int8.onnx"


def latency(forward: Callable[[Inputs], Any], context: CompressionContext) -> float:
    """Milliseconds that one calibration row takes, the median of `REPEATS` on this machine."""
    inputs = {name: value[:1] for name, value in next(context.batches()).items()}
    times = []
    for _ in range(REPEATS + 3):
        started = time.perf_counter()
        forward(inputs)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[3:])


def latencies(model: nn.Module, small: nn.Module, context: CompressionContext) -> dict[str, float]:
    """Median milliseconds for one row, of the int8 model and of the float one."""
    with torch.inference_mode():
        return {
            "latency_ms": latency(lambda inputs: small(**inputs), context),
            "latency_ms_before": latency(lambda inputs: model(**inputs), context),
        }


def saved_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights as `torch.save` writes them."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell()


class Int8(Compressor):
    """An int8 model beside the float one, made after the training; its kernels are a CPU's."""

    calibrated = True
    after_training = True
    cpu_only = True
    answers = True
    defaults: ClassVar[Mapping[str, Any]] = {
        "per_channel": True,
        "calibration": "random",
        "rows": 1,
    }


class TorchInt8(Int8):
    """PyTorch's dynamic quantisation: int8 weights a tensor or channel, int8 activations a batch.

    `per_channel` scales weights by output channel. Predictions are those of the int8 kernels;
    analyses look at the float weights, which stay as they were. Convolutions and embeddings are not
    quantised (torch.ao.quantization.quantize_dynamic).
    """

    @classmethod
    def compress(
        cls, model: PreTrainedModel, context: CompressionContext, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Measure the int8 model beside the float one; the weights stay."""
        model.eval()
        small = cls.answering(model, context.folder, options)
        sizes = {"bytes": saved_bytes(small), "bytes_before": saved_bytes(model)}
        return sizes | latencies(model, small, context)

    @classmethod
    def answering(
        cls, model: PreTrainedModel, folder: Path, options: Mapping[str, Any]
    ) -> nn.Module:
        """A copy of the model with int8 linear layers."""
        from torch.ao import quantization

        config = (
            quantization.per_channel_dynamic_qconfig
            if options["per_channel"]
            else quantization.default_dynamic_qconfig
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its announced successor is torchao
            small: nn.Module = quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
                model.eval(), {nn.Linear: config}
            )
        return small


class OnnxInt8(Int8):
    """ONNX Runtime's dynamic quantisation: int8 weights, activations scaled as they come.

    The stage keeps `model.int8.onnx`, which predicts; analyses look at the float weights. Needs
    `pip install "debias-transfer[onnx]"`.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**Int8.defaults, "rows": 2}

    @classmethod
    def compress(
        cls, model: PreTrainedModel, context: CompressionContext, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Export, quantise, measure; the weights stay."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        model.eval()
        whole = context.folder / "model.onnx"
        export(model, next(context.batches()), whole)
        quantize_dynamic(
            whole,
            context.folder / ONNX,
            per_channel=options["per_channel"],
            weight_type=QuantType.QInt8,
        )
        before = whole.stat().st_size
        whole.unlink()
        sizes = {"bytes": (context.folder / ONNX).stat().st_size, "bytes_before": before}
        return sizes | latencies(model, cls.answering(model, context.folder, options), context)

    @classmethod
    def answering(
        cls, model: PreTrainedModel, folder: Path, options: Mapping[str, Any]
    ) -> nn.Module:
        """The exported model behind the call of a classifier."""
        return OnnxClassifier(folder / ONNX)

    @classmethod
    def refusal(cls, options: Mapping[str, Any], model_type: str) -> str:
        """A library that is not there."""
        for name in ("onnxruntime", "onnx", "onnxscript"):
            if importlib.util.find_spec(name) is None:
                return f'needs {name}: pip install "debias-transfer[onnx]"'
        return ""


class Positional(nn.Module):
    """A classifier called with tensors in an order, as exporters want it."""

    def __init__(self, model: PreTrainedModel, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values: Tensor) -> Tensor:
        """(B, C) logits."""
        logits: Tensor = self.model(**dict(zip(self.names, values, strict=True))).logits
        return logits


def export(model: PreTrainedModel, inputs: Inputs, file: Path) -> None:
    """Write the model as ONNX, for any number of rows and tokens."""
    names = tuple(inputs)
    axes = {n: {0: "rows", **({1: "tokens"} if v.dim() == 2 else {})} for n, v in inputs.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Positional(model, names).eval(),
            tuple(inputs.values()),
            str(file),
            input_names=list(names),
            output_names=["logits"],
            dynamic_axes={**axes, "logits": {0: "rows"}},
            dynamo=False,
        )


class OnnxClassifier(nn.Module):
    """An ONNX file called like a classifier."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        self.names = {each.name for each in self.session.get_inputs()}

    def forward(self, **inputs: Tensor) -> SequenceClassifierOutput:
        """The logits (B, C)."""
        fed = {k: v.contiguous().numpy() for k, v in inputs.items() if k in self.names}
        (logits,) = self.session.run(["logits"], fed)
        return SequenceClassifierOutput(logits=torch.from_numpy(logits))
