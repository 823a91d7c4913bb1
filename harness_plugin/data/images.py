"""Stored pictures → 8-bit RGB: values keep their meaning, or the picture is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness_plugin.errors import HarnessError

BACKGROUND = (255, 255, 255)
"""Colour below transparent pixels: white, as in a viewer or on paper."""
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
AS_THEY_ARE = ("RGB", "1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBX")
"""Modes of 8 bits a channel that Pillow converts to RGB by definition."""


def to_rgb(value: Any) -> Image.Image:
    """A picture or an array as an RGB picture of 8 bits a channel.

    16-bit values are divided by 257, so that 65535 is white: Pillow's own conversion cuts them off
    at 255. Floats are taken to lie in [0, 1]. Transparent pixels are composited on white. Arrays
    are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), of 8 or 16 unsigned bits, integers in [0, 255] or
    floats in [0, 1].

    Raises HarnessError, naming the mode, for values without a range (32-bit integers, floats beyond
    [0, 1]), other colour spaces, and pictures of several frames.
    """
    if not isinstance(value, Image.Image):
        return composited(of_array(np.asarray(value)))
    if value.format != "MPO" and getattr(value, "n_frames", 1) > 1:  # MPO: a camera's two views
        raise HarnessError(
            f"mode {value.mode}, {getattr(value, 'n_frames', 1)} frames: save one picture a row"
        )
    if value.mode in SIXTEEN_BIT or (value.mode == "I" and value.format == "PNG"):
        return of_array(np.asarray(value).astype(np.uint16)).convert("RGB")
    if value.mode == "I":
        raise HarnessError(
            "mode I, 32-bit integers: what value is white is not stated; save 8 or 16 bits a pixel"
        )
    if value.mode == "F":
        try:
            return of_array(np.asarray(value)).convert("RGB")
        except HarnessError as error:
            raise HarnessError(f"mode F, {error}") from error
    return composited(value)


def composited(image: Image.Image) -> Image.Image:
    """An 8-bit picture in RGB, on the background where it is transparent."""
    if image.mode in TRANSPARENT or "transparency" in image.info:
        picture = image.convert("RGBA")
        return Image.alpha_composite(
            Image.new("RGBA", picture.size, (*BACKGROUND, 255)), picture
        ).convert("RGB")
    if image.mode not in AS_THEY_ARE:
        raise HarnessError(f"mode {image.mode}: save it as RGB or grey")
    return image.convert("RGB")


def of_array(values: NDArray[Any]) -> Image.Image:
    """A picture of an array's values, scaled to 8 bits by their type."""
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        raise HarnessError(f"an array of shape {values.shape}: pictures are (H, W) or (H, W, 3)")
    return Image.fromarray(eight_bits(values[..., 0] if values.shape[2:] == (1,) else values))


def eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Values as 8-bit ones."""
    kind = values.dtype
    if kind == np.uint8:
        return values
    if kind == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if kind == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if kind.kind == "f" and low >= 0 and high <= 1:  # false for nan
        scaled: NDArray[np.uint8] = np.rint(values * 255).astype(np.uint8)
        return scaled
    if kind.kind in "iu" and low >= 0 and high <= 255:
        return values.astype(np.uint8)
    names = "floats" if kind.kind == "f" else f"{8 * kind.itemsize}-bit integers"
    bounds = "[0, 1]" if kind.kind == "f" else "[0, 255]"
    raise HarnessError(
        f"{names} from {low:g} to {high:g}, not in {bounds}: what value is white is not stated; "
        f"save 8 or 16 bits a pixel"
    )
