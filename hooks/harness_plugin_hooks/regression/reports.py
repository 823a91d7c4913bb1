"""A comparison on the terminal, as Markdown, as JUnit XML and for github-action-benchmark."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from harness_plugin import __version__
from harness_plugin.errors import HarnessError
from harness_plugin.records import Estimate
from harness_plugin.scoring.gate import Check, Comparison, State, worst
from harness_plugin.scoring.verdict import points
from harness_plugin.store.files import write_text
from harness_plugin_hooks.render.document import (
    Block,
    Column,
    Document,
    Folded,
    Items,
    Section,
    Table,
    Text,
)
from harness_plugin_hooks.render.html import page
from harness_plugin_hooks.render.markdown import written
from harness_plugin_hooks.render.terminal import terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def headline(comparison: Comparison) -> str:
    """The names of the compared models or runs."""
    baseline, candidate = comparison.baseline, comparison.candidate
    return f"{comparison.task} ({candidate.source}): {candidate} against {baseline}"


def section(comparison: Comparison) -> Section:
    """The checks, the groups, a sentence for every check not passed and every set, the notes."""
    groups = group_table(comparison)
    sentences = [
        (Text(check.state, check.state), f": {sentence(check)}")
        for check in comparison.checks
        if check.state != "pass"
    ]
    flips = [f"changed answers: {flip.sentence}" for flip in comparison.flips]
    notes = [f"note: {note}" for note in comparison.notes]
    blocks: list[Block] = [check_table(comparison), Folded(groups.title, [groups])]
    blocks.append(Items([*sentences, *flips, *notes]))
    return Section(headline(comparison), comparison.task, blocks)


def check_table(comparison: Comparison) -> Table:
    """One row a check; percent and percentage points."""
    titles = (
        "set",
        "metric",
        "baseline",
        "candidate",
        "worse (+) or better (-) [95%]",
        "limit",
        "verdict",
    )
    return Table(
        f"{comparison.pairs} pair(s) of models, mean ± sd over seeds, %; a verdict needs "
        f"{comparison.thresholds.min_seeds} seeds",
        tuple(map(Column, titles)),
        [
            (
                "/".join(filter(None, (c.split, c.gate.subset))),
                c.metric.name,
                percent(c.change.baseline),
                percent(c.change.candidate),
                between(c.change.value, c.change.low, c.change.high),
                f"{100 * c.gate.limit:g}",
                Text(c.state, c.state),
            )
            for c in comparison.checks
        ],
    )


def group_table(comparison: Comparison) -> Table:
    """One row a group: both accuracies, and the rows whose answers differ."""
    titles = ("set", "group", "n", "baseline", "candidate [Wilson 95%]", "changed", "by seeds")
    return Table(
        "accuracy and changed answers by group, %; by seeds: between two seeds of one side; "
        "lost: right to wrong, repaired: wrong to right; p: exact McNemar test of lost against "
        "repaired, Holm over a set's groups and seeds",
        tuple(map(Column, (*titles, "lost", "repaired", "p"))),
        [
            (
                group.split,
                f"{group.group} (baseline's worst)" if group.worst else group.group or "all rows",
                flips.n,
                f"{100 * group.baseline:.1f}",
                f"{100 * group.candidate:.1f} [{100 * group.bounds[0]:.1f}, "
                f"{100 * group.bounds[1]:.1f}]",
                f"{100 * flips.changed:.1f}",
                "n/a" if flips.expected is None else f"{100 * flips.expected:.1f}",
                f"{100 * flips.lost:.1f}",
                f"{100 * flips.repaired:.1f}",
                "< 0.0001" if flips.p < 0.0001 else f"{flips.p:.4f}",
            )
            for flip in comparison.flips
            for group in flip.groups
            for flips in [group.flips]
        ],
        titled=False,
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
    """The outcome of a check in one sentence."""
    return f"{check.metric.name} on {check.name.rpartition('/')[0]} {check.sentence}"


def on_terminal(comparison: Comparison) -> list[RenderableType]:
    """The console's view of one task."""
    return list(terminal(section(comparison)))


def markdown(comparisons: Sequence[Comparison]) -> str:
    """The step summary: verdict first, groups folded away."""
    title = f"Debiasing gate: {verdict_of(comparisons)}"
    return "\n".join(written(Section(title, "gate", [section(c) for c in comparisons]), level=2))


def html(comparisons: Sequence[Comparison]) -> str:
    """The same as a page."""
    title = f"Debiasing gate: {verdict_of(comparisons)}"
    sections = [section(comparison) for comparison in comparisons]
    return page(Document(title, [], sections, f"Made by harness-plugin {__version__}.", wide=True))


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
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in settings_of(comparison):
            ElementTree.SubElement(properties, "property", name=legal(name), value=legal(value))
        for check in comparison.checks:
            case = ElementTree.SubElement(
                suite, "testcase", classname=comparison.task, name=legal(check.name), time="0"
            )
            message = legal(sentence(check))
            if check.state == "regressed":
                failure = ElementTree.SubElement(case, "failure", message=message, type="regressed")
                failure.text = message
            elif check.state == "undecided":
                ElementTree.SubElement(case, "skipped", message=message)
            ElementTree.SubElement(case, "system-out").text = message
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def settings_of(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """What the verdicts rest on, by name, and each set's flips in a sentence."""
    for name in ("min_seeds", "min_group", "resamples"):
        yield name, str(getattr(comparison.thresholds, name))
    for check in comparison.checks:
        yield f"margin {check.name}", f"{check.gate.limit:g}"
    for flips in comparison.flips:
        yield f"flips {flips.split}", flips.sentence


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
            estimate = check.change.candidate
            if check.metric.higher_is_better != higher_is_better or math.isnan(estimate.value):
                continue
            value = abs(estimate.value) if check.metric.kind == "gap" else estimate.value
            name = f"{comparison.task}/{check.name}"
            rows[name] = {"name": name, "unit": "%", "value": round(100 * value, 6)}
            rows[name]["extra"] = sentence(check)
            if not math.isnan(estimate.sd):
                rows[name]["range"] = f"± {100 * estimate.sd:.2f}"
    return json.dumps(list(rows.values()), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


FILES: dict[str, Callable[[Sequence[Comparison]], str]] = {
    "comparison.md": markdown,
    "comparison.html": html,
    "comparison.junit.xml": junit,
    "benchmark_bigger_is_better.json": lambda compared: benchmark(compared, higher_is_better=True),
    "benchmark_smaller_is_better.json": lambda compared: benchmark(
        compared, higher_is_better=False
    ),
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
