"""Figures of circuits: the strongest edges as a graph, how faithful they are, how deep they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from harness_plugin_hooks.render.text import decimal
from harness_plugin_hooks.report.drawing import (
    MARKERS,
    OTHER,
    PAGE,
    SOFT,
    STUDENTS,
    TEXT,
    Picture,
    colours_of,
    grid,
    numbers,
)
from harness_plugin_hooks.report.figures_inside import Record, outside_legend

EDGES = 60
"""Strongest edges that are drawn; the table has all of the record."""

POSITIVE, NEGATIVE = STUDENTS[3], STUDENTS[2]
"""Of edges; no role's, as long as there are two students."""

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
    if measured := [m for m in models if (m.get("faithfulness") or {}).get("sizes")]:
        yield faithfulness(measured, roles)
    if deep := [model for model in models if model.get("profile")]:
        yield depth(deep, roles)


def first_seed(models: Sequence[Record]) -> list[Record]:
    """One model a role: graphs of other seeds are other graphs."""
    found: dict[str, Record] = {}
    for model in models:
        found.setdefault(model["role"], model)
    return list(found.values())


def graphs(models: Sequence[Record], convention: str) -> Picture:
    """The forward pass from left to right; heads of a layer stacked."""
    figure, panels = grid(len(models), 1, 3.1 * len(models))
    most = max(abs(edge["score"]) for model in models for edge in model["edges"]) or 1.0
    for axes, model in zip(panels[:, 0], models, strict=True):
        graph(axes, model, most)
        axes.set_title(
            f"{model['role']}, seed {model.get('seed')}: {min(EDGES, len(model['edges']))} of "
            f"{model.get('n_edges', len(model['edges'])):,} edges"
        )
    figure.legend(handles=legend(), loc="outside lower left", ncols=6)
    return Picture(
        name="circuit_graphs",
        title="The circuit: the edges that matter most",
        about=f"Wider lines matter more. {convention} Nodes that none of the drawn edges reaches "
        "are left out.",
        figure=figure,
        columns=("model", "from", "to", "score"),
        rows=[
            (f"{m['role']} seed {m.get('seed')}", e["from"], e["to"], decimal(e["score"], "+.4f"))
            for m in models
            for e in m["edges"]
        ],
    )


def graph(axes: Any, model: Record, most: float) -> None:
    """One model's circuit."""
    nodes = {node["id"]: node for node in model.get("nodes") or []}
    edges = [
        edge | {end: node_of(edge[end], nodes) for end in ("from", "to")}
        for edge in sorted(model["edges"], key=lambda edge: -abs(edge["score"]))[:EDGES]
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


def legend() -> list[Line2D]:
    """What marks and colours mean."""
    marks = [
        Line2D([], [], linestyle="none", marker=KINDS[kind][0], color=COLOURS[kind], label=word)
        for kind, word in (("head", "head (number)"), ("mlp", "MLP"), ("norm", "LayerNorm"))
    ]
    return [
        *marks,
        Line2D([], [], color=POSITIVE, linewidth=2.5, label="score above 0"),
        Line2D([], [], color=NEGATIVE, linewidth=2.5, label="score below 0"),
    ]


def faithfulness(models: Sequence[Record], roles: Sequence[str]) -> Picture:
    """How much of the model's answer a circuit of a given size gives; random edges beside it."""
    figure, ((axes,),) = grid(1, 1, 3.4)
    colours, seen = colours_of(roles), list(dict.fromkeys(m["role"] for m in models))
    for model in models:
        curve, colour = model["faithfulness"], colours.get(model["role"], SOFT)
        share = numbers(curve["sizes"]) / max(model.get("n_edges") or 0, *curve["sizes"])
        mark = MARKERS[seen.index(model["role"]) % len(MARKERS)]
        axes.plot(
            100 * share,
            numbers(curve["values"]),
            color=colour,
            marker=mark,
            markersize=4,
            label=model["role"],
        )
        if curve.get("random"):
            axes.plot(
                100 * share,
                numbers(curve["random"]),
                color=colour,
                linestyle=":",
                linewidth=1.2,
            )
    axes.axhline(1, color=SOFT, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_xlabel("edges kept, % of all")
    axes.set_ylabel("faithfulness")
    axes.grid(axis="y")
    outside_legend(figure, [axes])
    return Picture(
        name="circuit_faithfulness",
        title="How small a circuit gives the model's answer",
        about="1: the edges kept give the whole answer; 0: as much as none. A line a seed; dotted: "
        "as many edges at random.",
        figure=figure,
        columns=("model", "edges kept", "faithfulness", "random edges", "90% needs"),
        rows=[
            (
                f"{m['role']} seed {m.get('seed')}",
                f"{size:,}",
                decimal(m["faithfulness"]["values"][i]),
                decimal((m["faithfulness"].get("random") or [None] * (i + 1))[i]),
                "" if m.get("size_90") is None else f"{m['size_90']:,}",
            )
            for m in models
            for i, size in enumerate(m["faithfulness"]["sizes"])
        ],
    )


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
    )
