"""Digits → coloured digits, by either design of the literature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import DataRequest, Ints, Purpose, Split, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin.training.inputs.pixels import as_rgb, read_images
from harness_plugin_tasks._shared.images.mnist import DIGITS, Digits
from harness_plugin_tasks._shared.images.splits import Cells, Pixels, cell_split
from harness_plugin_tasks._shared.options import share
from harness_plugin_tasks._shared.planted import own_cues

PALETTE = {
    "red": (230, 40, 40),
    "green": (40, 200, 60),
    "blue": (60, 80, 255),
    "yellow": (240, 220, 40),
    "magenta": (220, 60, 220),
    "cyan": (50, 210, 220),
    "orange": (250, 140, 30),
    "white": (240, 240, 240),
    "brown": (140, 80, 30),
    "grey": (120, 120, 120),
}
"""Colour i belongs to digit i."""
TENCLASS = Cells(DIGITS, tuple(PALETTE), "colour", by="alignment")
IRM = Cells(("low", "high"), ("red", "green"), "colour")
DARK = 40
"""Brightest value of a pixel that no stroke covers by more than a part of its edge."""
ENVIRONMENTS = {"e1": 0.1, "e2": 0.2}
"""How often the colour disagrees with the label, by training environment of the irm design."""
REVERSED = 0.9
"""How often it disagrees in its test environment."""


Parts: TypeAlias = Mapping[str, Digits]
"""The digits `train`, `validation` and `test` before they are coloured; or `test` alone."""


def parted(
    digits: Mapping[str, Digits], sizes: tuple[int | None, int, int | None], seed: int
) -> Parts:
    """Training, validation and test digits; `sizes` of each, None = all there are.

    Validation digits are drawn from the training digits, which keep their order. Without training
    digits there are test digits alone. Raises HarnessError when there are fewer than asked for.
    """
    n_train, n_validation, n_test = sizes
    parts: dict[str, Digits] = {}

    def chosen(digits: Digits, rows: Ints) -> Digits:
        rows = np.sort(rows)
        return Digits(digits.pixels[rows], digits.label[rows])

    if train := digits.get("train"):
        order = np.random.default_rng([seed, 100]).permutation(len(train.label))
        if len(order) < n_validation + (n_train or 1):
            raise HarnessError(
                f"cmnist: {len(order):,} training digits, fewer than n_train and n_validation "
                f"({n_validation + (n_train or 1):,}) together."
            )
        parts["train"] = chosen(train, order[n_validation:][:n_train])
        parts["validation"] = chosen(train, order[:n_validation])
    tested = np.random.default_rng([seed, 101]).permutation(len(digits["test"].label))
    if n_test is not None and n_test > len(tested):
        raise HarnessError(f"cmnist: {len(tested):,} test digits, fewer than n_test {n_test:,}.")
    parts["test"] = chosen(digits["test"], tested[:n_test])
    return parts


def coloured(request: DataRequest, parts: Parts, notes: list[str]) -> TaskData:
    """The splits of the design that the option `design` asks for, of the digits that there are.

    The test digits are coloured twice: as the training digits are (`id`), and without or against
    the bias (`unbiased`; irm: `reversed`). Each set draws its colours from a random stream of its
    own, so that the size of one leaves the colours of the others as they are.
    """
    build = tenclass if request.options["design"] == "tenclass" else irm
    splits = build(request, parts)
    return TaskData("cmnist", request.source, {s.name: s for s in splits}, tuple(notes))


def sets(
    request: DataRequest, parts: Parts, ood: str
) -> Iterator[tuple[str, Purpose, Digits, np.random.Generator]]:
    """Name, purpose, digits and random stream of each set."""
    plan: tuple[tuple[str, Purpose, str], ...] = (
        ("train", "train", "train"),
        ("validation", "validation", "validation"),
        ("id", "in_domain", "test"),
        (ood, "ood", "test"),
    )
    for stream, (name, purpose, part) in enumerate(plan):
        if part in parts:
            yield name, purpose, parts[part], np.random.default_rng([request.seed, stream])


def tenclass(request: DataRequest, parts: Parts) -> list[Split]:
    """Nam et al. 2020 (LfF): colour c for digit c but for the share `conflict`.

    The share is exact for every digit, up to rounding, where the authors draw each row; its rows
    are spread evenly over the nine other colours. On `validation` and `unbiased` all ten are
    equally frequent.
    """
    conflict = share(request, "conflict")
    palette = np.array(list(PALETTE.values()), np.uint8)
    splits = []
    for name, purpose, digits, rng in sets(request, parts, "unbiased"):
        other = 1 - 1 / len(PALETTE) if purpose in ("validation", "ood") else conflict
        colour = own_cues(rng, digits.label, other, len(PALETTE))
        pixels = painted(digits.pixels, palette[colour])
        splits.append(cell_split(name, purpose, TENCLASS, pixels, label=digits.label, value=colour))
    return splits


def painted(grey: Pixels, colour: Pixels) -> Pixels:
    """(N, H, W, 3): grey values (N, H, W) times a colour (N, 3) each; white takes its colour."""
    out = np.empty((*grey.shape, 3), np.uint8)
    for row, (image, shade) in enumerate(zip(grey, colour, strict=True)):
        out[row] = image[..., None].astype(np.uint16) * shade // 255
    return out


def irm(request: DataRequest, parts: Parts) -> list[Split]:
    """Arjovsky et al. 2019: is the digit 5 or more; red and green, which mostly agree with it.

    label = (digit >= 5) flipped with `label_noise`. colour = label flipped with .1 (environment
    e1, the even rows) or .2 (e2), and with .9 on `reversed`. Both flips are drawn row by row.
    Images hold the digit in the channel of its colour.
    """
    noise = share(request, "label_noise")
    rates = np.array(list(ENVIRONMENTS.values()))
    splits = []
    for name, purpose, digits, rng in sets(request, parts, "reversed"):
        n = len(digits.label)
        environment = np.arange(n) % len(rates)
        rate = np.full(n, REVERSED) if purpose == "ood" else rates[environment]
        label = ((digits.label >= 5) ^ (rng.random(n) < noise)).astype(np.int64)
        colour = label ^ (rng.random(n) < rate)
        pixels = np.zeros((*digits.pixels.shape, 3), np.uint8)
        pixels[np.arange(n), :, :, colour] = digits.pixels
        names = [*ENVIRONMENTS] if purpose != "ood" else ["test"] * len(rates)
        environments = {"environment": [names[e] for e in environment]}
        splits.append(
            cell_split(
                name, purpose, IRM, pixels, label=label, value=colour, breakdowns=environments
            )
        )
    return splits


def recoloured(split: Split, rng: np.random.Generator) -> tuple[dict[str, Any], list[str]]:
    """Every image of `split` in another colour, drawn evenly, and these colours' names.

    The digit's grey values are read back from the brightest channel of its colour, up to rounding.
    Raises HarnessError for colours that were not given here.
    """
    irm = split.labels == IRM.labels
    palette = [(255, 0, 0), (0, 255, 0)] if irm else list(PALETTE.values())
    names = list(IRM.values if irm else PALETTE)
    own = split.column("attribute").tolist()
    if strange := sorted(set(own) - set(names)):
        raise HarnessError(
            f"cmnist: split {split.name!r} has colour {strange[0]!r}; other colours of the same "
            "digits are known for images that are coloured here, not for released ones."
        )
    shades, old = np.array(palette, np.uint8), np.array([names.index(name) for name in own])
    new = (old + rng.integers(1, len(names), len(old))) % len(names)
    images = np.stack(read_images(split.rows, "image", 0, len(split), as_rgb))
    brightest = shades.argmax(axis=1)[old]
    seen = images[np.arange(len(old)), :, :, brightest].astype(np.float64)
    grey = np.round(seen * 255 / shades.max(axis=1)[old][:, None, None]).clip(0, 255)
    pixels = painted(grey.astype(np.uint8), shades[new])
    return {"image": list(pixels)}, [names[colour] for colour in new]


def coloured_region(request: DataRequest, split: Split) -> NDArray[np.bool_]:
    """(N, H, W) the strokes of every digit: what is not black."""
    images = np.stack(read_images(split.rows, "image", 0, len(split), as_rgb))
    region: NDArray[np.bool_] = images.max(axis=3) > DARK
    return region
