"""Figures of attention: where two models look apart, by layer and by head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from harness_plugin_hooks.render.text import decimal
from harness_plugin_hooks.report.figures.drawing import (
    LINE,
    MARKERS,
    SOFT,
    WIDTH,
    Picture,
    band,
    colours_of,
    grid,
    matrix,
    numbers,
)
from harness_plugin_hooks.report.figures.inside import Record, ends, of_students, outside_legend

MOST = np.log(2)
"""The largest Jensen-Shannon divergence, in nats."""


def attention(record: Record, roles: Sequence[str]) -> Iterator[Picture]:
    """Divergence by layer, and of matched heads."""
    pairs = [pair for pair in record.get("pairs") or [] if pair.get("by_layer")]
    if pairs:
        yield by_layer(pairs, roles)
    if matched := [pair for pair in record.get("pairs") or [] if pair.get("matched")]:
        yield by_head(matched)


def specials(pair: Record) -> str:
    """With or without special tokens."""
    return "all tokens" if pair.get("specials") else "without special tokens"


def by_layer(pairs: Sequence[Record], roles: Sequence[str]) -> Picture:
    """Axes for each group, a line for each pair; solid without special tokens, which dominate."""
    groups = list(dict.fromkeys(pair["group"] for pair in pairs))
    colours = colours_of(roles)
    # a line has the colour of the second model: who is compared with the teacher
    against = [pair for pair in pairs if pair["first"] == "teacher"] or pairs
    others = list(dict.fromkeys(pair["second"] for pair in pairs))
    figure, (subplots,) = grid(1, len(groups), 3.3, sharey=True)
    for axes, group in zip(subplots, groups, strict=True):
        last = 0
        for pair in [pair for pair in against if pair["group"] == group]:
            layers = pair["by_layer"]
            x = [layer["second_layer"] + 1 for layer in layers]
            value, low, high = (numbers([layer.get(k) for layer in layers]) for k in KEYS)
            colour = colours.get(pair["second"], SOFT)
            axes.plot(
                x,
                value,
                color=colour,
                linestyle="--" if pair.get("specials") else "-",
                marker=MARKERS[others.index(pair["second"]) % len(MARKERS)],
                markersize=4,
                label=f"{pair['first']} ~ {pair['second']}",
            )
            band(axes, x, low, high, colour)
            last = max(last, *x)
        axes.set_xticks(range(1, last + 1, max(1, last // 8)))
        axes.set_xlim(0.6, last + 0.4)
        axes.set_ylim(bottom=0)
        axes.set_title(f"{group} rows")
        axes.set_xlabel("layer of the second model")
        axes.grid(axis="y")
    subplots[0].set_ylabel("JS divergence, nats")
    outside_legend(figure, subplots)
    return Picture(
        name="attention_layers",
        title="Where the models look apart, by layer",
        about="Jensen-Shannon divergence of attention at equal depth: 0 looks at the same tokens, "
        f"{MOST:.2f} at none in common. Solid: without special tokens; dashed: with them, which "
        "models use to look at nothing. Bands: 95% interval.",
        figure=figure,
        columns=("models", "rows", "tokens", "layer", "of the first", "JS", "95% interval"),
        rows=[
            (
                f"{pair['first']} ~ {pair['second']}",
                pair["group"],
                specials(pair),
                str(layer["second_layer"] + 1),
                str(layer["first_layer"] + 1),
                decimal(layer.get("js")),
                ends(layer.get("low"), layer.get("high")),
            )
            for pair in pairs
            for layer in pair["by_layer"]
        ],
        caption=furthest_layer(against),
    )


def furthest_layer(pairs: Sequence[Record]) -> str:
    """Where a student looks furthest apart from its teacher."""
    without = [pair for pair in pairs if not pair.get("specials")]
    distances = of_students(without, "by_layer", "js")
    if not distances:
        return ""
    value, pair, layer = max(distances, key=lambda one: one[0])
    interval = ends(layer.get("low"), layer.get("high"), ".2f")
    return (
        f"{pair['second']} looks furthest apart from its {pair['first']} in layer "
        f"{layer['second_layer'] + 1}, on {pair['group']} rows: {decimal(value, '.2f')} nats"
        + (f" ({interval})." if interval else ".")
    )


KEYS = ("js", "low", "high")


def by_head(pairs: Sequence[Record]) -> Picture:
    """Every head of the second with the head of the first it is matched with: layer x head."""
    without = [pair for pair in pairs if not pair.get("specials")]
    shown = without or list(pairs)
    groups = list(dict.fromkeys(pair["group"] for pair in shown))
    both = list(dict.fromkeys((pair["first"], pair["second"]) for pair in shown))
    tables = {}
    for pair in shown:
        layers = 1 + max(match["second_layer"] for match in pair["matched"])
        heads = 1 + max(match["second_head"] for match in pair["matched"])
        table = np.full((layers, heads), np.nan)
        for match in pair["matched"]:
            if match.get("js") is not None:
                table[match["second_layer"], match["second_head"]] = match["js"]
        place = groups.index(pair["group"]), both.index((pair["first"], pair["second"]))
        tables[place] = table
    tallest = max(len(table) for table in tables.values())
    widest = max(table.shape[1] for table in tables.values())
    figure, cells = grid(
        len(groups),
        len(both),
        len(groups) * (1.0 + max(0.9, 0.3 * tallest)),
        width=min(WIDTH, 1.0 + len(both) * (2.2 + 0.35 * widest)),
    )
    known = [float(np.nanmax(t)) for t in tables.values() if np.isfinite(t).any()]
    high = max([*known, 1e-6])
    heat: Any = None
    for (row, column), axes in np.ndenumerate(cells):
        axes.set_visible((row, column) in tables)
        if (row, column) not in tables:
            continue
        table = tables[row, column]
        layers = [str(i + 1) for i in range(table.shape[0])]
        heads = [str(i + 1) for i in range(table.shape[1])]
        heat = matrix(axes, table, (0, high), layers, heads)
        first, second = both[column]
        axes.set_title(f"{first} ~ {second}, {groups[row]} rows", fontsize=9.5)
        axes.set_ylabel("layer")
        axes.set_xlabel(f"head of {second}")
    if heat is not None:
        bar = figure.colorbar(heat, ax=cells.ravel().tolist(), fraction=0.02, pad=0.01, label="JS")
        bar.outline.set_edgecolor(LINE)
    return Picture(
        name="attention_heads",
        title="Where the models look apart, by head",
        about="Every head of the second model with the head of the first that it is most like "
        f"(Hungarian matching), {specials(shown[0])}. Darker looks at the same tokens.",
        figure=figure,
        columns=("models", "rows", "layer", "head", "matched layer", "matched head", "JS"),
        rows=[
            (
                f"{pair['first']} ~ {pair['second']}",
                pair["group"],
                str(match["second_layer"] + 1),
                str(match["second_head"] + 1),
                str(match["first_layer"] + 1),
                str(match["first_head"] + 1),
                decimal(match.get("js")),
            )
            for pair in shown
            for match in pair["matched"]
        ],
        caption=furthest_head(shown),
    )


def furthest_head(pairs: Sequence[Record]) -> str:
    """The student's head that is least like the one it is matched with."""
    distances = of_students(pairs, "matched", "js")
    if not distances:
        return ""
    value, pair, match = max(distances, key=lambda one: one[0])
    return (
        f"The least alike: head {match['second_head'] + 1} of layer {match['second_layer'] + 1} of "
        f"{pair['second']}, {decimal(value, '.2f')} nats on {pair['group']} rows."
    )
