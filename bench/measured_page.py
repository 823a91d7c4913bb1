"""The tables of methods and of deviations in a page: filled whole, or row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

END = "<!-- end of table -->"
AGAIN = "Measured again at commit "


@dataclass
class Row:
    """Results in %: (value, low, high) of means over seeds, None for an unknown bound.

    `difference` is worst-group accuracy minus the reference's, paired by seed; `better` counts the
    seeds in which it is above 0. `failure` says why there are no numbers.
    """

    name: str
    acc: list[float | None] = field(default_factory=list)
    worst: list[float | None] = field(default_factory=list)
    difference: list[float | None] = field(default_factory=list)
    better: int = 0
    seeds: int = 0
    failure: str = ""
    crashed: bool = False

    def line(self) -> str:
        """As a line of Markdown."""
        if self.failure:
            return f"| {self.name} | {self.failure} | | | |"
        cells = [number(self.acc), number(self.worst)]
        if self.difference:
            cells += [number(self.difference, "+"), f"{self.better} of {self.seeds}"]
        return f"| {' | '.join([self.name, *cells, *[''] * (4 - len(cells))])} |"


def number(values: Sequence[float | None], sign: str = "") -> str:
    """`41.2 [30.0, 52.4]`; without bounds where there is no interval."""
    value, low, high = values
    bounds = "" if low is None else f" [{low:{sign}.1f}, {high:{sign}.1f}]"
    return f"{value:{sign}.1f}{bounds}"


def table(record: dict[str, Any], reference: str = "ERM") -> list[str]:
    """The Markdown table of one task."""
    return [
        f"`{record['task']}`, set `{record['set']}`, {record['model']}:",
        "",
        f"| method | accuracy | worst group | against {reference} | better |",
        "|---|--:|--:|--:|:-:|",
        *(Row(**row).line() for row in record["rows"]),
        "",
    ]


def page_lines(measured: dict[str, Any]) -> list[str]:
    """The lines between the marks of a page."""
    seeds = ", ".join(map(str, measured["seeds"]))
    head = f"`{measured['command']}`, commit {measured['commit']}, fp32, one thread, seeds {seeds}."
    tables = [line for each in measured["tables"] for line in table(each, measured["against"])]
    return [f"{head} In %, with 95% intervals.", "", *tables]


def write(page: Path, start: str, lines: Sequence[str]) -> None:
    """Replace what stands between the marks of a page."""
    before, mark, rest = page.read_text(encoding="utf-8").partition(start)
    if not mark or END not in rest:
        raise SystemExit(f"{page}: no table between {start} and {END}.")
    text = "\n".join([before + start, "", *lines, END + rest.partition(END)[2]])
    page.write_text(text, encoding="utf-8")


def between(page: Path, start: str) -> list[str]:
    """The lines between the marks of a page."""
    _, mark, rest = page.read_text(encoding="utf-8").partition(start)
    if not mark or END not in rest:
        raise SystemExit(f"{page}: no table between {start} and {END}.")
    return rest.partition(END)[0].strip().splitlines()


def merged(
    old: Sequence[str], measured: Mapping[str, Any], names: Mapping[str, Sequence[str]]
) -> list[str]:
    """The lines of a page with the measured rows in the place of those of the same name.

    `names`: the rows that the table of each task is to have. Of others the line goes; a new row
    stands last. Raises SystemExit where the page has other seeds or settings or no table of a task,
    and where the reference's row has changed: the rows that are kept were measured against it.
    """
    head, lines = old[0], list(old)
    new_head, *_ = page_lines(measured)
    if head.partition(", fp32")[2] != new_head.partition(", fp32")[2]:
        raise SystemExit(f"The page has other seeds or settings: {head}")
    changed: dict[str, None] = {}
    for record in measured["tables"]:
        title = table(record)[0]
        if title not in lines:
            raise SystemExit(f"The page has no table of {title}")
        begin = lines.index(title) + 4
        end = lines.index("", begin) if "" in lines[begin:] else len(lines)
        rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines[begin:end]}
        for row in (Row(**each) for each in record["rows"]):
            if row.difference or row.failure:
                changed[row.name] = None
            elif rows.get(row.name) != row.line():
                raise SystemExit(f"{record['task']}: the reference is another now: {row.line()}")
            rows[row.name] = row.line()
        lines[begin:end] = [rows[name] for name in rows if name in names[record["task"]]]
    lines[1:1] = ["", f"{AGAIN}{measured['commit']}: {', '.join(changed)}."]
    return [*lines, ""]
