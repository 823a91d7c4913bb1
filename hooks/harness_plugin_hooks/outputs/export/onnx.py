"""A model's folder → `model.onnx` beside its weights, checked against them."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

from harness_plugin._version import install_command
from harness_plugin.errors import HarnessError

TEXTS = ["a text", "another one, which is a little longer"]
"""Texts that a text model is traced with; both axes of the inputs stay free."""


def write_onnx(folder: Path) -> Path:
    """Trace the model in `folder`; inputs are named as in transformers, the output `logits`.

    Raises HarnessError where the extra is missing.
    """
    for name in ("onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise HarnessError(f"--onnx needs {name}: {install_command('onnx')}.")
    import torch

    from harness_plugin.models.classifiers import load_trained

    modality = "text" if (folder / "tokenizer_config.json").is_file() else "image"
    model = load_trained(str(folder), modality, attention="eager").eval()
    inputs = sample_inputs(folder, modality)
    axes = 2 if modality == "text" else 1  # an image model takes one size
    free = dict.fromkeys(range(axes), torch.export.Dim.DYNAMIC)
    target = folder / "model.onnx"
    with warnings.catch_warnings():  # of the exporter about itself
        warnings.simplefilter("ignore")
        torch.onnx.export(
            logits_of(model, list(inputs)),
            tuple(inputs.values()),
            target,
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_shapes=(tuple(free for _ in inputs),),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return target


def sample_inputs(folder: Path, modality: str) -> dict[str, Any]:
    """Two rows, as the model's own tokenizer or image processor makes them."""
    from harness_plugin.models.processors import load_processor

    processor = load_processor(str(folder), modality)
    if modality == "text":
        return dict(processor(TEXTS, padding=True, return_tensors="pt"))
    from PIL import Image

    images = [Image.new("RGB", (64, 64))] * 2
    return {"pixel_values": processor(images=images, return_tensors="pt")["pixel_values"]}


def logits_of(model: Any, names: list[str]) -> Any:
    """A module that takes inputs in the order of `names`, and gives a classifier's logits alone."""
    import torch

    class OnlyLogits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            """(N, C) logits."""
            logits: torch.Tensor = self.model(**dict(zip(names, inputs, strict=True))).logits
            return logits

    return OnlyLogits()
