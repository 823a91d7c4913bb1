"""Ten drawn shapes, corrupted as CIFAR-10 is."""

from __future__ import annotations

import numpy as np

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin_tasks._shared.images.cifar import SIDE, Objects
from harness_plugin_tasks._shared.images.drawings import (
    Jitter,
    Part,
    arc,
    box,
    drawn,
    ellipse,
    stroke,
)
from harness_plugin_tasks._shared.images.splits import Pixels
from harness_plugin_tasks._shared.options import optional_rows
from harness_plugin_tasks._shared.planted import balanced_labels
from harness_plugin_tasks.corrupted_cifar10.build import FEWEST, build

SIZES = {"n_train": 6_000, "n_validation": 500, "n_test": 2_000}
"""Drawings where an option is left at null."""
SHAPES: dict[str, tuple[Part, ...]] = {
    "disc": (ellipse(0.5, 0.5, 0.26, 0.26),),
    "square": (box(0.26, 0.26, 0.74, 0.74),),
    "triangle": (Part([(0.5, 0.2), (0.8, 0.76), (0.2, 0.76)]),),
    "cross": (box(0.41, 0.2, 0.59, 0.8), box(0.2, 0.41, 0.8, 0.59)),
    "ring": (arc(0.5, 0.5, 0.24, 0.24, 0, 4),),
    "bars": (box(0.22, 0.26, 0.78, 0.4), box(0.22, 0.6, 0.78, 0.74)),
    "arch": (
        arc(0.5, 0.56, 0.26, 0.3, 2, 4),
        stroke((0.24, 0.56), (0.24, 0.8)),
        stroke((0.76, 0.56), (0.76, 0.8)),
    ),
    "zigzag": (stroke((0.2, 0.3), (0.4, 0.7), (0.6, 0.3), (0.8, 0.7)),),
    "dots": (
        ellipse(0.3, 0.32, 0.12, 0.12),
        ellipse(0.7, 0.32, 0.12, 0.12),
        ellipse(0.5, 0.7, 0.12, 0.12),
    ),
    "tee": (box(0.22, 0.22, 0.78, 0.38), box(0.42, 0.22, 0.58, 0.8)),
}
JITTER = Jitter(scale=0.25, turn=0.35, shift=0.1, shear=0.2)


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id` and `unbiased` of drawn shapes."""
    sizes = {name: optional_rows(request, name, FEWEST) or n for name, n in SIZES.items()}
    parts = {
        name: shapes(n, np.random.default_rng([request.seed, 200 + stream]))
        for stream, (name, n) in enumerate(
            (("train", sizes["n_train"] + sizes["n_validation"]), ("test", sizes["n_test"]))
        )
    }
    limits: dict[str, int | None] = {name.removeprefix("n_"): n for name, n in sizes.items()}
    notes = ["embedded: shapes drawn by this package, not CIFAR-10"]
    return build(request, tuple(SHAPES), parts, limits, notes)


def shapes(n: int, rng: np.random.Generator) -> Objects:
    """`n` drawings, every shape equally often up to one."""
    label = balanced_labels(rng, n, len(SHAPES))
    parts = list(SHAPES.values())
    pixels = np.empty((n, SIDE, SIDE, 3), np.uint8)
    for row, shape in enumerate(label):
        red, green, blue = rng.integers(20, 236, 3).tolist()
        ground = background(rng)
        pixels[row] = drawn(parts[shape], ground, rng, colour=(red, green, blue), jitter=JITTER)
    return Objects(pixels, label)


def background(rng: np.random.Generator) -> Pixels:
    """(32, 32, 3): one colour shading into another, with a fine check that blurs would remove."""
    first, second = rng.integers(30, 226, (2, 3))
    height = np.linspace(0, 1, SIDE)[:, None, None]
    shaded = np.broadcast_to(first + height * (second - first), (SIDE, SIDE, 3))
    check = np.indices((SIDE, SIDE)).sum(axis=0)[..., None] % 2
    pixels: Pixels = (shaded + 24 * (check - 0.5)).clip(0, 255).astype(np.uint8)
    return pixels
