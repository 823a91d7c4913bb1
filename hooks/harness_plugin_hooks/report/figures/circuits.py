"""Figures of circuits: the strongest edges as a graph, how faithful they are, how deep they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from harness_plugin.records import Floats
from harness_plugin_hooks.render.text import decimal, listed, percent, plural
from harness_plugin_hooks.report.figures import convolutional
from harness_plugin_hooks.report.figures.drawing import (
    MARKERS,
    NEGATIVE,
    OTHER,
    PAGE,
    POSITIVE,
    SOFT,
    TEXT,
    Picture,
    band,
    colours_of,
    grid,
    numbers,
)
from harness_plugin_hooks.report.figures.inside import Record, ends, outside_legend

EDGES = 20
"""Strongest edges that are drawn; the table has all of the record."""

BESIDE = 0.5
"""How far an MLP stands below the line."""

COLOURS = {"head": TEXT, "mlp": OTHER, "block": TEXT, "norm": SOFT}
KINDS = {"head": ("o", 60), "mlp": ("s", 60), "block": ("s", 70), "norm": ("d", 22)}
"""Marker and size of a node; input and output have their own."""


def circuits(record: Record, roles: Sequence[str]) -> Iterator[Picture]:
    """The graphs of one seed, then faithfulness and depth of all."""
    models = record.get("models") or []
    drawn = [model for model in first_seed(models) if model.get("edges")]
    if drawn:
        yield graphs(drawn, record.get("convention") or "")
    if measured := [m for m in models if is_faithful(m)]:
        yield faithfulness(measured, roles)
    if deep := [model for model in models if model.get("profile")]:
        yield depth(deep, roles)


def is_faithful(model: Record) -> bool:
    """Whether faithfulness is defined: clean and corrupted inputs differ."""
    values = (model.get("faithfulness") or {}).get("values") or []
    return any(value is not None for value in values)


def sentences(record: Record) -> Iterator[str]:
    """Of which models there is no faithfulness, and how far circuits overlap."""
    models = record.get("models") or []
    if flat := [m for m in models if m.get("faithfulness") and not is_faithful(m)]:
        of_models = listed([f"{m['role']} seed {m.get('seed')}" for m in flat])
        parts = "; ".join(
            f"{decimal(m.get('metric_full'), '.2f')} and {decimal(m.get('metric_empty'), '.2f')}"
            for m in flat
        )
        yield (
            f"Clean and corrupted inputs hardly differ for {of_models} (mean metric {parts}), so "
            "that there is no effect to trace: their faithfulness is no number."
        )
    pairs = [c for c in record.get("comparisons") or [] if c.get("jaccard") is not None]
    for first, second in dict.fromkeys((c["first"], c["second"]) for c in pairs):
        mine = [c for c in pairs if (c["first"], c["second"]) == (first, second)]
        shared = float(np.mean([c["jaccard"] for c in mine]))
        chance = [c["jaccard_chance"] for c in mine if c.get("jaccard_chance") is not None]
        by_chance = f", {percent(float(np.mean(chance)), False)}% by chance" if chance else ""
        yield (
            f"{first} and {second} share {percent(shared, False)}% of their strongest edges"
            f"{by_chance} ({plural(len(mine), 'pair')} of models)."
        )


def first_seed(models: Sequence[Record]) -> list[Record]:
    """One model a role: graphs of other seeds are other graphs."""
    first: dict[str, Record] = {}
    for model in models:
        first.setdefault(model["role"], model)
    return list(first.values())


def graphs(models: Sequence[Record], convention: str) -> Picture:
    """The forward pass from left to right, axes for each model."""
    by_stage = all(model.get("family") == "convolutional" for model in models)
    drawn = {id(model): strongest(model) for model in models}
    every = [edge for edges in drawn.values() for edge in edges]
    most = max(abs(edge["score"]) for edge in every) or 1.0
    heights = [3.1] * len(models)
    if by_stage:
        tallest = (
            max(map(len, convolutional.columns_of(drawn[id(m)], m["nodes"]).values()))
            for m in models
        )
        heights = [1.2 + 0.24 * rows for rows in tallest]
    figure, subplots = grid(len(models), 1, 0.4 + sum(heights), height_ratios=heights)
    for axes, model in zip(subplots[:, 0], models, strict=True):
        if by_stage:
            convolutional.stages(axes, model, drawn[id(model)], most)
        else:
            graph(axes, model, drawn[id(model)], most)
        axes.set_title(
            f"{model['role']}, seed {model.get('seed')}: the {len(drawn[id(model)])} strongest of "
            f"{model.get('n_edges', len(model['edges'])):,} edges"
        )
    marks = convolutional.legend(every) if by_stage else legend(models, every)
    figure.legend(handles=marks, loc="outside lower left", ncols=6)
    first, edge = models[0], drawn[id(models[0])][0]
    return Picture(
        name="circuit_graphs",
        title="The circuit: the edges that matter most",
        about=f"Wider lines matter more. {convention[:1].upper()}{convention[1:]}. Nodes that none "
        "of the drawn edges reaches are left out."
        + " The bar behind a column is the next block, which reads all of it."
        * by_stage,
        figure=figure,
        columns=("model", "from", "to", "score"),
        rows=[
            (f"{m['role']} seed {m.get('seed')}", e["from"], e["to"], decimal(e["score"], "+.4f"))
            for m in models
            for e in m["edges"]
        ],
        caption=f"The strongest edge of {first['role']} leads from {edge['from']} to {edge['to']} "
        f"(score {decimal(edge['score'], '+.2f')}).",
    )


def strongest(model: Record) -> list[Record]:
    """The edges that are drawn, the strongest first."""
    return sorted(model["edges"], key=lambda edge: -abs(edge["score"]))[:EDGES]


def graph(axes: Any, model: Record, drawn: Sequence[Record], most: float) -> None:
    """One model's circuit."""
    nodes = {node["id"]: node for node in model.get("nodes") or []}
    edges = [
        {**edge, **{end: node_of(edge[end], nodes) for end in ("from", "to")}} for edge in drawn
    ]
    for edge in edges:  # a node that the record leaves out still has a place
        for end in (edge["from"], edge["to"]):
            nodes.setdefault(end, {"id": end, "kind": "block", "depth": 0.5})
    used = {end for edge in edges for end in (edge["from"], edge["to"])}
    place = places(list(nodes.values()), used)
    edges.reverse()  # the strongest on top
    lines = LineCollection(
        [[place[edge["from"]], place[edge["to"]]] for edge in edges],
        colors=[NEGATIVE if edge["score"] < 0 else POSITIVE for edge in edges],
        linewidths=[0.4 + 3.2 * abs(edge["score"]) / most for edge in edges],
        alpha=0.6,
        zorder=1,
    )
    axes.add_collection(lines)
    for name, (x, y) in place.items():
        node = nodes[name]
        kind = node.get("kind", "block")
        if kind in ("input", "output"):
            axes.annotate(
                kind,
                (x, y),
                ha="center",
                va="center",
                fontsize=8.5,
                zorder=3,
                bbox={
                    "boxstyle": "round,pad=0.3",
                    "facecolor": PAGE,
                    "edgecolor": TEXT,
                    "linewidth": 0.8,
                },
            )
            continue
        marker, size = KINDS.get(kind, KINDS["block"])
        axes.scatter(
            [x],
            [y],
            s=size,
            marker=marker,
            color=COLOURS.get(kind, OTHER),
            edgecolors=PAGE,
            linewidths=0.8,
            zorder=2,
        )
        if kind == "head" and node.get("head") is not None:
            axes.annotate(
                str(node["head"] + 1),
                (x, y),
                (0, 5.5),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color=SOFT,
                zorder=3,
            )
    layers: dict[int, list[float]] = {}
    for name, (x, _) in place.items():
        if nodes[name].get("layer") and nodes[name].get("kind") not in ("input", "output"):
            layers.setdefault(nodes[name]["layer"], []).append(x)
    middles = [(min(xs) + max(xs)) / 2 for xs in layers.values()]
    axes.set_xticks(middles, [str(layer) for layer in layers])
    axes.set_xlabel("layer")
    axes.set_yticks([])
    axes.margins(0.06, 0.16)
    axes.spines["left"].set_visible(False)


def node_of(end: str, nodes: Mapping[str, Record]) -> str:
    """The node that an end of an edge belongs to: a head has three (`attn1.h0.k`)."""
    whole = end.rpartition(".")[0]
    return whole if end not in nodes and whole in nodes else end


def places(nodes: Sequence[Record], used: set[str]) -> dict[str, tuple[float, float]]:
    """Where every node of `used` stands.

    x: a column for each part of a layer, in the order of the forward pass (heads, norm, MLP, norm);
    y: its number in the column.
    """
    columns: list[tuple[Any, list[str]]] = []
    for node in nodes:
        of = (node.get("layer"), node.get("kind"))
        alone = node.get("kind") in ("norm", "mlp", "input", "output")
        if not columns or columns[-1][0] != of or alone:
            columns.append((of, []))
        if node["id"] in used:
            columns[-1][1].append(node["id"])
    kinds = {node["id"]: node.get("kind") for node in nodes}
    out = {}
    for x, column in enumerate([names for _, names in columns if names]):
        for y, name in zip(np.arange(len(column)) - (len(column) - 1) / 2, column, strict=True):
            # a step down, so that what passes an MLP by can be seen
            out[name] = (float(x), -float(y) - BESIDE * (kinds[name] == "mlp"))
    return out


def legend(models: Sequence[Record], edges: Sequence[Record]) -> list[Line2D]:
    """Legend of the marks and colours that are drawn."""
    kinds = {node["id"]: node.get("kind") for model in models for node in model.get("nodes") or []}
    used = {kinds.get(node_of(edge[end], kinds)) for edge in edges for end in ("from", "to")}
    words = (("head", "head (number)"), ("mlp", "MLP"), ("norm", "LayerNorm"))
    marks = [
        Line2D([], [], linestyle="none", marker=KINDS[kind][0], color=COLOURS[kind], label=word)
        for kind, word in words
        if kind in used
    ]
    return [*marks, *convolutional.signs(edges)]


def faithfulness(models: Sequence[Record], roles: Sequence[str]) -> Picture:
    """How much of the model's answer a circuit of a given size gives; random edges beside it."""
    figure, ((axes,),) = grid(1, 1, 3.4)
    colours, seen = colours_of(roles), list(dict.fromkeys(m["role"] for m in models))
    for number, role in enumerate(seen):
        mine = [model for model in models if model["role"] == role]
        colour = colours.get(role, SOFT)
        share, values = over_seeds(mine, "values")
        axes.plot(
            share,
            mean_of(values),
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            label=role,
        )
        if len(values) > 1:
            known = np.isfinite(values).any(axis=0)
            low, high = (f(values[:, known], axis=0) for f in (np.nanmin, np.nanmax))
            band(axes, share[known], low, high, colour)
        if all(model["faithfulness"].get("random") for model in mine):
            share, by_chance = over_seeds(mine, "random")
            axes.plot(share, mean_of(by_chance), color=colour, linestyle=":", linewidth=1.2)
    axes.axhline(1, color=SOFT, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_xlabel("edges kept, % of all")
    axes.set_ylabel("faithfulness")
    axes.grid(axis="y")
    outside_legend(figure, [axes])
    return Picture(
        name="circuit_faithfulness",
        title="How small a circuit gives the model's answer",
        about="1: the edges kept give the whole answer; 0: as much as none. Lines: mean over "
        "seeds; bands: from the lowest seed to the highest; dotted: as many edges at random.",
        figure=figure,
        columns=("model", "edges kept", "faithfulness", "95% interval", "random edges"),
        rows=[
            (
                f"{m['role']} seed {m.get('seed')}",
                f"{size:,}",
                decimal(cell(m, "values", i)),
                ends(cell(m, "low", i), cell(m, "high", i)),
                decimal(cell(m, "random", i)),
            )
            for m in models
            for i, size in enumerate(m["faithfulness"]["sizes"])
        ],
        caption=enough(models),
    )


def over_seeds(models: Sequence[Record], key: str) -> tuple[Floats, Floats]:
    """(S,) edges kept, % of all, of one role's models, and (seeds, S) of their faithfulness."""
    sizes = models[0]["faithfulness"]["sizes"]
    same = [m for m in models if m["faithfulness"]["sizes"] == sizes]
    share = 100 * numbers(sizes) / max(models[0].get("n_edges") or 0, *sizes)
    return share, np.array([numbers(m["faithfulness"][key]) for m in same])


def mean_of(values: Floats) -> Floats:
    """(S,) mean over seeds, those that are defined; nan where none is."""
    known = np.isfinite(values).sum(axis=0)
    out: Floats = np.where(known, np.nansum(values, axis=0) / np.maximum(known, 1), np.nan)
    return out


def cell(model: Record, key: str, place: int) -> float | None:
    """One number of a model's faithfulness."""
    values: Sequence[float | None] = model["faithfulness"].get(key) or ()
    return values[place] if place < len(values) else None


def enough(models: Sequence[Record]) -> str:
    """The share of edges that 90% of the answer takes, a role after the other."""
    parts = []
    for role in dict.fromkeys(model["role"] for model in models):
        shares = [
            m["size_90"] / m["n_edges"]
            for m in models
            if m["role"] == role and m.get("size_90") is not None and m.get("n_edges")
        ]
        if shares:
            low, high = (percent(end, False) for end in (min(shares), max(shares)))
            parts.append(f"{role} {low}%" + (f" to {high}%" if low != high else ""))
    return f"90% of the answer takes so many of the edges: {', '.join(parts)}." if parts else ""


def depth(models: Sequence[Record], roles: Sequence[str]) -> Picture:
    """At which depth the mass of all edges lies."""
    figure, ((axes,),) = grid(1, 1, 3.0)
    colours, seen = colours_of(roles), list(dict.fromkeys(m["role"] for m in models))
    for model in models:
        points: Sequence[Mapping[str, Any]] = model["profile"]
        axes.plot(
            [point["depth"] for point in points],
            numbers([point.get("mass") for point in points]),
            color=colours.get(model["role"], SOFT),
            marker=MARKERS[seen.index(model["role"]) % len(MARKERS)],
            markersize=4,
            label=model["role"],
        )
    axes.set_xlabel("relative depth")
    axes.set_ylabel("share of the scores")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    outside_legend(figure, [axes])
    return Picture(
        name="circuit_depth",
        title="How deep the circuit lies",
        about="Share of the absolute edge scores by the depth of the node; a line a seed.",
        figure=figure,
        columns=("model", "depth", "mass"),
        rows=[
            (
                f"{m['role']} seed {m.get('seed')}",
                decimal(p["depth"], ".2f"),
                decimal(p.get("mass")),
            )
            for m in models
            for p in m["profile"]
        ],
        caption=middle(models),
    )


def middle(models: Sequence[Record]) -> str:
    """The mean depth of each role's circuit in a sentence."""
    parts = []
    for role in dict.fromkeys(model["role"] for model in models):
        means = [
            sum(p["depth"] * p["mass"] for p in m["profile"]) / total
            for m in models
            if m["role"] == role
            and all(p.get("mass") is not None for p in m["profile"])
            and (total := sum(p["mass"] for p in m["profile"])) > 0
        ]
        if means:
            parts.append(f"{role} {decimal(float(np.mean(means)), '.2f')}")
    return f"Mean depth of the scores: {', '.join(parts)}." if parts else ""
