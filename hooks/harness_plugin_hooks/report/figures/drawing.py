"""How figures look, and how one becomes a PNG, an SVG file, and a part of a page in its colours."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harness_plugin_hooks.render.document import Cell

Axes: TypeAlias = Any
"""matplotlib.axes.Axes; matplotlib has no types."""

TEXT, SOFT, LINE, PAGE = "#1b1f24", "#57606a", "#d0d7de", "#ffffff"
TEACHER, STUDENT, CONTROL = "#0072b2", "#d55e00", "#00806a"
STUDENTS = (STUDENT, "#b0508c", "#8a6d00", "#6a55c2")
"""Okabe and Ito's colours, darker where white would swallow them; students in order."""
OTHER = "#6e7781"
POSITIVE, NEGATIVE = STUDENTS[3], STUDENTS[2]
"""Of edges; no role's, as long as there are two students."""
THEME = {
    TEXT: "--text",
    SOFT: "--soft",
    LINE: "--line",
    PAGE: "--page",
    TEACHER: "--teacher",
    CONTROL: "--control",
    OTHER: "--other",
    **{colour: f"--student-{number}" for number, colour in enumerate(STUDENTS, start=1)},
}
"""Colours that follow the page's theme; every other colour in a figure is fixed."""

ON_LIGHT, ON_DARK = "#000001", "#fffffe"
"""Ink on a filled cell, whatever the theme."""

MARKERS = "osD^vPX"
HUNDREDTHS = "{:.2f}"
SEQUENTIAL, DIVERGING = "viridis", "PuOr"
WIDTH = 9.6
"""Inches of a full-width figure."""
NARROW = 4.8
"""Inches: two figures stand side by side, or below each other on a narrow screen."""

FACE = "DejaVu Sans"
FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
)
"""Faces for letters that the first one lacks, where a machine has them."""

STYLE = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "text.color": TEXT,
    "axes.titlecolor": TEXT,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.8,
    "axes.unicode_minus": True,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.fonttype": "none",
    "svg.hashsalt": "harness",
}


@dataclass(frozen=True, eq=False)
class Picture:
    """One figure: what it is called, what a reader should see in it, and the numbers behind it."""

    name: str
    title: str
    about: str
    figure: Figure
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    caption: str = ""
    """Caption: a sentence with the figure's number."""

    @cached_property
    def svg(self) -> str:
        """A vector file whose text is text."""
        out, metadata = io.StringIO(), {"Date": None, "Creator": None}
        lay_out(self.figure)
        self.figure.savefig(out, format="svg", facecolor=PAGE, metadata=metadata)
        return out.getvalue()

    @cached_property
    def png(self) -> bytes:
        """On white, 160 dots an inch."""
        out, metadata = io.BytesIO(), {"Software": None}
        lay_out(self.figure)
        self.figure.savefig(out, format="png", dpi=160, facecolor=PAGE, metadata=metadata)
        return out.getvalue()


def lay_out(figure: Figure) -> None:
    """Give everything in a figure its place, as an SVG's text wants it, once for all formats.

    A figure with a layout engine is drawn twice by every `savefig`, the first time for its places.
    """
    if (engine := figure.get_layout_engine()) is not None:
        FigureCanvasSVG(figure)
        engine.execute(figure)
        figure.set_layout_engine(None)


@contextmanager
def styled() -> Iterator[None]:
    """Figures made and written inside look alike, whatever the user's matplotlibrc says."""
    installed = set(font_manager.fontManager.get_font_names())
    faces = [FACE, *(face for face in FALLBACKS if face in installed)]
    rc = mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "font.family": faces})
    with rc, warnings.catch_warnings():
        # a browser finds a face for the text of an SVG; a PNG without one has a box
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        yield


def canvas(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, inches."""
    return Figure(figsize=(width, height), layout="constrained")


def grid(
    rows: int, columns: int, height: float, *, width: float = WIDTH, **more: Any
) -> tuple[Figure, NDArray[Any]]:
    """A figure of equal axes; (rows, columns) of them."""
    figure = canvas(height, width)
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def colours_of(roles: Sequence[str]) -> dict[str, str]:
    """One colour a role, the same in every figure of a run."""
    students = [role for role in roles if role.startswith("student")]
    colours = {role: STUDENTS[i % len(STUDENTS)] for i, role in enumerate(students)}
    controls = (role for role in roles if role.startswith("control"))
    known = {"teacher": TEACHER, **dict.fromkeys(controls, CONTROL)}
    return {role: colours.get(role) or known.get(role, OTHER) for role in roles}


def ink_on(colour: Sequence[float]) -> str:
    """Black or white, whichever is read on an RGB colour in [0, 1]."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = float(np.dot((0.2126, 0.7152, 0.0722), linear))
    return ON_LIGHT if luminance > 0.18 else ON_DARK


def matrix(
    axes: Axes,
    values: NDArray[np.float64],
    limits: tuple[float, float],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    form: str = HUNDREDTHS,
    colours: str = SEQUENTIAL,
    most: int = 12,
) -> Any:
    """A matrix as coloured cells, the first row on top; cells hold their number up to `most` rows.

    An undefined value (nan) is an empty cell.
    """
    scale = mpl.colors.Normalize(*limits)
    shown = np.ma.masked_invalid(values)
    mesh = axes.pcolormesh(shown, norm=scale, cmap=colours, edgecolors=PAGE, linewidth=0.8)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if max(values.shape) <= most:
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                text = form.format(value)
                text = (text.lstrip("+-") if not float(text) else text).replace("-", "\u2212")
                text = re.sub(r"^([\u2212]?)0\.", r"\1.", text) if form == HUNDREDTHS else text
                ink = ink_on(mesh.cmap(scale(value)))
                axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=ink, fontsize=8)
    return mesh


def band(
    axes: Axes, x: Sequence[float] | NDArray[np.float64], low: Any, high: Any, colour: str
) -> None:
    """A 95% interval along a line, where there is one."""
    low, high = (np.array(ends, dtype=float) for ends in (low, high))
    if np.isfinite(low).any():
        axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)


def numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    """A list of a record, null as nan."""
    return np.array(values, dtype=float)
