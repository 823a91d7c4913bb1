"""What all modules for `evaluate.load` share: columns, arguments in words, the class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import datasets
import evaluate

COLUMNS = {"predictions": "int64", "references": "int64", "groups": "string"}
ARGUMENTS = {
    "predictions": "predicted labels, indices (N,).",
    "references": "gold labels, indices (N,).",
    "groups": "name of each row's group (N,).",
    "known_groups": "all groups there are, those without a row included; default: those that occur."
    "\n        A group without a row makes the result nan, with a warning.",
}


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
