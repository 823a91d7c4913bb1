"""Bias-only views of an image: colours, border, texture or upper half. No annotation is used."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness_plugin.data.dataset import Split
from harness_plugin.data.images import to_rgb
from harness_plugin.training.inputs.pixels import read_images

SIDE = 32
"""Images are shrunk to this side first; the statistics hardly change, and the cost does."""
LEVELS = 4
"""Levels a channel in a colour histogram."""
BORDER = 5
"""Pixels of the frame that counts as background, of SIDE."""


def colour_features(split: Split) -> NDArray[np.float64]:
    """(N, 67) colours of the image: mean of each channel, and a histogram of 4 x 4 x 4 cells."""
    return np.concatenate([colours(x.reshape(len(x), -1, 3)) for x in small_images(split)])


def border_features(split: Split) -> NDArray[np.float64]:
    """(N, 67) the same of the border alone, which shows the background and little else."""
    border = np.ones((SIDE, SIDE), bool)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    return np.concatenate([colours(x[:, border]) for x in small_images(split)])


def texture_features(split: Split) -> NDArray[np.float64]:
    """(N, 12) mean, spread, and mean step to the right and downwards, of every channel."""
    return np.concatenate(
        [
            np.concatenate(
                [
                    x.mean(axis=(1, 2)),
                    x.std(axis=(1, 2)),
                    np.abs(np.diff(x, axis=2)).mean(axis=(1, 2)),
                    np.abs(np.diff(x, axis=1)).mean(axis=(1, 2)),
                ],
                axis=1,
            )
            for x in small_images(split)
        ]
    )


def top_features(split: Split) -> NDArray[np.float64]:
    """(N, 64) mean brightness in the cells of an 8 x 8 grid over the upper half."""
    cells = (8, SIDE // 16, 8, SIDE // 8)
    halves = (x[:, : SIDE // 2].mean(axis=3) for x in small_images(split))
    grids = [x.reshape(len(x), *cells).mean(axis=(2, 4)) for x in halves]
    return np.concatenate([x.reshape(len(x), -1) for x in grids])


def small_images(split: Split, chunk: int = 256) -> Iterator[NDArray[np.float64]]:
    """(n, SIDE, SIDE, 3) in [0, 1], chunk after chunk."""

    def shrunk(image: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(to_rgb(image).resize((SIDE, SIDE), Image.Resampling.BOX))

    for start in range(0, len(split), chunk):
        yield np.stack(read_images(split.rows, "image", start, chunk, shrunk)) / 255.0


def colours(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 67) channel means, then the share of the pixels (n, P, 3) in each cell of the cube."""
    level = np.minimum((pixels * LEVELS).astype(np.int64), LEVELS - 1)
    cell = (level[..., 0] * LEVELS + level[..., 1]) * LEVELS + level[..., 2]
    size = LEVELS**3
    flat = cell + size * np.arange(len(cell))[:, None]
    counts = np.bincount(flat.ravel(), minlength=size * len(cell)).reshape(len(cell), size)
    return np.concatenate([pixels.mean(axis=1), counts / cell.shape[1]], axis=1)
