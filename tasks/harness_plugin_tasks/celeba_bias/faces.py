"""Drawn faces: hair lightness carries the label, half a dozen features carry the gender.

Hair lightness is ambiguous on purpose. Gender, which is easy to see, then helps a model that
trusts it on the common faces and misleads it on the rare ones, as in CelebA.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]
Bools: TypeAlias = NDArray[np.bool_]

HAIR_LIGHTNESS = {False: 0.22, True: 0.70}
"""Mean hair lightness in [0, 1] of faces that are not blond, and that are."""
AMBIGUITY = 0.20
"""Standard deviation of hair lightness: about one face in nine is on the wrong side of .46."""
LIGHTING = 0.12
"""Standard deviation of the brightness of the whole picture, which blurs hair lightness more."""
GRAIN = 0.05
"""Standard deviation of the noise on every pixel."""
CHUNK = 512

BACKGROUND, CLOTHES, HAIR, NECK, SKIN, BEARD, BROW, EYE, NOSE, LIPS = range(10)
GENDERED = (NECK, SKIN, BEARD, BROW, EYE, NOSE, LIPS)
"""Regions that gender shapes or colours, and the label does not but through brows and beard."""


def draw(blond: Bools, male: Bools, rng: np.random.Generator, size: int = 32) -> Pixels:
    """(N, size, size, 3) RGB faces for `blond` (N,) and `male` (N,)."""
    shape, palette = shapes(male, rng), colours(blond, male, rng)
    light = 1 + LIGHTING * rng.standard_normal((len(blond), 1, 1, 1), dtype=np.float32)
    images = np.empty((len(blond), size, size, 3), np.uint8)
    for start in range(0, len(blond), CHUNK):
        part = slice(start, start + CHUNK)
        regions = paint({name: value[part] for name, value in shape.items()}, size)
        image = np.take_along_axis(
            palette[part], regions.reshape(len(regions), -1, 1).astype(np.intp), axis=1
        ).reshape(*regions.shape, 3)
        image *= light[part]
        image += GRAIN * rng.standard_normal(image.shape, dtype=np.float32)
        images[part] = (image.clip(0, 1) * 255).astype(np.uint8)
    return images


def shapes(male: Bools, rng: np.random.Generator) -> dict[str, Floats]:
    """The measures of every face, (N, 1, 1) each; half the width of the picture is 1."""
    n = len(male)

    def between(low: float, high: float) -> Floats:
        return rng.uniform(low, high, n).astype(np.float32)

    def either(man: tuple[float, float], woman: tuple[float, float]) -> Floats:
        return np.where(male, between(*man), between(*woman))

    def chance(man: float, woman: float) -> Floats:
        return (rng.random(n) < np.where(male, man, woman)).astype(np.float32)

    long = chance(0.06, 0.88)
    measures = {
        "x": between(-0.10, 0.10),
        "y": between(0.00, 0.14),
        "scale": between(0.88, 1.10),
        "tilt": between(-0.12, 0.12),
        "width": either((0.45, 0.52), (0.39, 0.46)),
        "height": between(0.56, 0.64),
        "square_jaw": either((0.45, 1.00), (0.00, 0.35)),
        "shoulders": either((0.80, 1.05), (0.55, 0.80)),
        "neck": either((0.26, 0.32), (0.17, 0.23)),
        "hair_volume": between(0.09, 0.20),
        "hair_length": np.where(long > 0, between(0.50, 1.00), between(-0.25, 0.10)),
        "hairline": either((-0.46, -0.34), (-0.44, -0.26)),
        "parting": between(-0.25, 0.25),
        "beard": chance(0.60, 0.00) * between(0.00, 1.00),
        "brow": either((0.045, 0.065), (0.020, 0.040)),
        "eye": either((0.045, 0.060), (0.060, 0.085)),
        "nose": either((0.08, 0.11), (0.05, 0.08)),
        "mouth": between(0.15, 0.21),
        "lip": either((0.030, 0.045), (0.050, 0.075)),
    }
    return {name: value.astype(np.float32)[:, None, None] for name, value in measures.items()}


def colours(blond: Bools, male: Bools, rng: np.random.Generator) -> Floats:
    """(N, 10, 3) the colour of every region of every face, in [0, 1].

    Skin, clothes and background are independent of label and gender.
    """
    n = len(blond)
    lightness = np.where(blond, HAIR_LIGHTNESS[True], HAIR_LIGHTNESS[False])
    lightness = (lightness + AMBIGUITY * rng.standard_normal(n)).clip(0, 1)
    hair = blend((0.13, 0.08, 0.06), (0.95, 0.83, 0.53), lightness)
    skin = blend((0.42, 0.27, 0.19), (0.97, 0.82, 0.72), rng.beta(3, 1.5, n))
    lipstick = (~male & (rng.random(n) < 0.8))[:, None]
    palette = np.empty((n, 10, 3), np.float32)
    palette[:, BACKGROUND] = rng.random((n, 3))
    palette[:, CLOTHES] = rng.random((n, 3))
    palette[:, HAIR] = hair
    palette[:, NECK] = 0.85 * skin
    palette[:, SKIN] = skin
    palette[:, BEARD] = 0.45 * hair + 0.25 * skin
    palette[:, BROW] = 0.55 * hair + 0.15 * skin
    palette[:, EYE] = 0.12
    palette[:, NOSE] = 0.82 * skin
    palette[:, LIPS] = np.where(lipstick, (0.78, 0.13, 0.20), skin * (0.80, 0.62, 0.60))
    return palette


def blend(dark: tuple[float, ...], light: tuple[float, ...], share: NDArray[np.float64]) -> Floats:
    """(N, 3) colours between `dark` (share 0) and `light` (share 1)."""
    low, high = np.array(dark, np.float32), np.array(light, np.float32)
    return low + (high - low) * share[:, None].astype(np.float32)


def paint(shape: Mapping[str, Floats], size: int) -> NDArray[np.uint8]:
    """(N, size, size) which region every pixel shows; later regions cover earlier ones."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) / size) * 2 - 1
    right, down = line[None, None, :] - shape["x"], line[None, :, None] - shape["y"]
    # a small angle: sine and cosine to first order
    x = (right + shape["tilt"] * down) / shape["scale"]
    y = (down - shape["tilt"] * right) / shape["scale"]
    side, below = np.abs(x), np.maximum(y, 0)

    def oval(centre: tuple[float, float], width: Floats, height: Floats | float) -> Bools:
        return ((side - centre[0]) / width) ** 2 + ((y - centre[1]) / height) ** 2 < 1

    width, height = shape["width"], shape["height"]
    rise = (y / height) ** 2
    # the fourth power below the eyes makes the jaw square
    drop = rise + shape["square_jaw"] * (below / height) ** 2 * (rise - 1)
    face = (x / width) ** 2 + drop < 1
    crown = (x / (width + shape["hair_volume"])) ** 2 + (y / (height + shape["hair_volume"])) ** 2
    mane = (side < width + shape["hair_volume"]) & (y > 0) | (crown < 1)
    fringe = shape["hairline"] + 0.9 * (x - shape["parting"]) ** 2

    regions = np.zeros(x.shape, np.uint8)
    regions[oval((0, 1.15), shape["shoulders"], 0.45)] = CLOTHES
    regions[mane & (y < shape["hair_length"])] = HAIR
    regions[(side < shape["neck"]) & (y > 0) & (y < 0.82)] = NECK
    regions[face] = SKIN
    bearded = (y > 0.42 - 0.22 * shape["beard"]) | (side > 0.80 * width) & (y > 0.05)
    regions[face & bearded & (shape["beard"] > 0)] = BEARD
    regions[(crown < 1) & (y < fringe)] = HAIR
    regions[oval((0.20, -0.24), shape["brow"] * 0 + 0.13, shape["brow"])] = BROW
    regions[oval((0.20, -0.09), 1.5 * shape["eye"], shape["eye"])] = EYE
    regions[oval((0, 0.13), shape["nose"], 0.06)] = NOSE
    regions[oval((0, 0.33), shape["mouth"], shape["lip"])] = LIPS
    return regions
