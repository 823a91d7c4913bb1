"""Numbers and names as a reader sees them: percent, points, and a dash for what is undefined."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness_plugin.scoring.transfer_record import Number
from harness_plugin_hooks.leaderboard.page import DASH, MINUS, percent, plain, spoken

__all__ = [
    "DASH",
    "MINUS",
    "interval",
    "listed",
    "of_number",
    "percent",
    "plain",
    "plural",
    "spoken",
    "told",
]


def of_number(number: Number | None, signed: bool = False) -> str:
    """`81.3 (79.0 to 83.4)` in percent, or why there is no number."""
    if number is None:
        return DASH
    if number.value is None:
        return f"{DASH} ({number.reason})" if number.reason else DASH
    return percent(number.value, signed) + interval(number.low, number.high, signed)


def interval(low: float | None, high: float | None, signed: bool = False) -> str:
    """` (79.0 to 83.4)`, or nothing."""
    if low is None or high is None:
        return ""
    return f" ({percent(low, signed)} to {percent(high, signed)})"


def told(value: float | None, form: str = ".3f") -> str:
    """A plain number, or a dash."""
    if value is None or math.isnan(value):
        return DASH
    return f"{value:{form}}".replace("-", MINUS)


def plural(count: int, word: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count:,} {word}{'s' * (count != 1)}"


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
