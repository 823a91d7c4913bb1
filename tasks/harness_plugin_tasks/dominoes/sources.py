"""Where the halves come from: MNIST and CIFAR-10, or drawings."""

from __future__ import annotations

import numpy as np

from harness_plugin.data.dataset import DataRequest, Ints, TaskData
from harness_plugin_tasks._shared.images.cifar import CLASSES, SIDE, Objects, read_cifar
from harness_plugin_tasks._shared.images.drawings import (
    Jitter,
    Part,
    box,
    draw_digits,
    drawn,
    ellipse,
    noisy,
)
from harness_plugin_tasks._shared.images.mnist import Digits, read_mnist
from harness_plugin_tasks._shared.options import optional_rows
from harness_plugin_tasks._shared.planted import balanced_labels
from harness_plugin_tasks.dominoes.build import CELLS, FEWEST, build

DRAWN = {"n_train": 4_000, "n_validation": 400, "n_test": 1_000}
"""Rows drawn where an option is left at null."""
VALIDATION = 500
"""Training rows held out of the real halves, unless the options say otherwise."""
VEHICLES: tuple[tuple[Part, ...], ...] = (
    # automobile: a low body with a cabin in its middle
    (
        box(0.12, 0.48, 0.88, 0.68),
        Part([(0.28, 0.48), (0.38, 0.30), (0.64, 0.30), (0.74, 0.48)]),
        ellipse(0.28, 0.70, 0.08, 0.08, dark=True),
        ellipse(0.72, 0.70, 0.08, 0.08, dark=True),
    ),
    # truck: a high load and a lower cab before it
    (
        box(0.12, 0.26, 0.64, 0.68),
        box(0.67, 0.42, 0.88, 0.68),
        ellipse(0.26, 0.70, 0.08, 0.08, dark=True),
        ellipse(0.76, 0.70, 0.08, 0.08, dark=True),
    ),
)
"""In the order of the labels."""
JITTER = Jitter(scale=0.15, turn=0.1, shift=0.06, shear=0.1, flip=True)
GRAIN = 0.04
"""Standard deviation of the noise on every pixel of a vehicle, of full scale."""


def embedded(request: DataRequest) -> TaskData:
    """Drawn digits above drawn vehicles; as many as the options ask for, or `DRAWN`."""
    rows = {name: optional_rows(request, name, FEWEST) or n for name, n in DRAWN.items()}
    # odd numbers lose a row, so that both labels are equally frequent
    n_train, n_validation, n_test = (n - n % 2 for n in rows.values())
    digits, vehicles = {}, {}
    for stream, (name, n) in enumerate((("train", n_train + n_validation), ("test", n_test))):
        rng = np.random.default_rng([request.seed, 200 + stream])
        label = balanced_labels(rng, n, 2)
        digits[name] = Digits(draw_digits(label, rng), label)
        vehicles[name] = draw_vehicles(balanced_labels(rng, n, 2), rng)
    notes = ["embedded: digits and vehicles drawn by this package, not MNIST and CIFAR-10"]
    return build(request, digits, vehicles, (n_train, n_validation, n_test), notes)


def released(request: DataRequest) -> TaskData:
    """MNIST's 0 and 1 above CIFAR-10's automobiles and trucks, from the hub or one folder.

    Raises HarnessError naming the file for anything missing or malformed in either.
    """
    n_train, n_validation, n_test = (optional_rows(request, name, FEWEST) for name in DRAWN)
    digits, digit_notes = read_mnist(request)
    objects, object_notes = read_cifar(request)
    kinds = [CLASSES.index(name) for name in CELLS.labels]
    vehicles = {}
    for name, part in objects.items():
        chosen = part.select(np.flatnonzero(np.isin(part.label, kinds)))
        vehicles[name] = Objects(chosen.pixels, (chosen.label == kinds[1]).astype(np.int64))
    sizes = (n_train, n_validation or VALIDATION, n_test)
    return build(request, digits, vehicles, sizes, [*digit_notes, *object_notes])


def draw_vehicles(label: Ints, rng: np.random.Generator) -> Objects:
    """(N, 32, 32, 3) vehicles of any colour on a road below a sky of any colour."""
    pixels = np.empty((len(label), SIDE, SIDE, 3), np.uint8)
    for row, kind in enumerate(label):
        sky, road, paint = rng.integers(30, 230, (3, 3))
        ground = np.empty((SIDE, SIDE, 3), np.uint8)
        horizon = int(rng.integers(SIDE // 3, 2 * SIDE // 3))
        ground[:horizon], ground[horizon:] = sky, road
        red, green, blue = paint.tolist()
        vehicle = drawn(VEHICLES[kind], ground, rng, colour=(red, green, blue), jitter=JITTER)
        pixels[row] = noisy(vehicle, rng, GRAIN)
    return Objects(pixels, label)
