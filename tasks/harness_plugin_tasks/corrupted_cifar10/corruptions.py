"""Ten corruptions with numpy, PIL and scipy, in five severities; class c belongs to corruption c.

After the list of Hendrycks and Dietterich 2019, without those that need frost pictures, wand or
OpenCV. The strengths are ours, for pictures of 32 pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter, uniform_filter1d

from harness_plugin.data.dataset import Ints
from harness_plugin_tasks._shared.images.splits import Pixels

Floats: TypeAlias = NDArray[np.float64]
Corruption: TypeAlias = Callable[[Floats, float, np.random.Generator], Floats]


def brightness(image: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Adds `strength`."""
    return image + strength


def contrast(image: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Distances from the picture's mean colour, times `strength`."""
    mean: Floats = image.mean(axis=(0, 1))
    return mean + strength * (image - mean)


def saturate(image: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Colourfulness times `strength`."""
    return floats(ImageEnhance.Color(picture(image)).enhance(strength))


def jpeg(image: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """JPEG at quality `strength`."""
    file = io.BytesIO()
    picture(image).save(file, "JPEG", quality=int(strength))
    return floats(Image.open(file))


def pixelate(image: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Shrunk to the share `strength` of its side, and enlarged again."""
    whole = picture(image)
    small = max(round(whole.width * strength), 1), max(round(whole.height * strength), 1)
    shrunk = whole.resize(small, Image.Resampling.BOX)
    return floats(shrunk.resize(whole.size, Image.Resampling.NEAREST))


def gaussian_noise(image: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Normal noise of standard deviation `strength`."""
    return image + rng.normal(0, strength, image.shape)


def shot_noise(image: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Photon counts: Poisson with mean `strength` at full brightness."""
    return rng.poisson(image * strength) / strength


def impulse_noise(image: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """The share `strength` of all values becomes 0 or 1."""
    hit = rng.random(image.shape) < strength
    return np.where(hit, rng.integers(0, 2, image.shape), image)


def gaussian_blur(image: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Normal kernel of standard deviation `strength` pixels."""
    blurred: Floats = gaussian_filter(image, (strength, strength, 0))
    return blurred


def motion_blur(image: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Mean over `strength` pixels along a row."""
    blurred: Floats = uniform_filter1d(image, int(strength), axis=1)
    return blurred


CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, float, float, float, float]]] = {
    "brightness": (brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "saturate": (saturate, (1.5, 2, 3, 5, 8)),
    "jpeg": (jpeg, (40, 25, 15, 10, 5)),
    "pixelate": (pixelate, (0.8, 0.65, 0.5, 0.4, 0.25)),
    "gaussian_noise": (gaussian_noise, (0.04, 0.06, 0.08, 0.1, 0.14)),
    "shot_noise": (shot_noise, (150, 80, 50, 30, 15)),
    "impulse_noise": (impulse_noise, (0.01, 0.03, 0.05, 0.08, 0.13)),
    "gaussian_blur": (gaussian_blur, (0.4, 0.6, 0.8, 1.0, 1.5)),
    "motion_blur": (motion_blur, (2, 3, 4, 5, 7)),
}
"""Corruption c and its strength at severity 1 to 5."""


def picture(image: Floats) -> Image.Image:
    """(H, W, 3) in [0, 1] as an 8-bit picture."""
    return Image.fromarray(bytes_of(image))


def floats(image: Image.Image) -> Floats:
    """(H, W, 3) in [0, 1]."""
    return np.asarray(image.convert("RGB"), np.float64) / 255


def bytes_of(image: Floats) -> Pixels:
    """Values in [0, 1], clipped, as bytes."""
    return np.round(image.clip(0, 1) * 255).astype(np.uint8)


def corrupted(images: Pixels, kind: Ints, severity: int, rng: np.random.Generator) -> Pixels:
    """(N, H, W, 3): every picture with corruption `kind` (N,) at `severity` 1 to 5."""
    table = list(CORRUPTIONS.values())
    out = np.empty_like(images)
    for row, (image, number) in enumerate(zip(images, kind, strict=True)):
        corrupt, strengths = table[number]
        out[row] = bytes_of(corrupt(image / 255, strengths[severity - 1], rng))
    return out
