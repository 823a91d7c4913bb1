"""Shared by the analyses: how a row becomes a vector; one number a layer, with its interval."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from harness_plugin.records import Estimate

Pool: TypeAlias = Literal["mean", "cls", "tokens"]
"""Masked mean over tokens (global average of a ResNet's maps); the first token; every token."""


def bounds(one: Estimate) -> dict[str, Any]:
    """`value`, `low`, `high` and, where undefined, a `reason`."""
    return {"value": one.value, "low": one.low, "high": one.high, "reason": one.reason}


def by_layer(layers: Iterable[str], estimates: Iterable[Estimate]) -> list[dict[str, Any]]:
    """The `bounds` of every layer under its name."""
    return [{"layer": name, **bounds(one)} for name, one in zip(layers, estimates, strict=True)]


def number(value: float, digits: int = 2) -> str:
    """`.91`, or n/a."""
    if math.isnan(value):
        return "n/a"
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.{digits}f}")


def with_interval(one: Estimate, digits: int = 2) -> str:
    """`.91 [.88, .93]`, or the number alone where it has no interval."""
    text = number(one.value, digits)
    if math.isnan(one.low):
        return text
    return f"{text} [{number(one.low, digits)}, {number(one.high, digits)}]"
