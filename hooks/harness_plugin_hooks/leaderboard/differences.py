"""Where two JSON values differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from harness_plugin_hooks.leaderboard.bundle import Problem, shown

TOLERANCE = 1e-6
"""Numbers computed on another machine differ in their last digits."""


def differences(expected: Any, actual: Any, where: str) -> Iterator[Problem]:
    """Every place where two JSON values differ; floats may by TOLERANCE."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in [*expected, *(key for key in actual if key not in expected)]:
            place = f"{where}, {key}" if where.endswith(".json") else f"{where}.{key}"
            if key not in actual or key not in expected:
                have = ("none", "one") if key in actual else ("one", "none")
                yield Problem(shown(place), *have)
            else:
                yield from differences(expected[key], actual[key], place)
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            yield Problem(where, f"{len(expected)} entries", f"{len(actual)}")
        for number, (mine, theirs) in enumerate(zip(expected, actual, strict=False)):
            yield from differences(mine, theirs, f"{where}[{title(mine) or number}]")
    elif not same(expected, actual):
        yield Problem(shown(where), shown(json.dumps(expected)), shown(json.dumps(actual)))


def title(entry: Any) -> str:
    """The name that distinguishes an entry of a list."""
    keys = ("purpose", "role", "student", "seed", "split", "subset", "metric", "measure", "name")
    named = entry if isinstance(entry, dict) else {}
    return "/".join(str(named[key]) for key in keys if named.get(key) not in (None, ""))


def same(expected: Any, actual: Any) -> bool:
    """Equal, or floats that differ in their last digits."""
    if type(expected) is float and type(actual) is float:
        return abs(expected - actual) <= TOLERANCE
    return type(expected) is type(actual) and bool(expected == actual)
