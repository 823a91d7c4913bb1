"""The models that bench/gpu.py measures, their rows, and one training of them."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
)
from workload import LABELS, Lengths, Size, accelerator_on, metadata_of, text, training_args

from harness_plugin.models import t5  # noqa: F401  registers its classes
from harness_plugin.models.checkpoints import Backbone
from harness_plugin.models.classifiers import supported_attention
from harness_plugin.training import loop
from harness_plugin.training.inputs.encode import Encoded, EncodedImages, EncodedRows
from harness_plugin.training.loss import DistillationLoss
from harness_plugin.training.update import TrainingRows
from harness_plugin_hooks.backbones import bert, resnet, vit
from harness_plugin_hooks.backbones import t5 as t5_presets
from harness_plugin_hooks.methods.erm import ERM

Row = dict[str, Any]
IMAGES = 256
"""Different images; more rows repeat them."""


@dataclass(frozen=True)
class Case:
    """A model from random weights; `size` is the tokens of a row or the pixels of a side."""

    name: str
    preset: Backbone
    size: int
    batches: tuple[int, ...]
    """Batch sizes; every precision is measured with the last but one, or the only one."""
    precisions: tuple[str, ...] = ("bf16", "fp16", "tf32", "fp32")

    def settings(self) -> Iterator[tuple[int, str]]:
        """Measured settings: (batch size, precision)."""
        usual = self.batches[-2:][0]
        yield from ((batch, self.precisions[0]) for batch in self.batches)
        yield from ((usual, precision) for precision in self.precisions[1:])

    def model(self, device: str) -> Any:
        """A classifier, made on the device."""
        more = {"image_size": self.size} if self.preset.model_type == "vit" else {}
        config = AutoConfig.for_model(
            self.preset.model_type, **{**self.preset.config, "num_labels": LABELS, **more}
        )
        torch.manual_seed(0)
        modality = self.preset.modality
        auto = {
            "text": AutoModelForSequenceClassification,
            "image": AutoModelForImageClassification,
        }[modality]
        with torch.device(device):
            return auto.from_config(
                config, attn_implementation=supported_attention(config, modality, "sdpa")
            )

    def rows(self, count: int) -> tuple[Encoded, torch.Tensor]:
        """Random rows and labels."""
        if self.preset.modality == "text":
            return text(count, Lengths(self.size, self.size, float(self.size), 0.0), 0)
        rng = np.random.default_rng(0)
        different = min(count, IMAGES)
        pixels = rng.integers(0, 256, (different, self.size, self.size, 3), dtype=np.uint8)
        images = EncodedImages(pixels, 1 / 255, (0.5,) * 3, (0.5,) * 3)
        label = torch.from_numpy(rng.integers(0, LABELS, count))
        return EncodedRows(images, np.arange(count) % different), label


CASES = (
    Case("BERT-base, 128 tokens", bert.BASE, 128, (32, 128, 256)),
    Case("T5-base encoder, 128 tokens", t5_presets.BASE, 128, (128,), ("bf16", "tf32", "fp32")),
    Case("ViT-base, 224 px", vit.BASE, 224, (64, 128)),
    Case("ResNet-50, 224 px", resnet.RESNET_50, 224, (64, 256)),
)
SMALL_RESNET = resnet.resnet("bottleneck", [1, 1], [32, 64], 16, None)
TINY_CASES = (
    Case("BERT-pico", bert.PICO, 16, (4, 8), ("bf16", "fp32")),
    Case("T5-pico encoder", t5_presets.PICO, 16, (8,), ("bf16",)),
    Case("ViT-pico", vit.PICO, 32, (8,), ("bf16",)),
    Case("ResNet of two blocks", SMALL_RESNET, 32, (8,), ("fp32",)),
)


@dataclass(frozen=True)
class Bench:
    """Where and how large."""

    device: str
    tiny: bool
    output: Path

    @property
    def card(self) -> str:
        """The name of the GPU, or "cpu"."""
        return torch.cuda.get_device_name() if self.device == "cuda" else "cpu"

    @property
    def cases(self) -> tuple[Case, ...]:
        """The models."""
        return TINY_CASES if self.tiny else CASES

    def args(self, batch_size: int) -> argparse.Namespace:
        """The options that the other scripts read."""
        return argparse.Namespace(
            device=self.device, batch_size=batch_size, seed=0, eval_batch_size=256, peers=None
        )

    def sizes(self, *sizes: Size) -> tuple[Size, ...]:
        """The sizes, or tiny ones."""
        return tuple(Size(1, 32 * n) for n in range(1, 1 + len(sizes))) if self.tiny else sizes

    def wait(self) -> None:
        """For the device to be done."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def set_tf32(allowed: bool) -> None:
    """Whether matrix products and convolutions of float32 may use tf32 units."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def fit(
    bench: Bench,
    model: Any,
    rows: tuple[Encoded, torch.Tensor],
    batch_size: int,
    precision: str,
    loss: Callable[[Any], DistillationLoss] | None = None,
    compiled: bool = False,
) -> dict[str, Any]:
    """One epoch of the product's own loop; its record."""
    set_tf32(precision == "tf32")
    mixed = precision if precision in ("bf16", "fp16") else "no"
    accelerator = accelerator_on(bench.device, mixed)
    encoded, label = rows
    metadata = metadata_of(label, accelerator.device)
    with tempfile.TemporaryDirectory() as folder:
        return loop.fit(
            accelerator,
            model,
            TrainingRows(encoded, metadata),
            loss(metadata) if loss else DistillationLoss(ERM(metadata)),
            training_args(batch_size, 0),
            loop.LoopOptions("bench", Path(folder), compile_model=compiled),
        )
