"""Numbers and names as a reader sees them: percent, points, and a dash for what is undefined."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness_plugin_hooks.render.document import Number, Rank

GIGA = (1e9, "G")
DASH, MINUS, MARK = "\u2013", "\u2212", "\u2020"

METRIC_TITLES = {
    "acc": "accuracy",
    "worst_group_acc": "worst-group accuracy",
    "acc_train_weighted": "accuracy weighted as in training",
    "f1": "F1",
    "ece": "calibration error",
    "gap_id_ood": "in-domain minus OOD gap",
    "gap_aligned_conflicting": "aligned minus conflicting gap",
    "gap_avg_worst": "average minus worst-group gap",
    "gap_entailment": "entailment minus non-entailment gap",
}


def metric_title(name: str) -> str:
    """A metric's name as words."""
    return METRIC_TITLES.get(name, name.replace("_", " "))


def percent(value: float, signed: bool) -> str:
    """A fraction as percent, with a true minus sign, no sign for 0, and a sign for infinity."""
    if math.isinf(value):
        return f"{MINUS}\u221e" if value < 0 else "\u221e"
    rounded = round(100 * value, 1) or 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.1f}".replace("-", MINUS)


def estimate(number: Number) -> str:
    """The value in percent, marked where `number.marked`; a dash where it is undefined."""
    if math.isnan(number.value):
        return DASH
    return percent(number.value, number.signed) + (MARK if number.marked else "")


def interval(number: Number, form: str = "{} to {}") -> str:
    """`79.0 to 83.4`, or nothing where there is no interval."""
    if math.isnan(number.value) or math.isnan(number.low) or math.isnan(number.high):
        return ""
    return form.format(percent(number.low, number.signed), percent(number.high, number.signed))


def ranks(value: Rank) -> str:
    """`2`, or `1-3` for ranks that cannot be told apart."""
    first, last = value
    return str(first) if first == last else f"{first}{DASH}{last}"


def decimal(value: float | None, form: str = ".3f") -> str:
    """A plain number, or a dash."""
    return DASH if value is None or math.isnan(value) else f"{value:{form}}".replace("-", MINUS)


def operations(count: float) -> str:
    """Floating-point operations: `310 GFLOP`, `4.2 TFLOP`."""
    size, prefix = next((s for s in ((1e18, "E"), (1e15, "P"), (1e12, "T")) if count >= s[0]), GIGA)
    return f"{count / size:,.3g} {prefix}FLOP"


def plural(count: int, word: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count:,} {word}{'s' * (count != 1)}"


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def rule_words(margin: float, min_seeds: int) -> str:
    """What verdicts were given by: `margin 2 points, at least 3 seeds`."""
    return f"margin {100 * margin:g} points, at least {plural(min_seeds, 'seed')}"


def plain(text: str, longest: int = 200) -> str:
    """A stranger's text: what cannot be printed becomes a replacement character; not too long."""
    short = text if len(text) <= longest else text[:longest] + "…"
    return "".join(c if c.isprintable() else "\ufffd" for c in short)
