"""Result of the attention analysis as JSON, as rows of a table, and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table

from harness_plugin.analysis.inputs import AnalysisInput, AnalysisResult
from harness_plugin.analysis.loaded_models import twins
from harness_plugin.records import Estimate
from harness_plugin.scoring.statistics.intervals import INTERVAL_OF
from harness_plugin_hooks.analyses.attention.compute import (
    AttentionReport,
    Diverged,
    Own,
    compare_attention,
)
from harness_plugin_hooks.analyses.attention.heads import Pair
from harness_plugin_hooks.analyses.attention.measures import LARGEST, matched_heads
from harness_plugin_hooks.analyses.attention.options import AttentionOptions
from harness_plugin_hooks.analyses.layers import bounds, by_layer, number, with_interval

NO_ROW = "no row of the group shows it"
SHOWN = False
"""The terminal shows values without special tokens, which are sinks and hide all the others."""


def analyse(sample: AnalysisInput, options: AttentionOptions) -> AnalysisResult:
    """Measure the attention of the models, and how far they differ in it."""
    report = compare_attention(sample, options)
    record = as_record(report, options, twins(sample.models))
    return AnalysisResult(record, list(as_rows(report)), list(shown(report)))


def as_record(
    report: AttentionReport, options: AttentionOptions, twin: Mapping[str, str]
) -> dict[str, Any]:
    """The JSON part; nan where a number is undefined, with a reason."""
    return {
        "measure": "Jensen-Shannon divergence of rows of attention, in nats (0 to ln 2)",
        "matched_rows": options.matched,
        "resamples": options.resamples,
        "interval_of": INTERVAL_OF[any(len(own.sides) > 1 for own in report.owns)],
        "seed": options.seed,
        "models": [own_record(own) for own in report.owns],
        "pairs": [pair_record(pair) for pair in report.pairs],
        "ceiling": [pair_record(pair) for pair in report.ceilings],
        "differences": list(differences(report.pairs, twin)),
        "notes": list(report.notes),
    }


def own_record(own: Own) -> dict[str, Any]:
    """One role on one group: head by head (mean over seeds, each seed), layer by layer."""
    masses = {name: value for name, value in own.heads.items() if name != "entropy"}
    return {
        "role": own.role,
        "group": own.group,
        "specials": own.specials,
        "seeds": [side.subject.seed for side in own.sides],
        "rows": own.rows,
        "layers": list(own.sides[0].names),
        "depths": list(own.sides[0].depths),
        "entropy": own.heads["entropy"].mean(axis=0).tolist(),
        "mass": {name: value.mean(axis=0).tolist() for name, value in masses.items()},
        "uniform": own.uniform,
        "by_layer": {
            name: by_layer(own.sides[0].names, map(explained, value))
            for name, value in own.layers.items()
        },
        "rollout": {
            "from": own.sides[0].readout,
            "mass": {name: bounds(explained(value)) for name, value in own.rolled.items()},
        },
        "each_seed": {name: value.tolist() for name, value in own.heads.items()},
    }


def explained(one: Estimate) -> Estimate:
    """The number with the reason where it is undefined."""
    return replace(one, reason=NO_ROW) if math.isnan(one.value) else one


def pair_record(one: Diverged) -> dict[str, Any]:
    """Two roles (or two seeds of a role) on one group."""
    aligned = one.pairs[0].aligned.tolist()
    matched = [match for pair in one.pairs for match in matches(one, pair)]
    return {
        "group": one.group,
        "first": one.roles[0],
        "second": one.roles[1],
        "specials": one.specials,
        "level": one.pairs[0].level,
        "first_layers": list(one.first.names),
        "second_layers": list(one.second.names),
        "by_layer": [
            {"second_layer": second, "first_layer": first, "js": js.value}
            | {"low": js.low, "high": js.high, "reason": js.reason}
            for second, (first, js) in enumerate(
                zip(aligned, map(explained, one.estimates), strict=True)
            )
        ],
        "matched": matched,
        "matched_mean": mean_match(one),
    }


def matches(one: Diverged, pair: Pair) -> Iterator[dict[str, Any]]:
    """The heads of one seed's two models, matched; none where they were not read."""
    if one.specials not in pair.heads:
        return
    distances = pair.heads[one.specials]
    if np.isnan(distances).any():  # no row had a position to compare
        return
    ours, theirs = one.first.shape.heads, one.second.shape.heads
    for first, second in matched_heads(distances):
        yield {
            "second_layer": second // theirs,
            "second_head": second % theirs,
            "first_layer": first // ours,
            "first_head": first % ours,
            "js": float(distances[first, second]),
            "seed": pair.seed,
        }


def mean_match(one: Diverged) -> float:
    """Mean divergence of the matched heads; nan without any."""
    values = [match["js"] for pair in one.pairs for match in matches(one, pair)]
    return float(np.mean(values)) if values else math.nan


def differences(pairs: Sequence[Diverged], twin: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Divergence on conflicting minus aligned rows; teacher ~ student minus teacher ~ control."""
    table = {(p.group, p.specials, *p.roles): p for p in pairs}
    for (group, specials, first, second), p in table.items():
        conflicting = table.get(("conflicting", specials, first, second))
        if group == "aligned" and conflicting is not None:
            what = f"{first} ~ {second}: conflicting - aligned"
            yield difference(what, "", specials, p, conflicting.minus(p))
        control = table.get((group, specials, first, twin.get(second, "")))
        if first != "teacher" or control is None:
            continue
        if control.second.names == p.second.names:
            what = f"teacher ~ {second} - teacher ~ {twin[second]}"
            yield difference(what, group, specials, p, p.minus(control))


def difference(
    what: str, group: str, specials: bool, pair: Diverged, estimates: Sequence[Estimate]
) -> dict[str, Any]:
    """A difference, layer by layer of the second."""
    return {
        "what": what,
        "group": group,
        "specials": specials,
        "layers": by_layer(pair.second.names, map(explained, estimates)),
    }


def as_rows(report: AttentionReport) -> Iterator[dict[str, Any]]:
    """One row a head and measure of every model; one a layer of every two roles."""
    for own in report.owns:
        for name, value in own.heads.items():
            for place, layer, head in np.ndindex(*value.shape):
                yield {
                    "kind": "head",
                    "group": own.group,
                    "specials": own.specials,
                    "measure": name,
                    "first": own.role,
                    "second": "",
                    "seed": own.sides[place].subject.seed,
                    "first_layer": own.sides[0].names[layer],
                    "second_layer": "",
                    "head": head,
                    "value": value[place, layer, head],
                    "low": math.nan,
                    "high": math.nan,
                }
    for kind, some in (("pair", report.pairs), ("ceiling", report.ceilings)):
        for one in some:
            for second, js in enumerate(one.estimates):
                yield {
                    "kind": kind,
                    "group": one.group,
                    "specials": one.specials,
                    "measure": f"js by {one.pairs[0].level}",
                    "first": one.roles[0],
                    "second": one.roles[1],
                    "seed": None,
                    "first_layer": one.first.names[one.pairs[0].aligned[second]],
                    "second_layer": one.second.names[second],
                    "head": None,
                    **{"value": js.value, "low": js.low, "high": js.high},
                }


def shown(report: AttentionReport) -> Iterator[RenderableType]:
    """A table for each role and for each two roles, then what is missing and why."""
    owns = [own for own in report.owns if own.specials == SHOWN]
    for role in dict.fromkeys(own.role for own in owns):
        yield own_table([own for own in owns if own.role == role])
    pairs = [one for one in report.pairs if one.specials == SHOWN]
    ceilings = {(c.group, c.roles[1]): c for c in report.ceilings if c.specials == SHOWN}
    for roles in dict.fromkeys(one.roles for one in pairs):
        yield pair_table([one for one in pairs if one.roles == roles], ceilings)
    if report.notes:
        yield "attention: " + "; ".join(report.notes)


def own_table(owns: Sequence[Own]) -> Table:
    """Attention of one role: layer by layer, then by rollout."""
    one = owns[0]
    table = Table(
        title=f"attention of {one.role} without special tokens (uniform in brackets)",
        title_justify="left",
    )
    table.add_column("layer")
    measures = [name for name in one.layers if not name.startswith(("first_", "second_"))]
    # what no row shows has no column
    columns = [
        (own, name) for own in owns for name in measures if not math.isnan(own.uniform.get(name, 0))
    ]
    for own, name in columns:
        even = f" ({number(own.uniform[name])})" if name in own.uniform else ""
        table.add_column(f"{own.group}\n{name}{even}".replace("_", " "), justify="right")
    for layer, name_of_layer in enumerate(one.sides[0].names):
        values = (own.layers[name][layer].value for own, name in columns)
        table.add_row(name_of_layer, *map(number, values))
    rolled = [own.rolled.get(name) for own, name in columns]
    table.add_row(
        f"rollout, {one.sides[0].readout}",
        *("" if value is None else number(value.value) for value in rolled),
    )
    return table


def pair_table(pairs: Sequence[Diverged], ceilings: dict[tuple[str, str], Diverged]) -> Table:
    """How far two roles' attention is apart: layer by layer, and of the heads matched."""
    one = pairs[0]
    first, second = one.roles
    unit = "patch" if one.first.cut.startswith("patches") else one.pairs[0].level
    table = Table(
        title=f"attention of {first} and {second}: divergence, {unit} by {unit}, without special "
        f"tokens (0 to {number(LARGEST)})",
        title_justify="left",
    )
    table.add_column(f"{second}'s layer")
    table.add_column(f"{first}'s")
    for pair in pairs:
        table.add_column(f"{pair.group} [95%]", justify="right")
    ceiling = ceilings.get((one.group, second))
    table.add_column(f"two seeds of {second}", justify="right")
    for layer, name in enumerate(one.second.names):
        own = math.nan if ceiling is None else ceiling.estimates[layer].value
        # of models trained alike it is small
        values = [with_interval(pair.estimates[layer], 3) for pair in pairs]
        table.add_row(name, one.first.names[one.pairs[0].aligned[layer]], *values, number(own, 3))
    table.add_row("heads, matched", "", *(number(mean_match(pair), 3) for pair in pairs), "")
    return table
