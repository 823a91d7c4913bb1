"""Result of the CKA analysis as JSON, as rows of a table, and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from harness_plugin.analysis.inputs import AnalysisInput, AnalysisResult
from harness_plugin.pipeline.roles.context import is_quiet
from harness_plugin.records import Estimate, Ints
from harness_plugin.scoring.statistics.intervals import INTERVAL_OF
from harness_plugin_hooks.analyses.cka.compute import (
    Compared,
    Difference,
    SimilarityReport,
    compare_models,
    p_value,
)
from harness_plugin_hooks.analyses.cka.options import CKAOptions
from harness_plugin_hooks.analyses.cka.streaming import Kernel
from harness_plugin_hooks.analyses.layers import by_layer, number, with_interval

CONSTANT = "a layer is the same for every row"
NO_INTERVAL = "no interval: undefined in some resamples"


def analyse(sample: AnalysisInput, options: CKAOptions) -> AnalysisResult:
    """Similarity of all layers of all models."""
    report = compare_models(
        sample.models,
        sample.encoded,
        sample.rows,
        options,
        device=sample.device,
        quiet=is_quiet(sample.task.ctx),
    )
    record = as_record(report, options)
    return AnalysisResult(record, list(as_rows(report)), list(as_tables(report)))


def as_record(report: SimilarityReport, options: CKAOptions) -> dict[str, Any]:
    """The JSON part; nan where a number is undefined, with a reason."""
    return {
        "measure": "unbiased minibatch CKA (HSIC_1 summed over batches before the ratio)",
        "kernel": str(Kernel(options.rbf)),
        "pool": options.pool,
        "batch": report.batch,
        "permutations": options.permutations,
        "resamples": options.resamples,
        "interval_of": INTERVAL_OF[report.seeds > 1],
        "seed": options.seed,
        "gram_dtype": "float64" if options.float64 else "float32",
        "pairs": [pair_record(pair) for pair in report.pairs],
        "ceiling": [pair_record(pair) for pair in report.ceilings],
        "differences": [difference_record(one) for one in report.differences],
        "notes": list(report.notes),
    }


def pair_record(pair: Compared) -> dict[str, Any]:
    """Two roles (or two seeds of a role) on one group: matrices first x second."""
    return {
        "group": pair.group,
        "view": pair.view,
        "first": pair.first,
        "second": pair.second,
        "rows": pair.rows,
        "first_layers": list(pair.first_layers),
        "second_layers": list(pair.second_layers),
        "first_depths": list(pair.first_depths),
        "second_depths": list(pair.second_depths),
        "value": pair.value.tolist(),
        "low": pair.low.tolist(),
        "high": pair.high.tolist(),
        "null_high": pair.null_high.tolist(),
        "seeds": pair.seeds.tolist(),
        "reason": CONSTANT if np.isnan(pair.value).any() else pair.no_interval,
        "equal_depth": list(cells(pair, pair.diagonal)),
        "best_match": list(cells(pair, pair.best)),
    }


def cells(pair: Compared, matched: Ints) -> Iterator[dict[str, Any]]:
    """Every layer of the second with the layer of the first that it is matched with."""
    for second, first in enumerate(matched.tolist()):
        value, low = float(pair.value[first, second]), float(pair.low[first, second])
        seeds = pair.seeds[:, first, second]
        yield {
            "layer": pair.second_layers[second],
            "depth": pair.second_depths[second],
            "with": pair.first_layers[first],
            "value": value,
            "low": low,
            "high": float(pair.high[first, second]),
            "sd": float(seeds.std(ddof=1)) if len(seeds) > 1 else math.nan,
            "null_high": float(pair.null_high[first, second]),
            "p": p_value(value, pair.null[:, first, second]),
            "reason": reason(value, low, pair.no_interval),
        }


def difference_record(one: Difference) -> dict[str, Any]:
    """A difference, layer by layer."""
    return {
        "what": one.what,
        "view": one.view,
        "group": one.group,
        "layers": by_layer(
            one.layers,
            [
                Estimate(value, low, high, reason=reason(value, low, one.no_interval))
                for value, low, high in zip(*(b.tolist() for b in one.interval), strict=True)
            ],
        ),
    }


def reason(value: float, low: float, no_interval: str) -> str:
    """Why a number, or its interval, is undefined."""
    if math.isnan(value):
        return CONSTANT
    return (no_interval or NO_INTERVAL) if math.isnan(low) else ""


def as_rows(report: SimilarityReport) -> Iterator[dict[str, Any]]:
    """One row a pair of layers."""
    for kind, pairs in (("pair", report.pairs), ("ceiling", report.ceilings)):
        for pair in pairs:
            null = pair.null_high
            for a, b in np.ndindex(*pair.value.shape):
                yield {
                    "kind": kind,
                    "group": pair.group,
                    "view": pair.view,
                    "first": pair.first,
                    "second": pair.second,
                    "first_layer": pair.first_layers[a],
                    "second_layer": pair.second_layers[b],
                    "first_depth": pair.first_depths[a],
                    "second_depth": pair.second_depths[b],
                    "value": pair.value[a, b],
                    "low": pair.low[a, b],
                    "high": pair.high[a, b],
                    "null_high": null[a, b],
                    "rows": pair.rows,
                }


def as_tables(report: SimilarityReport) -> Iterator[Table]:
    """One table for each two roles, on the features as they are: a row for each layer."""
    view = report.pairs[0].view
    pairs = [pair for pair in report.pairs if pair.view == view]
    ceilings = {(c.group, c.second): c for c in report.ceilings if c.view == view}
    for first, second in dict.fromkeys((pair.first, pair.second) for pair in pairs):
        groups = [pair for pair in pairs if (pair.first, pair.second) == (first, second)]
        table = Table(
            title=f"CKA of {first} and {second}, {groups[0].rows:,} rows of each group",
            title_justify="left",
        )
        table.add_column(f"{second}'s layer")
        table.add_column(f"{first}'s")
        for pair in groups:
            table.add_column(f"{pair.group} [95%]", justify="right")
            table.add_column("best match", justify="right")
        ceiling = ceilings.get((groups[0].group, second))
        table.add_column(f"two seeds of {second}", justify="right")
        for layer, name in enumerate(groups[0].second_layers):
            row = [name, groups[0].first_layers[groups[0].diagonal[layer]]]
            for pair in groups:
                row += cells_of(pair, layer)
            own = math.nan if ceiling is None else float(ceiling.value[layer, layer])
            table.add_row(*row, number(own))
        yield table


def cells_of(pair: Compared, layer: int) -> Sequence[str]:
    """`.91 [.88, .93]` at equal depth, and `.95 layer 3` of the best match."""
    equal, best = int(pair.diagonal[layer]), int(pair.best[layer])
    number_at, low, high = (part[equal, layer] for part in (pair.value, pair.low, pair.high))
    at_equal = Estimate(float(number_at), float(low), float(high))
    value = float(pair.value[best, layer])
    return with_interval(at_equal), "n/a" if math.isnan(
        value
    ) else f"{number(value)} {pair.first_layers[best]}"
