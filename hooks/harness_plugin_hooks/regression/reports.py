"""A comparison on the terminal, as Markdown, as JUnit XML and for github-action-benchmark."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from harness_plugin.errors import HarnessError
from harness_plugin.files import write_text
from harness_plugin.records import Estimate
from harness_plugin.scoring.gate import Check, Comparison, State, worst
from harness_plugin.scoring.verdict import points

if TYPE_CHECKING:
    from rich.console import RenderableType

COLOURS = {"pass": "green", "regressed": "red", "undecided": "yellow"}
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Grid:
    """A table, whatever shows it: a title, columns, and rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def headline(comparison: Comparison) -> str:
    """What is compared with what."""
    baseline, candidate = comparison.baseline, comparison.candidate
    return f"{comparison.task} ({candidate.source}): {candidate} against {baseline}"


def check_grid(comparison: Comparison) -> Grid:
    """One row a check; percent and percentage points."""
    return Grid(
        f"{comparison.pairs} pair(s) of models, mean ± sd over seeds, %; change for the worse",
        ("set", "metric", "baseline", "candidate", "worse by [95%]", "limit", "verdict"),
        [
            (
                "/".join(filter(None, (c.split, c.gate.subset))),
                c.metric.name,
                percent(c.change.baseline),
                percent(c.change.candidate),
                between(c.change.value, c.change.low, c.change.high),
                f"{100 * c.gate.limit:g}",
                c.state,
            )
            for c in comparison.checks
        ],
    )


def group_grid(comparison: Comparison) -> Grid:
    """One row a group: both accuracies, and the rows on which the models differ."""
    return Grid(
        "accuracy by group, %; p: exact McNemar test, Holm over a set's groups and seeds",
        ("set", "group", "n", "baseline", "candidate [Wilson 95%]", "lost", "won", "p"),
        [
            (
                test.split,
                f"{test.group} (baseline's worst)" if test.worst else test.group or "all rows",
                f"{test.n:,}",
                f"{100 * test.baseline:.1f}",
                f"{100 * test.candidate:.1f} [{100 * test.bounds[0]:.1f}, "
                f"{100 * test.bounds[1]:.1f}]",
                f"{test.only_baseline:,}",
                f"{test.only_candidate:,}",
                "< 0.0001" if test.p < 0.0001 else f"{test.p:.4f}",
            )
            for test in comparison.groups
        ],
    )


def percent(estimate: Estimate) -> str:
    """`84.2 ± 1.3`."""
    if math.isnan(estimate.value):
        return "n/a"
    text = f"{100 * estimate.value:.1f}"
    return text if math.isnan(estimate.sd) else f"{text} ± {100 * estimate.sd:.1f}"


def between(value: float, low: float, high: float) -> str:
    """`+3.1 [+1.0, +5.2]`."""
    if math.isnan(low):
        return "n/a"
    return f"{points(value)} [{points(low)}, {points(high)}]"


def sentence(check: Check) -> str:
    """What a check says, in one sentence."""
    return f"{check.metric.name} on {check.name.rpartition('/')[0]} {check.sentence}"


def not_passed(comparison: Comparison) -> list[Check]:
    """The checks that need a word."""
    return [check for check in comparison.checks if check.state != "pass"]


def on_terminal(comparison: Comparison) -> list[RenderableType]:
    """The tables, a sentence for every check that is not passed, and the notes."""
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = ["", Text(headline(comparison), style="bold")]
    for grid, texts in ((check_grid(comparison), 2), (group_grid(comparison), 2)):
        table = Table(title=grid.title, title_justify="left")
        for index, column in enumerate(grid.columns):
            table.add_column(column, justify="left" if index < texts else "right", overflow="fold")
        for row in grid.rows:
            table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
        parts.append(table)
    for check in not_passed(comparison):
        verdict = Text(f"{check.state.upper()} ", style=f"bold {COLOURS[check.state]}")
        parts.append(verdict.append(sentence(check), style="not bold default"))
    return [*parts, *(Text(f"note: {note}") for note in comparison.notes)]


def markdown(comparisons: Sequence[Comparison]) -> str:
    """The step summary: verdict first, groups folded away."""
    state = worst(c.state for c in comparisons)
    lines = [f"## Debiasing gate: {state}", ""]
    for comparison in comparisons:
        lines += [f"### {escaped(headline(comparison))}", "", *pipes(check_grid(comparison)), ""]
        lines += [
            f"- **{check.state}**: {escaped(sentence(check))}" for check in not_passed(comparison)
        ]
        lines += [f"- note: {escaped(note)}" for note in comparison.notes]
        grid = group_grid(comparison)
        lines += ["", f"<details><summary>{escaped(grid.title)}</summary>", ""]
        lines += [*pipes(grid)[2:], "", "</details>", ""]
    return "\n".join(lines)


def pipes(grid: Grid) -> list[str]:
    """A Markdown table below its title."""
    lines = [escaped(grid.title), ""]
    for cells in (grid.columns, ("---",) * len(grid.columns), *grid.rows):
        lines.append(f"| {' | '.join(map(escaped, cells))} |")
    return lines


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line: names come from data."""
    safe = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]|#~])", r"\\\1", safe)


def junit(comparisons: Sequence[Comparison]) -> str:
    """One test case a check: a regression is a failure, what is undecided is skipped."""
    root = ElementTree.Element("testsuites", name="harness compare")
    for comparison in comparisons:
        states = [check.state for check in comparison.checks]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=legal(headline(comparison)),
            tests=str(len(states)),
            failures=str(states.count("regressed")),
            errors="0",
            skipped=str(states.count("undecided")),
            time="0",
        )
        for check in comparison.checks:
            case = ElementTree.SubElement(
                suite, "testcase", classname=comparison.task, name=legal(check.name), time="0"
            )
            said = legal(sentence(check))
            if check.state == "regressed":
                ElementTree.SubElement(case, "failure", message=said, type="regressed").text = said
            elif check.state == "undecided":
                ElementTree.SubElement(case, "skipped", message=said)
            ElementTree.SubElement(case, "system-out").text = said
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def legal(text: str) -> str:
    """Text without the characters that XML cannot hold."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def benchmark(comparisons: Sequence[Comparison], higher_is_better: bool) -> str:
    """The candidate's numbers for github-action-benchmark, in one direction.

    Of a gap the size: it says "smaller is better", and a gap below 0 is a bias as well.
    """
    rows: dict[str, dict[str, Any]] = {}
    for comparison in comparisons:
        for check in comparison.checks:
            found = check.change.candidate
            if check.metric.higher_is_better != higher_is_better or math.isnan(found.value):
                continue
            value = abs(found.value) if check.metric.kind == "gap" else found.value
            name = f"{comparison.task}/{check.name}"
            rows[name] = {"name": name, "unit": "%", "value": round(100 * value, 6)}
            rows[name]["extra"] = sentence(check)
            if not math.isnan(found.sd):
                rows[name]["range"] = f"± {100 * found.sd:.2f}"
    return json.dumps(list(rows.values()), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


FILES: dict[str, Callable[[Sequence[Comparison]], str]] = {
    "comparison.md": markdown,
    "comparison.junit.xml": junit,
    "benchmark_bigger_is_better.json": lambda found: benchmark(found, higher_is_better=True),
    "benchmark_smaller_is_better.json": lambda found: benchmark(found, higher_is_better=False),
}
"""Their names do not change from run to run: a workflow names them."""


def write_reports(comparisons: Sequence[Comparison], folder: Path) -> list[Path]:
    """Every file, in `folder`; HarnessError when one cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, report in FILES.items():
            write_text(folder / name, report(comparisons))
    except OSError as error:
        raise HarnessError(f"{folder}: cannot be written: {error.strerror}.") from None
    return [folder / name for name in FILES]


def verdict_of(comparisons: Iterable[Comparison]) -> State:
    """The verdict on all tasks together."""
    return worst(comparison.state for comparison in comparisons)
