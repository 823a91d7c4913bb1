"""Attributes that need no annotation: of texts their words and length, of images their brightness.

Each is whether a row has it, (N,) bool; numbers are cut at their median. Clusters of rows that look
alike are attributes too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.split import Split
from harness_plugin.errors import HarnessError
from harness_plugin_hooks.scan import clusters

Bools = NDArray[np.bool_]
WORD = re.compile(r"[\w']+")
NEGATIONS = frozenset(
    [
        "no",
        "not",
        "never",
        "none",
        "nobody",
        "nothing",
        "nowhere",
        "neither",
        "nor",
        "cannot",
        "without",
        "hardly",
    ]
)
MOST_NGRAMS = 300
"""Words and pairs of words that are looked at: the most frequent ones."""
RAREST = 0.01
"""Share of rows that must have an attribute, and lack it."""
CORNER = 0.25
"""Side of a corner, as a share of the image's."""
GRID = 8
"""Images are looked at in so many rows and columns of fields."""


def above(values: Sequence[float] | NDArray[Any]) -> Bools:
    """Whether a number is above the median."""
    numbers = np.asarray(values, np.float64)
    return np.greater(numbers, np.median(numbers))


def of_texts(columns: dict[str, Sequence[str]]) -> Iterator[tuple[str, Bools]]:
    """Attributes of one or several text columns of N rows."""
    words = {name: [WORD.findall(t.lower()) for t in texts] for name, texts in columns.items()}
    for name, rows in words.items():
        yield f"{name}: more words than the median", above([len(row) for row in rows])
        negated = [any(w in NEGATIONS or w.endswith("n't") for w in row) for row in rows]
        yield f"{name}: a negation", np.array(negated)
    if len(words) == 2:
        first, second = words.values()
        shares = [
            len(set(b) & set(a)) / max(1, len(set(b))) for a, b in zip(first, second, strict=True)
        ]
        yield "overlap: more shared words than the median", above(shares)
        yield "overlap: every word is shared", np.array([share == 1 for share in shares])
    for name, rows in words.items():
        seen = [{*row, *(f"{a} {b}" for a, b in pairwise(row))} for row in rows]
        counts = Counter(ngram for row in seen for ngram in row)
        for ngram, _ in counts.most_common(MOST_NGRAMS):
            yield f"{name}: “{ngram}”", np.array([ngram in row for row in seen])


def measures(image: Any) -> list[float]:
    """Of one RGB image: width, height, mean colours, those of the corners and of every field."""
    pixels = np.asarray(image, np.float64)
    height, width = pixels.shape[:2]
    h, w = max(1, int(CORNER * height)), max(1, int(CORNER * width))
    corners = (pixels[:h, :w], pixels[:h, -w:], pixels[-h:, :w], pixels[-h:, -w:])
    means = [pixels.mean(axis=(0, 1)), *(corner.mean(axis=(0, 1)) for corner in corners)]
    fields = [
        pixels[above:below, left:right].mean(axis=(0, 1))
        for above, below in pairwise(edges(height))
        for left, right in pairwise(edges(width))
    ]
    return [width, height, *np.concatenate([*means, *fields]).tolist()]


def edges(size: int) -> list[int]:
    """Where the fields of a side of `size` pixels begin and end; of a short side fields overlap."""
    if size < GRID:
        raise HarnessError(
            f"an image of {size} pixels a side is too small to scan: {GRID} at least."
        )
    return [size * number // GRID for number in range(GRID + 1)]


PLACES = ("image", "top left", "top right", "bottom left", "bottom right")
COLOURS = ("red", "green", "blue")


def of_images(rows: NDArray[np.float64]) -> Iterator[tuple[str, Bools]]:
    """Attributes of images from their `measures` (N, 17 + 3 GRID^2)."""
    yield "image: wider than the median", above(rows[:, 0])
    yield "image: higher than the median", above(rows[:, 1])
    fields = [
        f"field {row} down, {column} across"
        for row in range(1, GRID + 1)
        for column in range(1, GRID + 1)
    ]
    for number, place in enumerate([*PLACES, *fields]):
        colours = rows[:, 2 + 3 * number : 5 + 3 * number]
        brightness = colours.mean(axis=1)
        yield f"{place}: brighter than the median", above(brightness)
        for channel, colour in enumerate(COLOURS):
            share = colours[:, channel] - brightness
            yield f"{place}: more {colour} than the median", above(share)


def candidates(
    split: Split, inputs: Sequence[str], modality: str, seed: int
) -> Iterator[tuple[str, Bools]]:
    """Every attribute of a split that enough rows have and lack, once; `seed` draws clusters."""
    attributes: Iterator[tuple[str, Bools]]
    if modality == "text":
        columns: dict[str, Sequence[str]] = {
            name: [str(text) for text in split.rows[name]] for name in inputs
        }
        attributes = chain(of_texts(columns), clusters.of_texts(columns, seed))
    else:
        from harness_plugin.data.images import to_rgb
        from harness_plugin.training.inputs.pixels import read_images

        (column,) = inputs

        def both(image: Any) -> tuple[list[float], NDArray[np.float32]]:
            picture = to_rgb(image)
            return measures(picture), clusters.thumbnail(picture)

        values = read_images(split.rows, column, 0, len(split), both)
        attributes = chain(
            of_images(np.array([measured for measured, _ in values])),
            clusters.of_images(np.array([small for _, small in values]), seed),
        )
    seen = set[bytes]()
    for name, has in attributes:
        if RAREST <= has.mean() <= 1 - RAREST and has.tobytes() not in seen:
            seen.add(has.tobytes())
            yield name, has
