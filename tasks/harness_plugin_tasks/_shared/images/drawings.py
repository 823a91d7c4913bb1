"""Drawn pictures: shapes in unit coordinates, jittered, filled or outlined over a background.

A shape is a few parts, each a polygon or a stroke through points; (0, 0) is the upper left corner
of the picture and (1, 1) the lower right one. Everything is drawn from the generator that is
handed in, so that the same seed gives the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from harness_plugin.data.dataset import Ints
from harness_plugin_tasks._shared.images.splits import Pixels

Colour: TypeAlias = tuple[int, int, int]
Points: TypeAlias = Sequence[tuple[float, float]]

OVERSAMPLED = 2
"""Pictures are drawn this many times larger and shrunk, which smooths their edges."""
DARKER = 0.45
"""Brightness of the dark parts of a shape, of its colour."""


@dataclass(frozen=True)
class Part:
    """A polygon, or (open) a stroke; `dark` parts are drawn in a darker tone than the rest."""

    points: Points
    open: bool = False
    dark: bool = False


@dataclass(frozen=True)
class Jitter:
    """How far pictures of one shape differ: half widths of uniform draws around no change."""

    scale: float
    turn: float
    shift: float
    shear: float
    flip: bool = False


def ellipse(x: float, y: float, width: float, height: float, dark: bool = False) -> Part:
    """An ellipse around (x, y) with these half axes."""
    return Part(arc(x, y, width, height, 0, 4).points, dark=dark)


def box(x: float, y: float, right: float, bottom: float, dark: bool = False) -> Part:
    """An upright rectangle."""
    return Part([(x, y), (right, y), (right, bottom), (x, bottom)], dark=dark)


def stroke(*points: tuple[float, float]) -> Part:
    """An open line."""
    return Part(points, open=True)


def arc(x: float, y: float, width: float, height: float, start: float, stop: float) -> Part:
    """A stroke along an ellipse, from `start` to `stop` in quarter turns, clockwise from right."""
    angle = np.linspace(start, stop, 20) * np.pi / 2
    xs, ys = x + width * np.cos(angle), y + height * np.sin(angle)
    return stroke(*zip(xs.tolist(), ys.tolist(), strict=True))


DIGITS: tuple[tuple[Part, ...], ...] = (
    (arc(0.5, 0.5, 0.2, 0.32, 0, 4),),
    (stroke((0.4, 0.3), (0.54, 0.18), (0.54, 0.82)),),
    (arc(0.5, 0.37, 0.2, 0.18, -2, 0.5), stroke((0.62, 0.51), (0.3, 0.8), (0.72, 0.8))),
    (arc(0.47, 0.34, 0.2, 0.16, -1.8, 1), arc(0.47, 0.66, 0.22, 0.17, -1, 1.8)),
    (stroke((0.58, 0.82), (0.58, 0.18), (0.28, 0.6), (0.75, 0.6)),),
    (stroke((0.7, 0.2), (0.35, 0.2), (0.33, 0.46)), arc(0.46, 0.62, 0.22, 0.2, -1.6, 1.7)),
    (stroke((0.64, 0.18), (0.42, 0.4), (0.31, 0.63)), arc(0.5, 0.65, 0.19, 0.17, 0, 4)),
    (stroke((0.29, 0.2), (0.71, 0.2), (0.45, 0.82)),),
    (arc(0.5, 0.34, 0.16, 0.16, 0, 4), arc(0.5, 0.66, 0.2, 0.17, 0, 4)),
    (arc(0.49, 0.36, 0.18, 0.18, 0, 4), stroke((0.67, 0.36), (0.65, 0.6), (0.52, 0.82))),
)
"""The strokes of each digit."""
HANDS = Jitter(scale=0.2, turn=0.3, shift=0.08, shear=0.3)
PEN = (0.06, 0.13)
"""Narrowest and widest stroke of a digit, of the side."""


def drawn(
    shape: Sequence[Part],
    background: Pixels,
    rng: np.random.Generator,
    *,
    colour: Colour,
    jitter: Jitter,
    line: float = 0.09,
    outlined: bool = False,
) -> Pixels:
    """(H, W, 3): `shape` in `colour` over `background` (H, W, 3).

    `line` is the width of strokes as a share of the side. `outlined` shapes are lines only.
    """
    height, width = background.shape[:2]
    large = (width * OVERSAMPLED, height * OVERSAMPLED)
    picture = Image.fromarray(background).resize(large, Image.Resampling.NEAREST)
    brush = ImageDraw.Draw(picture)
    thick = max(round(line * min(large)), 1)
    dark = tuple(int(DARKER * channel) for channel in colour)
    for part, points in zip(shape, placed(shape, jitter, rng), strict=True):
        path = [(x, y) for x, y in (points * large).tolist()]
        fill = dark if part.dark else colour
        if part.open or outlined:
            closed = [] if part.open else path[:1]
            brush.line([*path, *closed], fill=fill, width=thick, joint="curve")
        else:
            brush.polygon(path, fill=fill)
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX))


def placed(
    shape: Sequence[Part], jitter: Jitter, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """The points (P, 2) of every part after one random scale, turn, shear, shift and flip."""
    spread = rng.uniform(-1, 1, 6)
    turn, shear = jitter.turn * spread[0], jitter.shear * spread[1]
    scale = 1 + jitter.scale * spread[2:4]
    if jitter.flip and rng.random() < 0.5:
        scale[0] *= -1
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = turned @ np.array([[scale[0], shear], [0, scale[1]]])
    centre = 0.5 + jitter.shift * spread[4:6]
    return [(np.asarray(part.points) - 0.5) @ matrix.T + centre for part in shape]


def draw_digits(label: Ints, rng: np.random.Generator, size: int = 28) -> Pixels:
    """(N, size, size) grey digits, white on black, of many hands."""
    black = np.zeros((size, size, 3), np.uint8)
    out = np.empty((len(label), size, size), np.uint8)
    for row, digit in enumerate(label):
        line = float(rng.uniform(*PEN))
        white = drawn(DIGITS[digit], black, rng, colour=(255, 255, 255), jitter=HANDS, line=line)
        out[row] = white[..., 0]
    return out


def noisy(pixels: Pixels, rng: np.random.Generator, spread: float) -> Pixels:
    """`pixels` with Gaussian noise of standard deviation `spread`, in units of full scale."""
    noise = rng.normal(0, 255 * spread, pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.uint8)
