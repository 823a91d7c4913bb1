"""The report of a study: a document of sections with tables and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness_plugin import __version__
from harness_plugin.records import DEFAULT_RULE
from harness_plugin_hooks.render.document import (
    Block,
    Cell,
    Document,
    Figure,
    Items,
    Paragraph,
    Section,
    Table,
    Terms,
    Text,
)
from harness_plugin_hooks.render.text import rule_words
from harness_plugin_hooks.report.figures.drawing import THEME
from harness_plugin_hooks.study.report.analysis import StudyEstimate
from harness_plugin_hooks.study.report.ladder import ladder_tables
from harness_plugin_hooks.study.report.reading import (
    RESPONSES,
    Study,
)
from harness_plugin_hooks.study.report.tables import (
    bias_type_tables,
    columns,
    configuration_tables,
    effect_tables,
    rank_tables,
    scale_tables,
    spoken,
    verdict_tables,
)

FIGURES = {
    "effects": "Above 0 the student loses more than with the reference; lines: 95% intervals.",
    "scale": "Gap widening in points, below it its 95% interval.",
    "bias_types": "Accuracy of the student minus its teacher's, in points; lines: 95% intervals.",
}
"""Captions of a section's figure."""


def report(
    study: Study,
    estimates: Sequence[StudyEstimate],
    figures: Mapping[str, Path],
    parameters: Mapping[str, int],
    answer: Sequence[str],
    embedded: bool,
) -> Document:
    """The whole document: `answer` answers the plan's question, the rest is as in `sections`."""
    line: list[str | Text] = [size(study)]
    if embedded:
        line += [" ", Text("demonstration: embedded (generated) data", "badge")]
    terms = [Terms(list(how_to_read(study).items()))]
    return Document(
        f"Study {study.name}",
        [
            Paragraph(study.summary),
            *([Paragraph(answer[0], "answer")] if answer else []),
            *([Items(answer[1:])] if answer[1:] else []),
            Paragraph(line, "soft"),
        ],
        [
            *sections(study, estimates, figures, parameters),
            Section("How to read the numbers", "how", terms),
        ],
        f"Made by harness-plugin {__version__}.",
        contents="Sections",
        wide=True,
    )


def size(study: Study) -> str:
    """The size of the study in a sentence."""
    configurations = str(study.numbers.configuration.nunique())
    if int(configurations) < study.planned:
        configurations = f"{configurations} of {study.planned}"
    trained = len(study.numbers[["configuration", "seed"]].drop_duplicates())
    sources = ", ".join(sorted(set(study.numbers.source)))
    seeds = ", ".join(map(str, study.seeds))
    factors = "; ".join(f"{name}: {', '.join(study.levels_of(name))}" for name in study.factors)
    return (
        f"{configurations} configurations, {trained} runs, seeds {seeds}; data {sources}. "
        f"Factors: {factors or 'none'}."
    )


def sections(
    study: Study,
    estimates: Sequence[StudyEstimate],
    figures: Mapping[str, Path],
    parameters: Mapping[str, int],
) -> list[Section]:
    """The sections in the order in which they are read; `figures` are files by section.

    `parameters` are counts by "teacher=LEVEL" or "student=LEVEL" of a task ("TASK: …").
    """
    rules = [rule_words(*rule) for rule in study.rules]
    by = f" ({'; or '.join(rules)})" if rules else ""
    every: tuple[tuple[str, str, str, Iterable[Table]], ...] = (
        (
            "ranks",
            "Levels and ranks",
            "The mean of each level over the configurations that all levels of its factor have in "
            "common, with 95% intervals. 1\u20133 means that first, second and third "
            "cannot be told apart from here: one is ranked above another only if its whole "
            "interval is.",
            rank_tables(study, estimates),
        ),
        (
            "effects",
            "Effects",
            "Each level against its factor's reference, over pairs of configurations that differ "
            "in nothing else. \u2020 marks those whose p-value stays below .05 after Holm's "
            "adjustment for the levels compared.",
            effect_tables(study, estimates),
        ),
        (
            "scale",
            "Scale",
            "Gap widening by the teacher's size (down) and the student's (across).",
            scale_tables(study, estimates, parameters),
        ),
        (
            "ladder",
            "Ladder",
            "From the largest student to the smallest: what every group is left with. The knee is "
            f"the smallest whose debiasing is kept by the rule of verdicts{by}.",
            ladder_tables(study),
        ),
        (
            "bias_types",
            "Bias types",
            "Accuracy of the student minus its teacher's within each bias type and each group: an "
            "unchanged average can hide large opposite changes.",
            bias_type_tables(study, estimates),
        ),
        (
            "verdicts",
            "Verdicts",
            "Is the debiasing kept? How many configurations got which answer, by a run's rule"
            f"{by}.",
            verdict_tables(study),
        ),
        (
            "configurations",
            "All configurations",
            "Each configuration and student: whether the debiasing is kept, by a run's rule"
            f"{by}, and its numbers over seeds and rows. Answers changed: the share of rows "
            "that the student answers otherwise than its teacher.",
            configuration_tables(study),
        ),
    )
    out = []
    for key, title, text, of_section in every:
        blocks: list[Block] = [Paragraph(text)]
        if file := figures.get(key):
            svg = file.read_text(encoding="utf-8")
            blocks.append(Figure(title, svg, file.name, FIGURES[key], theme=THEME))
        if tables := list(of_section):
            out.append(Section(title, key, [*blocks, *tables]))
    return [*out, undefined(study, estimates)]


def undefined(study: Study, estimates: Sequence[StudyEstimate]) -> Section:
    """Undefined numbers, counted, with their configurations and reasons."""
    rows: list[tuple[Cell, ...]] = []
    for where in study.sets:
        for response in RESPONSES:
            answers = study.answers(response, where)
            lacking = answers[answers.value.isna()]
            for reason, part in lacking.groupby("reason", sort=False):
                names = list(dict.fromkeys(map(str, part.configuration)))
                some = ", ".join(names[:3]) + (
                    f" and {len(names) - 3} more" if len(names) > 3 else ""
                )
                rows.append(
                    (where.name, spoken(response.name), len(part), len(answers), some, str(reason))
                )
    seeds = study.numbers.groupby("configuration", sort=False).seed.nunique()
    if (missing := study.planned - len(seeds)) > 0:
        rows.append(("all", "all", missing, study.planned, "", "not finished in any seed"))
    for configuration, count in seeds[seeds < len(study.seeds)].items():
        rows.append(
            (
                "all",
                "all",
                len(study.seeds) - int(count),
                len(study.seeds),
                str(configuration),
                "seeds that were not trained",
            )
        )
    reasons = Counter(
        one.average.reason for one in estimates if one.kind == "effect" and one.average.reason
    )
    text = "Every number that was asked for is defined."
    if rows:
        text = "Undefined numbers are left out of the means above, with all seeds of their pair."
    if reasons:
        most = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common(5))
        text += f" Effects that could not be estimated: {most}."
    heads = columns("set", "number", "undefined", "of", "configurations", "reason")
    blocks: list[Block] = [Paragraph(text), *([Table("", heads, rows)] if rows else [])]
    return Section("What is undefined", "undefined", blocks)


def how_to_read(study: Study) -> dict[str, str]:
    """Terms and what they mean."""
    gaps = ", ".join(f"{one.gap or 'none'} on {one.name}" for one in study.sets)
    return {
        "interval": "95%. Of levels, effects, scales and bias types: Student's t over seeds, each "
        "seed the mean of the same configurations; seeds are the random effect, configurations the "
        "fixed ones. The chance of the test rows, which all seeds share, is added as an upper "
        "bound; to retention it is not added. What a run has too few rows for has none here "
        "either; the reason is shown when the number is pointed at. Of single configurations: over "
        "seeds and rows, by the rule of all runs (docs/verdicts.md).",
        "rank": f"needs {DEFAULT_RULE.min_seeds} seeds; intervals that overlap share their ranks.",
        **{spoken(response.name): response.about for response in RESPONSES},
        "gap": f"{gaps}. Signed: below 0 is the opposite bias.",
        "numbers": "percent; differences in points, bold where the interval leaves 0 out.",
    }
