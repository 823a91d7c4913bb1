"""Digits 0 and 1 above automobiles and trucks (Shah et al. 2020; Kirichenko et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import DataRequest, Ints, Purpose, Split, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin.training.inputs.pixels import as_rgb, read_images
from harness_plugin_tasks._shared.images.cifar import SIDE, Objects
from harness_plugin_tasks._shared.images.mnist import Digits
from harness_plugin_tasks._shared.images.splits import Cells, Pixels, cell_split
from harness_plugin_tasks._shared.options import share
from harness_plugin_tasks._shared.planted import own_cues

CELLS = Cells(("automobile", "truck"), ("0", "1"), "digit")
FEWEST = 8
"""Two rows a cell where the digit says nothing."""


def build(
    request: DataRequest,
    digits: dict[str, Digits],
    vehicles: dict[str, Objects],
    sizes: tuple[int | None, int, int | None],
    notes: Sequence[str] = (),
) -> TaskData:
    """Splits `train`, `validation`, `id`, `randomised` and `reversed`, labels equally often.

    `digits` shows 0 and 1 only, `vehicles` has labels 0 (automobile) and 1 (truck); without their
    part `train` there are the test sets alone. `sizes` are
    rows of train, validation and each test set; None = all that the rarest half allows. The digit
    agrees with the label in the share `fraction` of train, validation and `id`, in half of
    `randomised`, and in 1 - `fraction` of `reversed`. All test sets show the same vehicles.

    Raises HarnessError when there are fewer digits or vehicles than asked for.
    """
    task, fraction = request.task.task, share(request, "fraction")
    n_train, n_validation, n_test = sizes
    rows, tops = {}, {}
    for number, name in enumerate(("train", "test")):
        if name in vehicles:
            # a stream for each, so that the test sets are the same without training halves
            rng = np.random.default_rng([request.seed, 100 + number])
            rows[name] = shuffled(rng, vehicles[name].label)
            tops[name] = shuffled(rng, digits[name].label)
    held = n_validation // 2
    most = {name: min(len(part) for part in [*rows[name], *tops[name]]) for name in rows}
    half = most.get("train", held) - held if n_train is None else n_train // 2
    tested = most["test"] if n_test is None else n_test // 2
    least = {"train": held + max(half, 1), "test": tested}
    for name in rows:
        if least[name] > most[name]:
            raise HarnessError(
                f"{task}: {2 * least[name]:,} {name} rows asked for (validation among them), and "
                f"{2 * most[name]:,} can be made of {' and '.join(counts(rows[name], tops[name]))}."
            )
    plan: dict[str, tuple[Purpose, str, slice, float]] = {
        "train": ("train", "train", slice(held, held + half), fraction),
        "validation": ("validation", "train", slice(held), fraction),
        "id": ("in_domain", "test", slice(tested), fraction),
        "randomised": ("ood", "test", slice(tested), 0.5),
        "reversed": ("ood", "test", slice(tested), 1 - fraction),
    }
    splits = {}
    for stream, (name, (purpose, source, part, agreement)) in enumerate(plan.items()):
        if source not in rows:
            continue
        rng = np.random.default_rng([request.seed, stream])
        chosen = rng.permutation(np.concatenate([own[part] for own in rows[source]]))
        label = vehicles[source].label[chosen]
        value = own_cues(rng, label, 1 - agreement, 2)
        above = np.empty_like(label)
        for digit in (0, 1):
            above[value == digit] = tops[source][digit][part]
        pixels = stacked(digits[source].pixels[above], vehicles[source].pixels[chosen])
        ids = [f"{source}-{row:06d}" for row in chosen]
        splits[name] = cell_split(name, purpose, CELLS, pixels, label=label, value=value, ids=ids)
    return TaskData(task, request.source, splits, tuple(notes))


def shuffled(rng: np.random.Generator, label: Ints) -> tuple[Ints, Ints]:
    """Rows of label 0 and of label 1, each in random order."""
    return rng.permutation(np.flatnonzero(label == 0)), rng.permutation(np.flatnonzero(label == 1))


def counts(rows: tuple[Ints, Ints], tops: tuple[Ints, Ints]) -> list[str]:
    """Counts of the rows, in words."""
    numbers = zip((*rows, *tops), ("automobiles", "trucks", "zeros", "ones"), strict=True)
    return [f"{len(part):,} {what}" for part, what in numbers]


def stacked(digits: Pixels, vehicles: Pixels) -> Pixels:
    """(N, 64, 32, 3): digits (N, 28, 28), zero-padded and grey, above vehicles (N, 32, 32, 3)."""
    edge = (SIDE - digits.shape[1]) // 2
    out = np.zeros((len(digits), 2 * SIDE, SIDE, 3), np.uint8)
    out[:, edge : SIDE - edge, edge : SIDE - edge] = digits[..., None]
    out[:, SIDE:] = vehicles
    return out


def other_digits(split: Split, rng: np.random.Generator) -> tuple[dict[str, Any], list[str]]:
    """Every vehicle of `split` below a digit of the other kind, from a row drawn at random."""
    own = split.column("attribute")
    images = np.stack(read_images(split.rows, "image", 0, len(split), as_rgb))
    donor = np.empty(len(own), np.int64)
    for value in np.unique(own):
        rows, others = np.flatnonzero(own == value), np.flatnonzero(own != value)
        if not len(others):
            raise HarnessError(f"dominoes: split {split.name!r} shows digit {value} only.")
        donor[rows] = rng.choice(others, len(rows))
    changed = images.copy()
    changed[:, :SIDE] = images[donor][:, :SIDE]
    return {"image": list(changed)}, own[donor].tolist()


def digit_region(request: DataRequest, split: Split) -> NDArray[np.bool_]:
    """(64, 32) the upper half of every image."""
    return np.repeat(np.arange(2 * SIDE)[:, None] < SIDE, SIDE, axis=1)
