"""Stored images → pixels, by as many threads as there are cores, in the order of the rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.images import to_rgb
from harness_plugin.errors import HarnessError

if TYPE_CHECKING:
    import datasets

T = TypeVar("T")


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_images(
    rows: datasets.Dataset,
    column: str,
    start: int,
    count: int,
    then: Callable[[Any], T],
) -> list[T]:
    """Images `start` … `start + count` of a column, each after `then`, in order.

    Pillow decodes and resizes outside the interpreter lock, so that threads share the work; no
    more than `count` images are in memory. A column of arrays is handed over as it is.

    Raises HarnessError naming the 1-based row of an image that cannot be read.
    """
    import datasets  # it takes long, and a run whose stages are stored reads no image

    stop = min(start + count, len(rows))
    feature = rows.features[column]
    stored: Any
    if isinstance(feature, datasets.Image):
        stored = rows.select_columns([column]).with_format("arrow")[start:stop].column(column)
        stored = stored.to_pylist()
        decode = feature.decode_example
    else:
        stored = rows.with_format("numpy")[start:stop][column]
        decode = None

    def one(row: int) -> T:
        value = stored[row - start]
        path = value.get("path") if isinstance(value, dict) else None
        where = f"image of row {row + 1}{f' ({path})' if path else ''} cannot be read"
        try:
            image = value if decode is None else decode(value)
        except Exception as error:  # whatever a damaged file makes a decoder raise
            raise HarnessError(f"{where}: {error}.") from error
        try:
            return then(image)
        except HarnessError as error:
            raise HarnessError(f"{where}: {error}.") from error

    with ThreadPoolExecutor(available_cores()) as pool:
        return list(pool.map(one, range(start, stop)))


def as_rgb(value: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a stored image."""
    return np.asarray(to_rgb(value), np.uint8)


def to_pixels(
    value: Any, processor: Any, crop: int | None, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: cropped to the task's square, then resized as the model's processor does."""
    image = to_rgb(value)
    if crop is not None:
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    cuts = getattr(processor, "do_center_crop", None) or getattr(processor, "crop_pct", None)
    if cuts or image.size != (size[1], size[0]):
        out = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
        return np.asarray(out["pixel_values"][0].transpose(1, 2, 0), np.uint8)
    return np.asarray(image, np.uint8)
