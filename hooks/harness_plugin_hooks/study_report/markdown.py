"""The report as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness_plugin_hooks.study_report.document import Cell, Number, Section, Table

NONE = "\u2013"
MARK = "\u2020"


def page(
    title: str, summary: str, about: str, sections: Sequence[Section], terms: Mapping[str, str]
) -> str:
    """The whole report."""
    lines = [f"# {text(title)}", "", text(summary), "", text(about), ""]
    for section in sections:
        lines += [f"## {section.title}", "", text(section.text), ""]
        lines += [line for name in section.figures for line in (f"![{section.title}]({name})", "")]
        for one in section.tables:
            lines += [*table(one), ""]
    lines += ["## How to read the numbers", ""]
    lines += [f"- **{term}**: {text(meaning)}" for term, meaning in terms.items()]
    return "\n".join(lines) + "\n"


def table(wanted: Table, level: int = 3) -> list[str]:
    """One table under its title."""
    lines = [f"{'#' * level} {text(wanted.title)}", ""] if wanted.title else []
    right = [
        any(isinstance(row[index], int | Number | tuple) for row in wanted.rows)
        for index in range(len(wanted.columns))
    ]
    lines += [
        "| " + " | ".join(text(column) for column in wanted.columns) + " |",
        "|" + "|".join("--:" if is_number else "---" for is_number in right) + "|",
        *("| " + " | ".join(cell(one) for one in row) + " |" for row in wanted.rows),
    ]
    return lines


def cell(value: Cell) -> str:
    """A cell's text."""
    if value is None or value == "":
        return ""
    if isinstance(value, tuple):
        return rank(value)
    if isinstance(value, Number):
        return number(value)
    return f"{value:,}" if isinstance(value, int) else text(value)


def rank(value: tuple[int, int]) -> str:
    """ "2" or "1-3"."""
    first, last = value
    return str(first) if first == last else f"{first}{NONE}{last}"


def number(value: Number) -> str:
    """Percent with its interval; in bold where the interval of a difference leaves 0 out."""
    if math.isnan(value.value):
        return NONE
    shown = percent(value.value, value.signed)
    shown = f"**{shown}**" if value.clear else shown
    shown += MARK if value.marked else ""
    if math.isnan(value.low) or math.isnan(value.high):
        return shown
    return f"{shown} [{percent(value.low, value.signed)}, {percent(value.high, value.signed)}]"


def percent(value: float, signed: bool) -> str:
    """A fraction as percent; no sign for 0, infinity in words."""
    if math.isinf(value):
        return "\u2212\u221e" if value < 0 else "\u221e"
    rounded = round(100 * value, 1) or 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.1f}".replace("-", "\u2212")


def text(value: str) -> str:
    """A stranger's text on one line: nothing in it is markup or ends a cell."""
    line = " ".join(value.split())
    for mark in "\\|`*<>[]":
        line = line.replace(mark, "\\" + mark)
    return line
