"""An update of four models with every number of threads, precision and attention, and our choice.

The choice is what a run's own measurement gives (`calibration.measure_cpu`), which takes two layers
of the model's shape. It is to take at most 1.1 x the quickest of all combinations of the whole
model, and less than the slowest. Each model is as large as it is used: MiniLM (6 layers, width 384)
and BERT-tiny on rows of 16-128 tokens, ResNet-pico on drawn images of 32 pixels, ViT-tiny on images
of 224.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from common import Goal, Table, environment, interleave, parse, parser, report, timed
from torch.nn.functional import cross_entropy
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
)
from workload import LABELS, LONG, text

from harness_plugin.models.checkpoints import Backbone
from harness_plugin.pipeline.prepare import calibration
from harness_plugin.pipeline.prepare.calibration import Setting
from harness_plugin.pipeline.prepare.hardware import available_cores
from harness_plugin_hooks.backbones import bert, resnet, vit

TOKENS = 64
"""Tokens of a row, as a run counts them for pairs of `LONG` lengths: a power of two."""


@dataclass(frozen=True)
class Shape:
    """A model, the side of its images in pixels (0: text), the rows of an update."""

    preset: Backbone
    side: int
    rows: int

    @property
    def modality(self) -> str:
        """The modality: "text" or "image"."""
        return "image" if self.side else "text"

    def config(self) -> Any:
        """The configuration of the whole model."""
        more = {"image_size": self.side} if self.preset.model_type == "vit" else {}
        values = {**self.preset.config, "num_labels": LABELS, **more}
        return AutoConfig.for_model(self.preset.model_type, **values)

    def choice(self, cores: int) -> Setting:
        """The setting that a run of this model chooses."""
        length = self.side or TOKENS
        shape = calibration.Shape.of(self.modality, self.config(), self.rows, length)
        return calibration.quickest(calibration.measure_cpu(shape, cores)["milliseconds"], {})

    def model(self, attention: str) -> Any:
        """A classifier with random weights, in the memory format of a run."""
        torch.manual_seed(0)
        config = self.config()
        if not self.side:
            return AutoModelForSequenceClassification.from_config(
                config, attn_implementation=attention
            )
        how = {} if self.preset.model_type == "resnet" else {"attn_implementation": attention}
        model = AutoModelForImageClassification.from_config(config, **how)
        return model.to(memory_format=torch.channels_last)

    def inputs(self, seed: int) -> dict[str, torch.Tensor]:
        """One batch of random rows; text is padded to its longest."""
        if not self.side:
            encoded, _ = text(self.rows, LONG, seed)
            return encoded.batch(np.arange(self.rows))
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.randn(self.rows, 3, self.side, self.side, generator=generator)
        return {"pixel_values": pixels.to(memory_format=torch.channels_last)}

    def attentions(self) -> tuple[str, ...]:
        """The implementations that it has; a ResNet has none."""
        return ("sdpa",) if self.preset.model_type == "resnet" else ("eager", "sdpa")


SHAPES = {
    "MiniLM": Shape(bert.MINILM_L6, 0, 32),
    "BERT-tiny": Shape(bert.TINY, 0, 32),
    "ResNet-pico": Shape(resnet.RESNET_PICO, 32, 64),
    "ViT-tiny": Shape(vit.TINY, 224, 8),
}
QUICK = {
    "BERT-pico": Shape(bert.PICO, 0, 4),
    "ResNet-pico": Shape(resnet.RESNET_PICO, 32, 4),
    "ViT-pico": Shape(vit.PICO, 32, 4),
}
WITHIN = 1.1


def main() -> None:
    options = parser(__doc__.splitlines()[0], rounds=5, device=False)
    options.add_argument("--only", nargs="+", default=[], metavar="NAME", help="of the models")
    args = parse(options)
    facts, tables, chosen, took = environment(), [], {}, {}
    shapes = QUICK if args.quick else SHAPES
    if unknown := set(args.only) - set(shapes):
        options.error(f"--only {' '.join(sorted(unknown))}: the models are {', '.join(shapes)}")
    cores = 1 if args.quick else available_cores()

    def run() -> None:
        for name, shape in shapes.items():
            if args.only and name not in args.only:
                continue
            start = time.perf_counter()
            chosen[name] = shape.choice(cores)
            took[name] = time.perf_counter() - start
            tables.append(table(name, shape, chosen[name], cores, args))

    report(args, facts, tables, timed(run))
    print(summary({table.title: table.seconds for table in tables}, chosen, took))


def table(name: str, shape: Shape, choice: Setting, cores: int, args: Any) -> Table:
    """All combinations of one model; the base is the choice."""
    inputs, label = shape.inputs(args.seed), torch.arange(shape.rows) % LABELS
    kinds = ("no", "bf16"), shape.attentions()
    settings = dict.fromkeys([choice, *product(sorted({1, cores}), *kinds)])
    variants = {words(each): variant(shape, each, inputs, label) for each in settings}
    goals = {words(choice): [Goal(each, WITHIN) for each in variants if each != words(choice)]}
    seconds = interleave(variants, args.rounds)
    return Table(name, "update", words(choice), seconds, {} if args.quick else goals)


def words(setting: Setting) -> str:
    """`2 threads, bf16, eager`."""
    threads, precision, attention = setting
    return f"{threads} thread{'s' if threads > 1 else ''}, {precision}, {attention}"


def variant(
    shape: Shape, setting: Setting, inputs: Mapping[str, torch.Tensor], label: torch.Tensor
) -> Callable[[], float]:
    """Seconds of one update: forward, loss in fp32, backward, AdamW."""
    threads, precision, attention = setting
    model = shape.model(attention).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def update() -> float:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(**inputs).logits
        cross_entropy(logits.float(), label).backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - start

    return update


def summary(
    seconds: Mapping[str, Mapping[str, list[float]]],
    chosen: Mapping[str, Setting],
    took: Mapping[str, float],
) -> str:
    """A row a model: the choice, its ratio to the best and the worst of all, seconds it took."""
    lines = [
        f"| model | our choice | quickest | slowest | choice / quickest (≤ {WITHIN}) | / slowest "
        "| measured in |",
        "|---|---|---|---|--:|--:|--:|",
    ]
    for name, times in seconds.items():
        middle = {each: statistics.median(values) for each, values in times.items()}
        best, worst = min(middle, key=middle.__getitem__), max(middle, key=middle.__getitem__)
        mine = middle[words(chosen[name])]
        lines.append(
            f"| {name} | {words(chosen[name])} | {best} | {worst} "
            f"| {mine / middle[best]:.2f} | {mine / middle[worst]:.2f} | {took[name]:.1f} s |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
