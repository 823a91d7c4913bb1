"""Shared by the modules for `evaluate.load`: columns, arguments in words, the class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import datasets
import evaluate

from harness_plugin.scoring.bootstrap import Bootstrap
from harness_plugin.scoring.statistics.intervals import MIN_GROUP

RESAMPLES = 1000
"""As a run's, by default."""
COLUMNS = {"predictions": "int64", "references": "int64", "groups": "string"}
ARGUMENTS = {
    "predictions": "predicted labels, indices (N,).",
    "references": "gold labels, indices (N,).",
    "groups": "name of each row's group (N,).",
    "known_groups": "all groups there are, those without a row included; default: those that occur."
    "\n        A group with few rows, or none, steers no minimum: a warning names it.",
}

RESAMPLING = {
    "task": "what a run calls the task; with `split` and `seed` it names the resamples, so that\n"
    "        the numbers are those of that run to the digit.",
    "split": "what it calls the evaluation set.",
    "seed": "of the resamples; default 0.",
    "min_group": "rows below which a group steers no minimum; default 30.",
}
"""Arguments of the modules with intervals, in words."""


def resampled(
    task: str = "columns", split: str = "columns", seed: int = 0, min_group: int = MIN_GROUP
) -> tuple[str, Bootstrap]:
    """The name of the evaluation set, and the resamples of its rows."""
    return split, Bootstrap(task, RESAMPLES, seed, min_group)


def metric_class(
    compute: Callable[..., dict[str, Any]],
    name: str,
    description: str,
    citation: str,
    *,
    columns: Sequence[str] = tuple(COLUMNS),
    **arguments: str,
) -> type[Any]:
    """The class that `evaluate.load` finds in the module of `compute`, which it calls by keyword.

    `columns` are what it adds up batch by batch; `arguments` are further ones, in words.
    """
    of_groups = ["known_groups"] if "groups" in columns else []
    words = {**{key: ARGUMENTS[key] for key in (*columns, *of_groups)}, **arguments}
    info = evaluate.MetricInfo(
        description=description,
        citation=citation,
        inputs_description="\nArgs:\n"
        + "".join(f"    {key}: {text}\n" for key, text in words.items()),
        features=datasets.Features({key: datasets.Value(COLUMNS[key]) for key in columns}),
    )

    def _info(self: Any) -> evaluate.MetricInfo:
        return info

    def _compute(self: Any, **inputs: Any) -> dict[str, Any]:
        return compute(**inputs)

    body = {"_info": _info, "_compute": _compute, "__module__": compute.__module__}
    return type(name, (evaluate.Metric,), {**body, "__doc__": description})
