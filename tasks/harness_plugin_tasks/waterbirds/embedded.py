"""Drawn birds over drawn backgrounds, in the proportions of Waterbirds."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import DataRequest, Ints, Purpose, Split, TaskData
from harness_plugin_tasks._shared.images.drawings import Jitter, Part, box, drawn, ellipse, noisy
from harness_plugin_tasks._shared.images.splits import Pixels, cell_split
from harness_plugin_tasks._shared.options import whole_number
from harness_plugin_tasks._shared.planted import proportional
from harness_plugin_tasks.waterbirds.cells import CELLS, RELEASED

BIRDS: tuple[tuple[Part, ...], ...] = (
    # land bird: round body, upright tail, short beak, legs
    (
        ellipse(0.48, 0.55, 0.17, 0.13),
        ellipse(0.64, 0.42, 0.09, 0.09),
        Part([(0.72, 0.40), (0.80, 0.43), (0.72, 0.46)], dark=True),
        Part([(0.36, 0.55), (0.16, 0.34), (0.24, 0.62)]),
        box(0.45, 0.66, 0.48, 0.80, dark=True),
        box(0.53, 0.66, 0.56, 0.80, dark=True),
    ),
    # water bird: flat body, long neck, long beak, no legs
    (
        ellipse(0.44, 0.62, 0.25, 0.10),
        Part([(0.58, 0.62), (0.60, 0.32), (0.67, 0.32), (0.68, 0.62)]),
        ellipse(0.65, 0.31, 0.07, 0.06),
        Part([(0.70, 0.28), (0.88, 0.33), (0.70, 0.35)], dark=True),
    ),
)
"""In the order of the labels."""
SCENES = (((70, 120, 50), (95, 75, 45)), ((60, 110, 180), (110, 160, 205)))
"""Two colours a background, in the order of the places: green and brown, two blues."""
JITTER = Jitter(scale=0.3, turn=0.25, shift=0.12, shear=0.15, flip=True)
GRAIN = 0.06
"""Standard deviation of the noise on every pixel, of full scale."""
SPLITS: dict[str, Purpose] = {
    "train": "train",
    "validation": "validation",
    "id": "in_domain",
    "balanced": "ood",
}


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id` (the released training set's proportions) and `balanced`.

    `balanced` has equal cells. Every split is drawn from a random stream of its own.

    Raises HarnessError for sizes below a row a cell.
    """
    size = whole_number(request, "image_size", 16)
    splits = {}
    for stream, (name, purpose) in enumerate(SPLITS.items()):
        rng = np.random.default_rng([request.seed, stream])
        splits[name] = birds_split(name, purpose, proportions(request, name), rng, size)
    note = "embedded: birds drawn by this package, not photographs"
    return TaskData("waterbirds", request.source, splits, (note,))


def proportions(request: DataRequest, name: str) -> Ints:
    """(4,) images of split `name` by cell."""
    n = whole_number(request, f"n_{name}", 4)
    return proportional(n, (1, 1, 1, 1) if name == "balanced" else RELEASED["train"])


def birds_split(
    name: str, purpose: Purpose, counts: Ints, rng: np.random.Generator, size: int
) -> Split:
    """One split with `counts` (4,) images by cell, in random order."""
    cell = rng.permutation(np.repeat(np.arange(4), counts))
    label, place = cell // 2, cell % 2
    pixels = np.stack([pixels for pixels, _ in pictures(label, place, rng, size)])
    return cell_split(name, purpose, CELLS, pixels, label=label, value=place)


def pictures(
    label: Ints, place: Ints, rng: np.random.Generator, size: int
) -> Iterator[tuple[Pixels, np.random.Generator]]:
    """(size, size, 3) of every row, and a generator that places its bird alike once more."""
    for bird, scene in zip(label, place, strict=True):
        red, green, blue = (rng.integers(60, 220) + rng.integers(-30, 30, 3)).tolist()
        background = scenery(int(scene), rng, size)
        again = deepcopy(rng)
        colour = (red, green, blue)
        pixels = drawn(BIRDS[bird], background, rng, colour=colour, jitter=JITTER)
        yield noisy(pixels, rng, GRAIN), again


def background_region(request: DataRequest, split: Split) -> NDArray[np.bool_]:
    """(N, H, W) what the bird of every row leaves free; the birds of the split are drawn again."""
    size = whole_number(request, "image_size", 16)
    number = {str(name): row for row, name in enumerate(split.ids)}
    drawn_as = str(split.ids[0]).rpartition("-")[0]  # rows may have been held out under a new name
    counts = proportions(request, drawn_as)
    rng = np.random.default_rng([request.seed, list(SPLITS).index(drawn_as)])
    cell = rng.permutation(np.repeat(np.arange(4), counts))
    black = np.zeros((size, size, 3), np.uint8)
    out = np.empty((len(split), size, size), np.bool_)
    for row, (_, again) in enumerate(pictures(cell // 2, cell % 2, rng, size)):
        place = number.get(f"{drawn_as}-{row:06d}")
        if place is not None:
            bird = BIRDS[cell[row] // 2]
            shape = drawn(bird, black, again, colour=(255, 255, 255), jitter=JITTER)
            out[place] = shape.max(axis=2) == 0
    return out


def scenery(place: int, rng: np.random.Generator, size: int) -> Pixels:
    """(size, size, 3): upright stripes on land, level waves on water."""
    base, other = np.array(SCENES[place])
    phase, width = rng.uniform(0, 2 * np.pi), rng.uniform(2, 5)
    wave = 0.5 + 0.5 * np.sin(phase + 2 * np.pi * np.arange(size) / width)
    across = np.broadcast_to(wave if place == 0 else wave[:, None], (size, size))
    mixed = base + across[..., None] * (other - base)
    lit: NDArray[np.float64] = mixed * rng.uniform(0.7, 1.2)
    return lit.clip(0, 255).astype(np.uint8)
