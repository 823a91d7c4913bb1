"""Floating-point operations of a model's forward pass by formula, and what cards can do at most.

Matrix products and convolutions are counted, a multiplication and an addition as two operations;
normalisation, activations, embeddings and the optimiser are not. A training update is three forward
passes (Kaplan et al. 2020, arXiv:2001.08361, section 2.1); what gradient checkpointing computes
twice is not counted twice, so that the share of the peak is "model FLOPs utilisation" (Chowdhery et
al. 2022, arXiv:2204.02311, appendix B).
"""

from __future__ import annotations

from typing import Any

TRAINING = 3
"""Forward passes that an update costs: the backward pass is two."""

PEAKS = {
    "H100 PCIe": {"bf16": 756.0, "tf32": 378.0, "fp32": 51.0},
    "H100 NVL": {"bf16": 835.0, "tf32": 417.5, "fp32": 60.0},
    "H100": {"bf16": 989.4, "tf32": 494.7, "fp32": 66.9},
    "H200": {"bf16": 989.4, "tf32": 494.7, "fp32": 66.9},
    "A100": {"bf16": 312.0, "tf32": 156.0, "fp32": 19.5},
    "L40S": {"bf16": 362.0, "tf32": 183.0, "fp32": 91.6},
    "L4": {"bf16": 121.0, "tf32": 60.0, "fp32": 30.3},
}
"""Dense peak in TFLOP/s by what a card's name holds (NVIDIA's data sheets); fp16 is as bf16."""


def peak(card: str, precision: str) -> float | None:
    """Operations a second at most, or None for a card that is not listed."""
    for name, rates in PEAKS.items():
        if name in card:
            return 1e12 * rates["bf16" if precision == "fp16" else precision]
    return None


def encoder(layers: int, width: int, inner: int, feed_forward: int, tokens: int) -> float:
    """One row of `tokens` through a transformer's layers; `inner` is heads x size of a head."""
    weights = 4 * width * inner + 2 * width * feed_forward
    return layers * tokens * (2 * weights + 4 * tokens * inner)


def forward(config: Any, size: int) -> float:
    """One row through a classifier: `size` is its tokens, or the pixels of its image's side.

    Raises KeyError for a model type without a formula.
    """
    return FORMULAS[config.model_type](config, size)


def bert(config: Any, tokens: int) -> float:
    """Layers, pooler, head (Devlin et al. 2019)."""
    width = config.hidden_size
    layers = encoder(config.num_hidden_layers, width, width, config.intermediate_size, tokens)
    return layers + 2 * width * (width + config.num_labels)


def t5_encoder(config: Any, tokens: int) -> float:
    """Layers and head of an ungated T5 encoder (Raffel et al. 2020)."""
    inner = config.num_heads * config.d_kv
    layers = encoder(config.num_layers, config.d_model, inner, config.d_ff, tokens)
    return layers + 2 * config.d_model * config.num_labels


def vit(config: Any, side: int) -> float:
    """Patches, layers over patches and the class token, head (Dosovitskiy et al. 2021)."""
    width, patch = config.hidden_size, config.patch_size
    patches = (side // patch) ** 2
    layers = encoder(config.num_hidden_layers, width, width, config.intermediate_size, patches + 1)
    return layers + 2 * width * (patches * 3 * patch**2 + config.num_labels)


def resnet(config: Any, side: int) -> float:
    """A ResNet; bottleneck blocks stride in their 3 x 3 convolution (He et al. 2016)."""
    basic = config.layer_type == "basic"
    side = -(-side // 2)
    total = 2 * 7 * 7 * 3 * config.embedding_size * side**2
    side = -(-side // 2)  # the pool behind the first convolution
    inputs = config.embedding_size
    for stage, (width, depth) in enumerate(zip(config.hidden_sizes, config.depths, strict=True)):
        for block in range(depth):
            stride = 2 if block == 0 and stage > 0 else 1
            before, side = side, -(-side // stride)
            if basic:
                total += 2 * 9 * (inputs * width + width**2) * side**2
            else:
                narrow = width // 4
                total += 2 * inputs * narrow * before**2
                total += 2 * (9 * narrow**2 + narrow * width) * side**2
            if stride > 1 or inputs != width:
                total += 2 * inputs * width * side**2
            inputs = width
    return total + 2 * inputs * config.num_labels


FORMULAS = {"bert": bert, "t5_encoder_classifier": t5_encoder, "vit": vit, "resnet": resnet}
