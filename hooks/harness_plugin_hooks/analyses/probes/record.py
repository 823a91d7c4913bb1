"""Result of the linear probes as JSON, as rows of a table, and on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from harness_plugin.analysis.inputs import AnalysisInput, AnalysisResult
from harness_plugin.analysis.loaded_models import encoded_for, twins
from harness_plugin.errors import unknown
from harness_plugin.pipeline.roles.context import is_quiet
from harness_plugin.scoring.statistics.intervals import INTERVAL_OF
from harness_plugin_hooks.analyses.layers import by_layer, number, with_interval
from harness_plugin_hooks.analyses.probes.compute import (
    TARGETS,
    Curve,
    Probed,
    crossed_rows,
    probe,
)
from harness_plugin_hooks.analyses.probes.options import ProbeOptions


def analyse(sample: AnalysisInput, options: ProbeOptions) -> AnalysisResult:
    """Label and attribute, read off every layer of every model."""
    data = sample.task.ctx.data
    sets = [split.name for split in data.evaluation]
    if options.split not in (None, *sets):
        raise unknown("evaluation set", str(options.split), sets)
    rows, notes = crossed_rows(data, options)
    head = {
        "measure": "accuracy of cross-fitted logistic regressions on rows that are equally many of "
        "each label with each attribute value",
        "pool": "mean",
        "folds": options.folds,
        "strength": options.strength,
        "permutations": options.permutations,
        "resamples": options.resamples,
        "interval_of": INTERVAL_OF[len({subject.seed for subject in sample.models}) > 1],
        "seed": options.seed,
    }
    if rows is None:
        return AnalysisResult({**head, "curves": [], "differences": [], "notes": notes}, [], notes)
    probed = probe(
        sample.models,
        [encoded_for(sample.task, subject, rows.split) for subject in sample.models],
        rows,
        options,
        device=sample.device,
        quiet=is_quiet(sample.task.ctx),
    )
    record = {
        **head,
        "split": rows.split.name,
        "rows": len(rows.rows),
        "names": {target: list(rows.names[target]) for target in TARGETS},
        "curves": [curve_record(curve) for curve in probed.curves],
        "differences": list(differences(probed, twins(sample.models))),
        "notes": notes,
    }
    return AnalysisResult(record, list(as_rows(probed)), [*as_tables(probed), *notes])


def curve_record(curve: Curve) -> dict[str, Any]:
    """One target of one role: a list entry a layer."""
    decodable = [name for name, yes in zip(curve.layers, curve.decodable, strict=True) if yes]
    return {
        "role": curve.role,
        "target": curve.target,
        "layers": list(curve.layers),
        "depths": list(curve.depths),
        "value": [e.value for e in curve.estimates],
        "low": [e.low for e in curve.estimates],
        "high": [e.high for e in curve.estimates],
        "reason": [e.reason for e in curve.estimates],
        "sd": [e.sd for e in curve.estimates],
        "seeds": [list(e.seeds) for e in curve.estimates],
        "chance": curve.chance,
        "null": [e.value for e in curve.null],
        "null_high": [e.high for e in curve.null],
        "decodable": list(curve.decodable),
        "first_decodable": decodable[0] if decodable else None,
        "last_decodable": decodable[-1] if decodable else None,
    }


def differences(probed: Probed, twin: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Paired by rows and seeds: student minus teacher where labels are read off, minus control."""
    roles = list(dict.fromkeys(curve.role for curve in probed.curves))
    for student in [role for role in roles if role.startswith("student")]:
        control = twin.get(student, "")
        for other in [role for role in ("teacher", control) if role in roles]:
            for target in TARGETS:
                ours, theirs = probed.curve(student, target), probed.curve(other, target)
                same = ours.layers == theirs.layers
                layers = range(len(ours.layers)) if same and other == control else [-1]
                yield {
                    "what": f"{student} - {other}",
                    "target": target,
                    "layers": by_layer(
                        [ours.layers[layer] for layer in layers],
                        [ours.minus(theirs, layer) for layer in layers],
                    ),
                }


def as_rows(probed: Probed) -> Iterator[dict[str, Any]]:
    """One row an example and target; a column a model and layer: was its probe right?"""
    rows = probed.rows
    ids = rows.split.ids[rows.rows].tolist()
    for target in TARGETS:
        columns = {
            f"{curve.role}/{seed}/{layer}": curve.correct[number, index].tolist()
            for curve in probed.curves
            if curve.target == target
            for number, seed in enumerate(curve.seeds)
            for index, layer in enumerate(curve.layers)
        }
        for i, name in enumerate(ids):
            yield {
                "target": target,
                "id": name,
                "label": rows.names["label"][rows.label[i]],
                "attribute": rows.names["attribute"][rows.attribute[i]],
                "fold": int(rows.fold[i]),
                **{column: values[i] for column, values in columns.items()},
            }


def as_tables(probed: Probed) -> Iterator[Table]:
    """One table a target: a row for each layer, a column for each role."""
    for target in TARGETS:
        curves = [curve for curve in probed.curves if curve.target == target]
        table = Table(
            title=f"{target} ({' / '.join(probed.rows.names[target])}) read off each layer, "
            f"{len(probed.rows.rows):,} rows of {probed.rows.split.name}, chance "
            f"{number(curves[0].chance)}; * decodable",
            title_justify="left",
        )
        table.add_column("layer")
        for curve in curves:
            table.add_column(f"{curve.role} [95%]", justify="right")
        for layer in layer_names(curves):
            table.add_row(layer, *(cell(curve, layer) for curve in curves))
        yield table


def layer_names(curves: list[Curve]) -> list[str]:
    """The layers of the deepest model, in order."""
    return list(max(curves, key=lambda curve: len(curve.layers)).layers)


def cell(curve: Curve, layer: str) -> str:
    """`.91 [.88, .93] *`, or nothing for a layer this model lacks."""
    if layer not in curve.layers:
        return ""
    index = curve.layers.index(layer)
    mark = " *" if curve.decodable[index] else "  "
    return with_interval(curve.estimates[index]) + mark
