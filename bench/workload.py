"""Synthetic text and BERTs of a given size, and one training of the product on them."""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

from harness_plugin.config.run_config import RunConfig
from harness_plugin.pipeline.prepare.hardware import available_cores, make_accelerator
from harness_plugin.training import loop
from harness_plugin.training.batch import TrainingMetadata
from harness_plugin.training.inputs.encode import EncodedText
from harness_plugin.training.loss import DistillationLoss
from harness_plugin.training.update import TrainingRows
from harness_plugin_hooks.methods.erm import ERM

VOCABULARY, LABELS, FIRST_WORD = 8000, 3, 5


@dataclass(frozen=True)
class Lengths:
    """Tokens of a row: log-normal, clipped. The defaults resemble MNLI pairs."""

    least: int = 16
    most: int = 128
    median: float = 36.0
    spread: float = 0.5

    def draw(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        """(rows,) int64."""
        drawn = rng.lognormal(math.log(self.median), self.spread, rows).round()
        return drawn.clip(self.least, self.most).astype(np.int64)


LONG = Lengths()
SHORT = Lengths(8, 40, 18.0, 0.4)


@dataclass(frozen=True)
class Size:
    """A BERT's layers, width and words."""

    layers: int
    width: int
    words: int = VOCABULARY

    def __str__(self) -> str:
        return f"{self.layers}L/{self.width}H"

    def flops(self, tokens: float) -> float:
        """Multiply-adds of one token's forward pass in a row of `tokens`, without embeddings."""
        return self.layers * (12 * self.width**2 + 2 * tokens * self.width)


def text(rows: int, lengths: Lengths, seed: int) -> tuple[EncodedText, torch.Tensor]:
    """Rows of random tokens in two segments, and their random labels (rows,) int64."""
    rng = np.random.default_rng(seed)
    each = lengths.draw(rng, rows)
    encoded = EncodedText(
        rng.integers(FIRST_WORD, VOCABULARY, int(each.sum())).astype(np.int32),
        np.concatenate([[0], np.cumsum(each)]).astype(np.int64),
        (each // 2).astype(np.int32),
        0,
    )
    return encoded, torch.from_numpy(rng.integers(0, LABELS, rows).astype(np.int64))


def bert(size: Size, attention: str, seed: int) -> BertForSequenceClassification:
    """A classifier with random weights and BERT's usual dropout."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=size.words,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=max(1, size.width // 64),
        intermediate_size=4 * size.width,
        num_labels=LABELS,
        pad_token_id=0,
    )
    config._attn_implementation = attention
    return BertForSequenceClassification(config)


def resnet(attention: str, width: int, seed: int) -> ResNetForImageClassification:
    """A ResNet-18 with random weights, whose first stage has `width` channels; nothing attends."""
    torch.manual_seed(seed)
    config = ResNetConfig(
        embedding_size=width,
        hidden_sizes=[width, 2 * width, 4 * width, 8 * width],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        num_labels=LABELS,
    )
    return ResNetForImageClassification(config)


def prepare_device(args: argparse.Namespace) -> None:
    """Set the thread count; refuse a GPU that is not there."""
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch sees no GPU.")
    torch.set_num_threads(args.threads or (1 if args.quick else available_cores()))


def accelerator_on(device: str, precision: str) -> Accelerator:
    """The product's Accelerator, with the state of any earlier one forgotten."""
    return make_accelerator(RunConfig(tasks=("bench",), device=device), precision)


def attention_for(device: str) -> str:
    """The product's attention in bf16: eager on a CPU, sdpa on a GPU."""
    return "eager" if device == "cpu" else "sdpa"


def training_args(batch_size: int, seed: int) -> loop.TrainingArgs:
    """One epoch with the settings of transformers' Trainer."""
    return loop.TrainingArgs(
        epochs=1,
        batch_size=batch_size,
        learning_rate=5e-5,
        lr_warmup=0.0,
        weight_decay=0.0,
        adam_beta2=0.999,
        max_grad_norm=1.0,
        gradient_accumulation_steps=1,
        seed=seed,
    )


def metadata_of(label: torch.Tensor, device: torch.device) -> TrainingMetadata:
    """Labels, and no groups."""
    return TrainingMetadata(label.to(device), torch.full_like(label, -1).to(device), LABELS, ())


def fit(
    accelerator: Accelerator,
    model: Any,
    encoded: EncodedText,
    label: torch.Tensor,
    batch_size: int,
    seed: int,
    loss: DistillationLoss | None = None,
) -> float:
    """Seconds of one update of the product's own loop, over one epoch."""
    metadata = metadata_of(label, accelerator.device)
    model.to(accelerator.device)
    with tempfile.TemporaryDirectory() as folder:
        record = loop.fit(
            accelerator,
            model,
            TrainingRows(encoded, metadata),
            loss or DistillationLoss(ERM(metadata)),
            training_args(batch_size, seed),
            loop.LoopOptions("bench", Path(folder)),
        )
    return float(record["training_seconds"]) / int(record["updates"])
