"""Mappings of settings before they are models: names that exist, and what is wrong in words."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from harness_plugin.errors import unknown

LONGEST = 80
"""Characters of a value in a message."""


def fitting(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without the `config` of a model that is replaced by one of another family.

    `config` holds arguments of one architecture: a BERT's dropout is no setting of a T5's.
    """
    out = copy.deepcopy(dict(recipe))
    for role in ("teacher", "student"):
        named = changes.get(role, {}).get("model") if isinstance(changes.get(role), dict) else None
        if isinstance(named, str) and isinstance(out.get(role), dict):
            old = str(out[role].get("model", ""))
            if named.partition("-")[0] != old.partition("-")[0]:
                out[role].pop("config", None)
    return out


def check_names(where: str, settings: Mapping[str, Any], model: type[BaseModel]) -> None:
    """Refuse keys `model` does not have, with near matches."""
    for key in settings:
        if key not in model.model_fields:
            raise unknown(f"setting of {where}", key, model.model_fields)


def problems(where: str, error: ValidationError) -> str:
    """Every problem of a validation, one line each: key, message, value.

    A long value is shortened, and a whole mapping left out: a message on one says what of it.
    """
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "missing":
            lines.append(f"{where}: setting {key!r} is missing.")
            continue
        own = problem["type"] == "value_error"  # of pydantic's prefix and of several lines
        said = str(problem["ctx"]["error"]) if own else problem["msg"]
        value = problem.get("input")
        got = "" if own and isinstance(value, Mapping) else f" (got {shortened(value)})"
        start = ": ".join(part for part in (where, key) if part)
        lines += [f"{start}: {line.rstrip('.')}{got}." for line in said.splitlines()]
    return "\n".join(lines)


def shortened(value: Any) -> str:
    """A value as it is written, no longer than a line."""
    written = " ".join(repr(value).split())
    return written if len(written) <= LONGEST else f"{written[: LONGEST - 1]}\u2026"
