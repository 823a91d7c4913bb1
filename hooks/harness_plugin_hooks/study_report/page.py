"""The report as one HTML file that asks nobody for anything.

Built as a tree and written by the standard library, which escapes every text and attribute. The
style, and the drawing of an interval, are the leaderboard page's.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from harness_plugin import __version__
from harness_plugin_hooks.html import Page
from harness_plugin_hooks.leaderboard import page as leaderboard
from harness_plugin_hooks.leaderboard.page import plain
from harness_plugin_hooks.study_report.document import Cell, Number, Section, Table
from harness_plugin_hooks.study_report.markdown import MARK, NONE, percent, rank

HEAT = 5
"""Shades of a scale map on either side of 0."""


def page(
    title: str,
    summary: str,
    about: str,
    sections: Sequence[Section],
    terms: Mapping[str, str],
    drawings: Mapping[str, Path],
    embedded: bool,
) -> str:
    """The whole page; `drawings` are the figures' files by name."""
    style = "".join(
        files(package).joinpath(name).read_text("utf-8")
        for package, name in ((leaderboard.__package__, "page.css"), (__package__, "page.css"))
    )
    shell = Page(plain(title), style)
    body = shell.body
    header = SubElement(body, "header")
    SubElement(header, "h1").text = plain(title)
    SubElement(header, "p").text = plain(summary)
    line = SubElement(header, "p", {"class": "soft"})
    line.text = plain(about, 10_000) + " "
    if embedded:
        badge = SubElement(line, "strong", {"class": "badge"})
        badge.text = "demonstration: embedded (generated) data"
    items = SubElement(SubElement(header, "nav", {"aria-label": "Sections"}), "ul")
    for section in sections:
        leaderboard.link(SubElement(items, "li"), f"#{section.key}", section.title)
    main = SubElement(body, "main")
    for section in sections:
        write_section(main, section, drawings)
    part = SubElement(main, "section", {"aria-labelledby": "how-title"})
    SubElement(part, "h2", id="how-title").text = "How to read the numbers"
    told = SubElement(part, "dl")
    for term, meaning in terms.items():
        SubElement(told, "dt").text = term
        SubElement(told, "dd").text = plain(meaning, 10_000)
    footer = SubElement(SubElement(body, "footer"), "p", {"class": "soft"})
    footer.text = f"Made by harness-plugin {__version__}."
    return shell.written()


def write_section(main: Element, section: Section, drawings: Mapping[str, Path]) -> None:
    """A heading, what is to know, figures, tables."""
    part = SubElement(
        main, "section", {"id": section.key, "aria-labelledby": f"{section.key}-title"}
    )
    SubElement(part, "h2", id=f"{section.key}-title").text = section.title
    SubElement(part, "p").text = plain(section.text, 10_000)
    for name in section.figures:
        data = base64.b64encode(drawings[name].read_bytes()).decode()
        SubElement(
            part,
            "img",
            {
                "src": f"data:image/svg+xml;base64,{data}",
                "alt": f"{section.title}: the numbers are in the tables below",
                "class": "figure",
            },
        )
    for index, one in enumerate(section.tables):
        write_table(part, one, f"{section.key}-{index}")


def write_table(part: Element, wanted: Table, anchor: str) -> None:
    """One table in a frame that scrolls sideways."""
    if wanted.title:
        SubElement(part, "h3", id=anchor).text = plain(wanted.title)
    if wanted.note:
        SubElement(part, "p", {"class": "soft"}).text = plain(wanted.note)
    frame = {"class": "scroll", "role": "region", "tabindex": "0"}
    frame |= {"aria-labelledby": anchor} if wanted.title else {"aria-label": "Table"}
    table = SubElement(SubElement(part, "div", frame), "table")
    line = SubElement(SubElement(table, "thead"), "tr")
    numeric = [
        any(isinstance(row[index], int | Number | tuple) for row in wanted.rows)
        for index in range(len(wanted.columns))
    ]
    for column, is_number in zip(wanted.columns, numeric, strict=True):
        cell = SubElement(
            line, "th", {"scope": "col", **({"class": "number"} if is_number else {})}
        )
        cell.text = plain(column)
    scales = {name: scale_of(wanted, name) for name in wanted.drawn if name in wanted.columns}
    bound = max(
        (
            abs(c.value)
            for row in wanted.rows
            for c in row
            if isinstance(c, Number) and math.isfinite(c.value)
        ),
        default=0.0,
    )
    body = SubElement(table, "tbody")
    for row in wanted.rows:
        line = SubElement(body, "tr")
        for index, (column, value) in enumerate(zip(wanted.columns, row, strict=True)):
            cell = write_cell(line, value, numeric[index], scales.get(column))
            if wanted.heat and isinstance(value, Number) and bound and math.isfinite(value.value):
                step = round(HEAT * value.value / bound)
                cell.set("class", f"number {'wider' if step > 0 else 'narrower'}-{abs(step)}")


def write_cell(
    line: Element, value: Cell, is_number: bool, scale: Callable[[float], float] | None
) -> Element:
    """A cell; numbers with their interval below, drawn where there is a scale."""
    cell = SubElement(line, "td", {"class": "number"} if is_number else {})
    if isinstance(value, Number):
        write_number(cell, value, scale)
    elif isinstance(value, tuple):
        cell.text = rank(value)
    elif isinstance(value, int):
        cell.text = f"{value:,}"
    else:
        SubElement(cell, "bdi").text = plain(value or "")
    return cell


def write_number(cell: Element, value: Number, scale: Callable[[float], float] | None) -> None:
    """Percent and interval; what is undefined says why when pointed at."""
    if value.reason:
        cell.set("title", plain(value.reason))
    if math.isnan(value.value):
        cell.text = NONE
        return
    shown = SubElement(cell, "strong" if value.clear else "span")
    shown.text = percent(value.value, value.signed) + (MARK if value.marked else "")
    if math.isnan(value.low) or math.isnan(value.high):
        return
    interval = SubElement(cell, "span", {"class": "soft"})
    interval.text = f"{percent(value.low, value.signed)} to {percent(value.high, value.signed)}"
    if scale:
        leaderboard.drawing(cell, value.low, value.value, value.high, scale)


def scale_of(wanted: Table, column: str) -> Callable[[float], float]:
    """One scale for a column, with 0 on it where numbers are differences."""
    index = wanted.columns.index(column)
    numbers = [row[index] for row in wanted.rows if isinstance(row[index], Number)]
    known = [one for one in numbers if isinstance(one, Number)]
    ends = [end for one in known for end in (one.low, one.value, one.high) if math.isfinite(end)]
    if any(one.signed for one in known):
        ends.append(0.0)
    return leaderboard.scaled(min(ends, default=0.0), max(ends, default=1.0))
