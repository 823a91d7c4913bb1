"""The circuit of a convolutional network: stages as columns, groups of channels in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from harness_plugin_hooks.report.figures.drawing import (
    HUNDREDTHS,
    LINE,
    MARKERS,
    NEGATIVE,
    POSITIVE,
    SOFT,
    TEXT,
    Axes,
)

Record = Mapping[str, Any]

BAR = 0.3
"""Width of the block that reads a column, where the columns are 1 apart."""


def columns_of(edges: Sequence[Record], nodes: Sequence[Record]) -> dict[str, list[Record]]:
    """Reader -> the edges into it, its channel groups in order; readers in the forward pass's."""
    order = {node["id"]: number for number, node in enumerate(nodes)}
    readers = sorted({edge["to"] for edge in edges}, key=lambda name: order.get(name, 0))
    return {
        reader: sorted(
            (edge for edge in edges if edge["to"] == reader),
            key=lambda edge: order.get(edge["from"], 0),
        )
        for reader in readers
    }


def stages(axes: Axes, model: Record, edges: Sequence[Record], most: float) -> None:
    """One model: every drawn channel group with its edge to the block that reads it.

    All groups of a column are read by the same block, so that an edge is as long as the column is
    apart from it, and never crosses another.
    """
    columns = columns_of(edges, model.get("nodes") or [])
    tallest = max(len(column) for column in columns.values())
    for x, column in enumerate(columns.values()):
        heights = np.arange(len(column)) - (len(column) - 1) / 2
        for y, edge in zip(-heights, column, strict=True):
            colour = NEGATIVE if edge["score"] < 0 else POSITIVE
            width = 0.6 + 5 * abs(edge["score"]) / most
            axes.plot([x, x + 1 - BAR], [y, y], color=colour, linewidth=width, alpha=0.7, zorder=1)
            axes.plot([x], [y], MARKERS[1], color=TEXT, markersize=4.5, zorder=2)
            name = edge["from"].rpartition(".")[2].removeprefix("c")
            axes.annotate(
                name, (x, y), (-6, 0), textcoords="offset points", ha="right", va="center",
                fontsize=8,
            )  # fmt: skip
            shown = HUNDREDTHS.format(edge["score"]).replace("-", "\u2212")
            axes.annotate(
                shown, (x + 0.35, y), (0, 3), textcoords="offset points", ha="center", fontsize=7.5,
                color=SOFT,
            )  # fmt: skip
        source = column[0]["from"].rpartition(".")[0]
        axes.annotate(
            spoken(source),
            (x, tallest / 2),
            (0, 6),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8.5,
        )
        half = max(len(column), 2) / 2
        bar = Rectangle(
            (x + 1 - BAR, -half), 0.06, 2 * half, facecolor=LINE, edgecolor=SOFT, linewidth=0.6
        )
        axes.add_patch(bar)
    axes.set_xlim(-0.45, len(columns) - BAR + 0.25)
    axes.set_ylim(-tallest / 2 - 0.4, tallest / 2 + 1.5)
    axes.axis("off")


def spoken(name: str) -> str:
    """`stage 2`, below it `block 1`, of `stage2.block1`."""
    return name.replace("stage", "stage ").replace("block", "block ").replace(".", "\n")


def legend(edges: Sequence[Record]) -> list[Line2D]:
    """Legend of the marks and colours that are drawn."""
    marks = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=MARKERS[1],
            color=TEXT,
            label="channels (their numbers)",
        )
    ]
    return [*marks, *signs(edges)]


def signs(edges: Sequence[Record]) -> list[Line2D]:
    """The colours of the edges' scores, where there are such edges."""
    drawn = []
    for below, colour, word in ((False, POSITIVE, "above 0"), (True, NEGATIVE, "below 0")):
        if any((edge["score"] < 0) == below for edge in edges):
            drawn.append(Line2D([], [], color=colour, linewidth=2.5, label=f"score {word}"))
    return drawn
