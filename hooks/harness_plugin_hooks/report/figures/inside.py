"""Figures of what happens inside the models: CKA and linear probes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from harness_plugin_hooks.render.text import decimal, percent
from harness_plugin_hooks.report.figures.drawing import (
    LINE,
    MARKERS,
    SOFT,
    Picture,
    band,
    colours_of,
    grid,
    matrix,
    numbers,
)

Record = Mapping[str, Any]

HEAD = 1.14
"""Where the input of the last layer is drawn: behind the last layer, whose depth is 1."""


def cka(record: Record, roles: Sequence[str]) -> Iterator[Picture]:
    """The matrices of all layers, and the layers at equal depth as lines."""
    pairs = record.get("pairs") or []
    view = pairs[0].get("view") if pairs else None
    pairs = [pair for pair in pairs if pair.get("view") == view]
    if pairs:
        yield matrices(pairs)
        yield depth_profile(pairs, record.get("ceiling") or [], view, roles)


def matrices(pairs: Sequence[Record]) -> Picture:
    """A matrix for each two roles and group."""
    both = list(dict.fromkeys((pair["first"], pair["second"]) for pair in pairs))
    groups = list(dict.fromkeys(pair["group"] for pair in pairs))
    tallest = max(len(pair["first_layers"]) for pair in pairs)
    figure, cells = grid(len(groups), len(both), len(groups) * (0.95 + max(1.6, 0.24 * tallest)))
    heat: Any = None
    for pair in pairs:
        place = groups.index(pair["group"]), both.index((pair["first"], pair["second"]))
        axes = cells[place]
        heat = matrix(
            axes,
            np.array(pair["value"], dtype=float),
            (0, 1),
            [short(name) for name in pair["first_layers"]],
            [short(name) for name in pair["second_layers"]],
        )
        axes.set_title(f"{pair['group']} rows", fontsize=9.5)
        axes.set_ylabel(f"{pair['first']}'s layer")
        axes.set_xlabel(f"{pair['second']}'s layer")
    for axes in cells.flat:
        axes.set_visible(bool(axes.get_title(loc="left")))
    bar = figure.colorbar(heat, ax=cells.ravel().tolist(), fraction=0.02, pad=0.01, label="CKA")
    bar.outline.set_edgecolor(LINE)
    return Picture(
        name="cka_matrices",
        title="How alike the layers are (CKA)",
        about="1: the same up to rotation and scale; about 0: unrelated. Every layer of one model "
        "with every layer of another, on the same rows.",
        figure=figure,
        columns=("models", "rows", "layer", "of the other", "CKA", "95% interval"),
        rows=[
            (
                f"{pair['first']} ~ {pair['second']}",
                pair["group"],
                first,
                second,
                decimal(cell(pair["value"], i, j)),
                ends(cell(pair.get("low"), i, j), cell(pair.get("high"), i, j)),
            )
            for pair in pairs
            for i, first in enumerate(pair["first_layers"])
            for j, second in enumerate(pair["second_layers"])
        ],
        caption=last_layers(pairs),
    )


def last_layers(pairs: Sequence[Record]) -> str:
    """How alike the last layers are, which the label is read from."""
    parts = [
        f"{pair['first']} and {pair['second']} {decimal(value, '.2f')} on {pair['group']} rows"
        for pair in pairs
        if pair["second"].startswith("student")
        and (value := cell(pair["value"], -1, -1)) is not None
    ]
    return f"Where the label is read off: {', '.join(parts)}." if parts else ""


def depth_profile(
    pairs: Sequence[Record], ceilings: Sequence[Record], view: str | None, roles: Sequence[str]
) -> Picture:
    """Layers at equal relative depth, axes a group, a line a pair, with the ceiling."""
    groups = list(dict.fromkeys(pair["group"] for pair in pairs))
    figure, (subplots,) = grid(1, len(groups), 3.3, sharey=True)
    colours = colours_of(roles)
    against = [pair for pair in pairs if pair["first"] == "teacher"] or list(pairs)
    for axes, group in zip(subplots, groups, strict=True):
        mine = [pair for pair in against if pair["group"] == group]
        for number, pair in enumerate(mine):
            x = positions(pair["second_layers"], pair["second_depths"])
            value, low, high = (
                numbers([layer.get(key) for layer in pair["equal_depth"]])
                for key in ("value", "low", "high")
            )
            colour = colours.get(pair["second"], SOFT)
            axes.plot(
                x,
                value,
                color=colour,
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                label=f"{pair['first']} ~ {pair['second']}",
            )
            band(axes, x, low, high, colour)
        ceiling = next(
            (
                c
                for c in ceilings
                if (c["group"], c["view"], c["second"]) == (group, view, "teacher")
            ),
            None,
        )
        if ceiling is not None:
            x = positions(ceiling["second_layers"], ceiling["second_depths"])
            own = [cell(ceiling["value"], i, i) for i in range(len(x))]
            axes.plot(x, numbers(own), color=SOFT, linestyle=":", label="two seeds of teacher")
        depth_axis(axes)
        axes.set_title(f"{group} rows")
        axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.04)
    subplots[0].set_ylabel("CKA at equal depth")
    outside_legend(figure, subplots)
    return Picture(
        name="cka_depth",
        title="Where the student leaves the teacher",
        about="CKA of layers at the same relative depth. Bands: 95% interval. Dotted: how alike "
        "two trainings of the teacher are.",
        figure=figure,
        columns=("models", "rows", "layer", "with", "CKA", "95% interval", "permuted rows, 95%"),
        rows=[
            (
                f"{pair['first']} ~ {pair['second']}",
                pair["group"],
                layer["layer"],
                layer["with"],
                decimal(layer.get("value")),
                ends(layer.get("low"), layer.get("high")),
                decimal(layer.get("null_high")),
            )
            for pair in against
            for layer in pair["equal_depth"]
        ],
        caption=least_alike(against, ceilings),
    )


def of_students(
    pairs: Sequence[Record], parts: str, value: str
) -> list[tuple[float, Record, Record]]:
    """The value, pair and part of every one of the `parts` of pairs with a student that has one."""
    return [
        (part[value], pair, part)
        for pair in pairs
        if pair["second"].startswith("student")
        for part in pair[parts]
        if part.get(value) is not None
    ]


def least_alike(pairs: Sequence[Record], ceilings: Sequence[Record]) -> str:
    """Where the student is least like its teacher, and what two trainings of a teacher come to."""
    distances = of_students(pairs, "equal_depth", "value")
    if not distances:
        return ""
    value, pair, layer = min(distances, key=lambda one: one[0])
    interval = ends(layer.get("low"), layer.get("high"), ".2f")
    own = [
        cell(c["value"], i, i)
        for c in ceilings
        if (c["group"], c["view"], c["second"]) == (pair["group"], pair["view"], pair["first"])
        for i, name in enumerate(c["second_layers"])
        if name == layer["with"]
    ]
    known = [one for one in own if one is not None]
    caption = (
        f"{pair['second']} is least like its {pair['first']} at {layer['layer']} on {pair['group']}"
        f" rows: CKA {decimal(value, '.2f')}" + (f" ({interval})" if interval else "")
    )
    if known:
        mean = decimal(float(np.mean(known)), ".2f")
        caption += f"; two seeds of the {pair['first']} have {mean}"
    return f"{caption}."


def probes(record: Record, roles: Sequence[str]) -> Iterator[Picture]:
    """At which depth label and attribute can be read off, axes for each."""
    curves = record.get("curves") or []
    if not curves:
        return
    targets = list(dict.fromkeys(curve["target"] for curve in curves))
    figure, (subplots,) = grid(1, len(targets), 3.4, sharey=True)
    colours = colours_of(roles)
    for axes, target in zip(subplots, targets, strict=True):
        mine = [curve for curve in curves if curve["target"] == target]
        chance = next((c["chance"] for c in mine if c.get("chance") is not None), None)
        for number, curve in enumerate(mine):
            x = positions(curve["layers"], curve["depths"])
            colour = colours.get(curve["role"], SOFT)
            axes.plot(
                x,
                100 * numbers(curve["value"]),
                color=colour,
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                label=curve["role"],
            )
            if curve.get("low") and curve.get("high"):
                low, high = 100 * numbers(curve["low"]), 100 * numbers(curve["high"])
                band(axes, x, low, high, colour)
        if chance is not None:
            axes.axhline(100 * chance, color=SOFT, linestyle=":", linewidth=1.2, label="chance")
        depth_axis(axes)
        axes.set_title(f"the {target}")
    subplots[0].set_ylabel("accuracy of the probe, %")
    outside_legend(figure, subplots)
    rows = record.get("rows")
    on = f" {rows:,} rows of {record.get('split')}, equally many" if rows else " Rows: equally many"
    yield Picture(
        name="probes",
        title="Where label and spurious attribute can be read off",
        about="A linear probe on every layer, judged on rows it has not seen."
        f"{on} of each label with each attribute value, so that one does not give the other away.",
        figure=figure,
        columns=("target", "role", "layer", "accuracy, %", "95% interval", "shuffled", "decodable"),
        rows=list(probe_rows(curves)),
        caption=" ".join(sentences(record)),
    )


def probe_rows(curves: Sequence[Record]) -> Iterator[tuple[str, ...]]:
    """The numbers of every curve."""
    for curve in curves:
        for i, layer in enumerate(curve["layers"]):
            at: list[Any] = [
                (curve.get(key) or [None] * (i + 1))[i]
                for key in ("low", "high", "null", "decodable")
            ]
            low, high, null = (None if end is None else 100 * end for end in at[:3])
            values = at[3]
            value = curve["value"][i]
            yield (
                curve["target"],
                curve["role"],
                layer,
                decimal(None if value is None else 100 * value, ".1f"),
                ends(low, high, ".1f"),
                decimal(null, ".1f"),
                "" if values is None else ("yes" if values else "no"),
            )


def sentences(record: Record) -> Iterator[str]:
    """A sentence on the probes of each role."""
    curves = {(c["role"], c["target"]): c for c in record.get("curves") or []}
    for role in dict.fromkeys(role for role, _ in curves):
        curve = curves.get((role, "attribute"))
        if curve is None or "decodable" not in curve:
            continue
        first, last = curve.get("first_decodable"), curve["decodable"][-1]
        reached = percent(curve["value"][-1] or 0.0, False)
        if first is None:
            yield f"{role}: the attribute is shown to be decodable on no layer."
        elif last:
            yield (
                f"{role}: the attribute is decodable from {first} on and stays so where the label "
                f"is read off ({reached}%)."
            )
        else:
            until = curve.get("last_decodable")
            span = f"on {first} only" if first == until else f"from {first} to {until}"
            yield (
                f"{role}: the attribute is decodable {span}, and not clearly so where the "
                f"label is read off ({reached}%)."
            )


# ---- shared


def positions(layers: Sequence[str], depths: Sequence[float]) -> list[float]:
    """Where layers stand on a depth axis; the head behind the last layer."""
    return [HEAD if name == "head" else depth for name, depth in zip(layers, depths, strict=True)]


def depth_axis(axes: Any) -> None:
    """0 the embeddings, 1 the last layer, then the head."""
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1, HEAD], ["0", ".25", ".5", ".75", "1", "head"])
    axes.set_xlim(-0.04, HEAD + 0.06)
    axes.set_xlabel("relative depth")
    axes.grid(axis="y")


def outside_legend(figure: Any, subplots: Sequence[Any]) -> None:
    """One legend for all axes, above them."""
    entries: dict[str, Any] = {}
    for axes in subplots:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(
            entries.values(), entries.keys(), loc="outside upper left", ncols=min(len(entries), 6)
        )


def short(name: str) -> str:
    """`layer 3` as `3`: the axis says what it is."""
    kind, _, number = name.rpartition(" ")
    return number if kind in ("layer", "stage") else name.replace("embeddings", "emb.")


def cell(table: Any, i: int, j: int) -> float | None:
    """One cell of a matrix of the record, None where there is none."""
    try:
        value: float | None = table[i][j]
    except (TypeError, IndexError):
        return None
    return value


def ends(low: float | None, high: float | None, form: str = ".3f") -> str:
    """`.88 to .93`, or nothing."""
    return "" if low is None or high is None else f"{decimal(low, form)} to {decimal(high, form)}"
