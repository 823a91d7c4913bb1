"""A table of a page: numbers with their intervals, drawn where a column asks for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias
from xml.etree.ElementTree import Element, SubElement

from harness_plugin_hooks.render.document import Cell, Number, Table, Text, numeric
from harness_plugin_hooks.render.text import DASH, estimate, interval, percent, plain, ranks

WIDTH, HEIGHT = 120, 10
"""Of the drawing of an interval, in pixels."""

HEAT = 5
"""Shades on either side of 0."""

MOST_REASONS = 6
"""Reasons of undefined numbers that are shown below a table."""

Scale: TypeAlias = Callable[[float], float]
"""From a value to where it lies on the drawing, in pixels."""

Range: TypeAlias = tuple[float, float]
"""The least and the greatest value of a column's drawings."""


def add_table(parent: Element, table: Table, level: int) -> None:
    """A table in a frame that scrolls sideways, and below it why numbers in it are undefined."""
    if table.title and table.titled:
        SubElement(parent, f"h{level}").text = plain(table.title)
    if table.note:
        SubElement(parent, "p", {"class": "soft"}).text = plain(table.note)
    name = plain(table.title) or "Table"
    frame = {"class": "scroll", "role": "region", "tabindex": "0", "aria-label": name}
    made = SubElement(
        SubElement(parent, "div", frame), "table", {"class": "sortable"} if table.sortable else {}
    )
    SubElement(made, "caption", {"class": "aside"}).text = name
    right = numeric(table)
    ranges = [range_of(table, i) if c.drawn else None for i, c in enumerate(table.columns)]
    scales = [None if ends is None else scale_of(ends) for ends in ranges]
    head = SubElement(SubElement(made, "thead"), "tr")
    for index, column in enumerate(table.columns):
        cell = SubElement(
            head, "th", {"scope": "col"} | ({"class": "number"} if right[index] else {})
        )
        cell.text = plain(column.title)
        if column.about:
            cell.set("title", plain(column.about))
        if (ends := ranges[index]) is not None:
            add_axis(cell, ends)
        if table.sortable:
            cell.set("data-first", column.first)
            if index == 0:
                cell.set("aria-sort", "ascending")
    known = (abs(n.value) for i in range(len(right)) for n in numbers(table, i))
    bound = max(filter(math.isfinite, known), default=0.0) if table.heat else 0.0
    body = SubElement(made, "tbody")
    for row in table.rows:
        line = SubElement(body, "tr")
        for index, value in enumerate(row):
            is_header = index == table.row_header
            cell = SubElement(line, "th", {"scope": "row"}) if is_header else SubElement(line, "td")
            if right[index]:
                cell.set("class", "number")
            write_cell(cell, value, scales[index])
            if table.sortable and (key := sort_key(value)):
                cell.set("data-value", key)
            if bound and isinstance(value, Number) and math.isfinite(value.value):
                step = round(HEAT * value.value / bound)
                cell.set("class", f"number {'wider' if step > 0 else 'narrower'}-{abs(step)}")
    if reasons := list(undefined(table)):
        more = len(reasons) - MOST_REASONS
        reasons[MOST_REASONS:] = [f"and {more:,} more reasons"] if more > 0 else []
        note = SubElement(parent, "p", {"class": "soft reasons"})
        note.text = f"{DASH} undefined. {'. '.join(map(plain, reasons))}."


def write_cell(cell: Element, value: Cell, scale: Scale | None) -> None:
    """Fill a cell; what is undefined says why when pointed at."""
    match value:
        case Number():
            if value.reason:
                cell.set("title", plain(value.reason))
            if value.clear:
                SubElement(cell, "strong").text = estimate(value)
            else:
                cell.text = estimate(value)
            if ends := interval(value):
                SubElement(cell, "span", {"class": "soft"}).text = ends
                if scale:
                    draw(cell, value, scale)
        case Text():
            if value.about:
                cell.set("title", plain(value.about))
            attributes: dict[str, str] = {"class": value.style} if value.style else {}
            SubElement(cell, "bdi", attributes).text = plain(value.text)
            for text in value.below:
                part = SubElement(cell, "span", {"class": "soft"})
                SubElement(part, "bdi").text = plain(text)
        case tuple():
            cell.text = ranks(value)
        case int():
            cell.text = f"{value:,}"
        case _:
            cell.text = plain(value or "")
            cell.set("dir", "auto")


def sort_key(value: Cell) -> str:
    """The sort key of a cell; "" for one that stays last."""
    match value:
        case Number():
            return "" if math.isnan(value.value) else repr(value.value)
        case Text():
            return "" if value.text == DASH else plain(value.text)
        case (first, last):
            return str(first + last / 10_000)
    return "" if value is None else str(value)


def undefined(table: Table) -> Iterator[str]:
    """Why numbers have no value: columns and reason, each reason once."""
    reasons: dict[str, list[str]] = {}
    for row in table.rows:
        for column, value in zip(table.columns, row, strict=True):
            if isinstance(value, Number) and math.isnan(value.value) and value.reason:
                reasons.setdefault(value.reason, []).append(column.title)
    for reason, titles in reasons.items():
        yield f"{', '.join(dict.fromkeys(titles))}: {reason}"


def numbers(table: Table, index: int) -> list[Number]:
    """The numbers of a column."""
    return [row[index] for row in table.rows if isinstance(row[index], Number)]  # type: ignore[misc]


def range_of(table: Table, index: int) -> Range | None:
    """Range of a column's drawings, with 0 in it where numbers are differences; None: nothing."""
    known = numbers(table, index)
    ends = [end for n in known for end in (n.low, n.value, n.high) if math.isfinite(end)]
    if not ends:
        return None
    if any(number.signed for number in known):
        ends.append(0.0)
    return min(ends), max(ends)


def scale_of(ends: Range) -> Scale:
    """One scale for a column."""
    low, high = ends
    return lambda value: 4 + (WIDTH - 8) * (value - low) / (high - low or 1.0)


def add_axis(cell: Element, ends: Range) -> None:
    """The scale of the drawings below: both ends, and 0 where it lies well between them."""
    size = {"width": str(WIDTH), "height": "20", "class": "axis", "aria-hidden": "true"}
    svg = SubElement(cell, "svg", size)
    SubElement(svg, "line", {"x1": "4", "x2": str(WIDTH - 4), "y1": "18", "y2": "18"})
    low, high = ends
    marks = [(low, "start", 0), (high, "end", WIDTH)]
    if low < 0 < high and WIDTH / 3 < (zero := scale_of(ends)(0.0)) < 2 * WIDTH / 3:
        marks.insert(1, (0.0, "middle", round(zero)))
    for value, anchor, x in marks:
        at = f"{scale_of(ends)(value):.1f}"
        SubElement(svg, "line", {"x1": at, "x2": at, "y1": "14", "y2": "18"})
        text = SubElement(svg, "text", {"x": str(x), "y": "10", "text-anchor": anchor})
        text.text = percent(value, signed=False)


def draw(cell: Element, number: Number, scale: Scale) -> None:
    """An interval as a line with a dot."""
    size = {"width": str(WIDTH), "height": str(HEIGHT), "aria-hidden": "true"}
    svg = SubElement(cell, "svg", {**size, "class": "interval"})
    middle = str(HEIGHT / 2)
    whole = {"x1": "0", "x2": str(WIDTH), "y1": middle, "y2": middle, "class": "track"}
    SubElement(svg, "line", whole)
    if number.signed:
        zero = f"{scale(0.0):.1f}"
        SubElement(
            svg, "line", {"x1": zero, "x2": zero, "y1": "0", "y2": str(HEIGHT), "class": "track"}
        )
    ends = {"x1": f"{scale(number.low):.1f}", "x2": f"{scale(number.high):.1f}"}
    SubElement(svg, "line", {**ends, "y1": middle, "y2": middle})
    SubElement(svg, "circle", {"cx": f"{scale(number.value):.1f}", "cy": middle, "r": "3.5"})
