"""What the report of a study says: a document of sections with tables and figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from harness_plugin import __version__
from harness_plugin.records import DEFAULT_RULE
from harness_plugin_hooks.render.document import (
    Block,
    Cell,
    Column,
    Document,
    Figure,
    Items,
    Number,
    Paragraph,
    Section,
    Table,
    Terms,
    Text,
)
from harness_plugin_hooks.report.drawing import THEME
from harness_plugin_hooks.study_report.analysis import Found, split_by
from harness_plugin_hooks.study_report.effects import Average
from harness_plugin_hooks.study_report.reading import (
    BY_NAME,
    FACTOR,
    RESPONSES,
    ROLE,
    EvaluationSet,
    Study,
)

FIGURES = {
    "effects": "Above 0 the student loses more than with the reference; lines: 95% intervals.",
    "scale": "Gap widening in points, below it its 95% interval.",
    "bias_types": "Accuracy of the student minus its teacher's, in points; lines: 95% intervals.",
}
"""What is seen in the figure of a section."""

SHOWN = ("gap_widening", "retention", "contribution", "worst_group_acc", "acc")


def report(
    study: Study,
    found: Sequence[Found],
    figures: Mapping[str, Path],
    parameters: Mapping[str, int],
    told: Sequence[str],
    embedded: bool,
) -> Document:
    """The whole document: `told` answers the plan's question, the rest is as in `sections`."""
    line: list[str | Text] = [size(study)]
    if embedded:
        line += [" ", Text("demonstration: embedded (generated) data", "badge")]
    terms = [Terms(list(how_to_read(study).items()))]
    return Document(
        f"Study {study.name}",
        [
            Paragraph(study.summary),
            *([Paragraph(told[0], "answer")] if told else []),
            *([Items(told[1:])] if told[1:] else []),
            Paragraph(line, "soft"),
        ],
        [
            *sections(study, found, figures, parameters),
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
    study: Study, found: Sequence[Found], figures: Mapping[str, Path], parameters: Mapping[str, int]
) -> list[Section]:
    """The sections in the order in which they are read; `figures` are files by section.

    `parameters` are counts by "teacher=LEVEL" or "student=LEVEL" of a task ("TASK: …").
    """
    every: tuple[tuple[str, str, str, Iterable[Table]], ...] = (
        (
            "ranks",
            "Levels and ranks",
            "The mean of each level over the configurations that all levels of its factor have in "
            "common, with 95% intervals. 1\u20133 means that first, second and third "
            "cannot be told apart from here: one is ranked above another only if its whole "
            "interval is.",
            rank_tables(study, found),
        ),
        (
            "effects",
            "Effects",
            "Each level against its factor's reference, over pairs of configurations that differ "
            "in nothing else. \u2020 marks those whose p-value stays below .05 after Holm's "
            "adjustment for the levels compared.",
            effect_tables(study, found),
        ),
        (
            "scale",
            "Scale",
            "Gap widening by the teacher's size (down) and the student's (across).",
            scale_tables(study, found, parameters),
        ),
        (
            "bias_types",
            "Bias types",
            "Accuracy of the student minus its teacher's within each bias type and each group: an "
            "unchanged average can hide large opposite changes.",
            bias_type_tables(study, found),
        ),
        (
            "configurations",
            "All configurations",
            "Each configuration and student, by the rule of a run: over seeds and rows.",
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
    return [*out, undefined(study, found)]


def number(average: Average, signed: bool, marked: bool = False) -> Number:
    """An average as a cell."""
    return Number(average.value, average.low, average.high, signed, average.reason, marked)


def titled(where: EvaluationSet, text: str) -> str:
    """A table's title."""
    return f"{where.name}: {text}"


def rank_tables(study: Study, found: Sequence[Found]) -> Iterator[Table]:
    """For every factor one table: a row for each set, student and level."""
    means = [one for one in found if one.kind == "mean"]
    for factor in study.factors:
        rows, unmatched = [], False
        of_factor = [one for one in means if one.factor == factor]
        for task, split, role, level in in_turn(of_factor):
            cells = {
                one.response: one
                for one in of_factor
                if (one.task, one.split, one.role, one.level) == (task, split, role, level)
            }
            unmatched |= not all(one.matched for one in cells.values())
            by_gap, by_worst = cells.get("gap_widening"), cells.get("worst_group_acc")
            rows.append(
                (
                    place(task, split),
                    *([] if factor == ROLE else [role]),
                    level,
                    by_gap.rank if by_gap else None,
                    by_worst.rank if by_worst else None,
                    *(
                        number(cells[name].average, BY_NAME[name].difference)
                        if name in cells
                        else None
                        for name in SHOWN
                    ),
                )
            )
        yield trimmed(
            Table(
                f"By {factor}",
                columns(
                    "set",
                    *([] if factor == ROLE else ["role"]),
                    factor,
                    "rank: gap",
                    "rank: worst group",
                    *map(spoken, SHOWN),
                    drawn=(spoken("gap_widening"), spoken("worst_group_acc")),
                ),
                rows,
                "Not all levels were trained in the same configurations: each mean is over its own."
                if unmatched
                else "",
            )
        )


def effect_tables(study: Study, found: Sequence[Found]) -> Iterator[Table]:
    """For every factor one table: a row for each set, student and level but the reference."""
    effects = [one for one in found if one.kind == "effect"]
    for factor in study.factors:
        rows = []
        of_factor = [one for one in effects if one.factor == factor]
        for task, split, role, level in in_turn(of_factor):
            cells = {
                one.response: one
                for one in of_factor
                if (one.task, one.split, one.role, one.level) == (task, split, role, level)
            }
            any_cell = next(iter(cells.values()))
            rows.append(
                (
                    place(task, split),
                    *([] if factor == ROLE else [role]),
                    f"{level} \u2212 {any_cell.reference}",
                    *(
                        number(cells[name].average, True, cells[name].p_holm < 0.05)
                        if name in cells
                        else None
                        for name in SHOWN
                    ),
                    max(one.average.contexts for one in cells.values()),
                )
            )
        yield trimmed(
            Table(
                f"Effects of {factor}",
                columns(
                    "set",
                    *([] if factor == ROLE else ["role"]),
                    factor,
                    *map(spoken, SHOWN),
                    "pairs",
                    drawn=(spoken("gap_widening"),),
                ),
                rows,
            )
        )


def in_turn(found: Sequence[Found]) -> list[tuple[str, str, str, str]]:
    """Task, split, student and level of each row, in order."""
    return list(
        dict.fromkeys((one.task, one.split, one.role, one.level) for one in sorted_by(found))
    )


def sorted_by(found: Sequence[Found]) -> list[Found]:
    """By set, those over all sets last, then student; levels stay in the plan's order."""
    sets = list(dict.fromkeys((one.task, one.split) for one in found if one.task))
    order = {where: position for position, where in enumerate(sets)}
    return sorted(found, key=lambda one: (order.get((one.task, one.split), len(order)), one.role))


def place(task: str, split: str) -> str:
    """The name of a set, or of all."""
    return f"{task}, {split}" if task else "all sets"


def trimmed(table: Table) -> Table:
    """Without columns that have the same or nothing to say in every row."""
    kept = [
        index
        for index, column in enumerate(table.columns)
        if any(said(row[index]) for row in table.rows)
        and not (
            column.title in ("set", "role")
            and len({row[index] for row in table.rows}) == 1
            and len(table.rows) > 1
        )
    ]
    return replace(
        table,
        columns=tuple(table.columns[index] for index in kept),
        rows=[tuple(row[index] for index in kept) for row in table.rows],
    )


def columns(*titles: str, drawn: Sequence[str] = ()) -> tuple[Column, ...]:
    """Columns by title; the intervals of some are drawn."""
    return tuple(Column(title, drawn=title in drawn) for title in titles)


def said(cell: Cell) -> bool:
    """Whether a cell says anything."""
    if isinstance(cell, Number):
        return not math.isnan(cell.value) or bool(cell.reason)
    return cell is not None and cell != ""


def scale_tables(
    study: Study, found: Sequence[Found], parameters: Mapping[str, int]
) -> Iterator[Table]:
    """A table for each set and student: teachers down, students across."""
    cells = {
        (one.task, one.split, one.role, one.response, one.teacher, one.student): one.average
        for one in found
        if one.kind == "scale"
    }
    if not cells:
        return
    for where in study.sets:
        for role in study.students:
            for response in ("gap_widening", "retention"):
                teachers = [
                    level
                    for level in study.levels["teacher"]
                    if any(
                        key[:2] == (where.task, where.split) and key[4] == level for key in cells
                    )
                ]
                students = [
                    level
                    for level in study.levels["student"]
                    if any(
                        key[:2] == (where.task, where.split) and key[5] == level for key in cells
                    )
                ]
                if not teachers:
                    continue
                rows = tuple(
                    (
                        sized(where.task, "teacher", teacher, parameters),
                        *(
                            number(
                                cells[where.task, where.split, role, response, teacher, student],
                                BY_NAME[response].difference,
                            )
                            if (where.task, where.split, role, response, teacher, student) in cells
                            else None
                            for student in students
                        ),
                    )
                    for teacher in teachers
                )
                heads = columns(
                    "teacher",
                    *(f"student {sized(where.task, 'student', s, parameters)}" for s in students),
                )
                title = f"{spoken(response)} of {role}"
                yield Table(titled(where, title), heads, rows, heat=response == "gap_widening")


def sized(task: str, role: str, level: str, parameters: Mapping[str, int]) -> str:
    """A size with its number of parameters where that is known."""
    count = parameters.get(f"{task}: {role}={level}")
    return f"{level} ({count:,})" if count else level


def bias_type_tables(study: Study, found: Sequence[Found]) -> Iterator[Table]:
    """A table for each set and student: subsets down, levels of a factor across."""
    factor = split_by(study)
    levels = study.levels_of(factor) if factor else ("",)
    for where in study.sets:
        for role in study.students:
            here = [
                one
                for one in found
                if one.kind == "bias_type"
                and (one.task, one.split, one.role) == (where.task, where.split, role)
                and one.response == "distillability"
            ]
            if not any(one.subset for one in here):
                continue
            cells = {(one.subset, one.level): one.average for one in here}
            rows = {one.subset: one.n for one in here}
            present = [level for level in levels if any(key[1] == level for key in cells)]
            yield Table(
                titled(where, f"accuracy of {role} minus its teacher's"),
                columns(
                    "bias type",
                    "rows",
                    *(level or "change" for level in present),
                    drawn=(present[0] or "change",),
                ),
                tuple(
                    (
                        subset or "all rows",
                        n,
                        *(
                            number(cells[subset, level], True) if (subset, level) in cells else None
                            for level in present
                        ),
                    )
                    for subset, n in rows.items()
                ),
            )


def configuration_tables(study: Study) -> Iterator[Table]:
    """A table for each set: every configuration and student."""
    factors = [name for name in study.factors if name in study.levels and name != "task"]
    table = study.estimates[study.estimates.subset == ""]
    for where in study.sets:
        here = table[(table.task == where.task) & (table.split == where.split)]
        rows: list[tuple[Cell, ...]] = []
        for _, of_configuration in here.groupby("configuration", sort=False):
            for role in study.students:
                part = of_configuration[of_configuration.role == role]
                if part.empty:
                    continue
                rows.append(
                    (
                        *(str(part[FACTOR + name].iloc[0]) for name in factors),
                        role,
                        *(estimated(part, name, where) for name in SHOWN),
                    )
                )
        if rows:
            heads = columns(*factors, "role", *map(spoken, SHOWN))
            yield trimmed(Table(where.name, heads, rows))


def estimated(part: pd.DataFrame, response: str, where: EvaluationSet) -> Number | None:
    """One response of one configuration and student."""
    wanted = BY_NAME[response]
    rows = part[(part.measure == wanted.measure) & (part.metric == (wanted.metric or where.gap))]
    if rows.empty:
        return None
    row = rows.iloc[0]
    return Number(
        float(row.value), float(row.low), float(row.high), wanted.difference, str(row.reason)
    )


def undefined(study: Study, found: Sequence[Found]) -> Section:
    """What has no number, counted, with the configurations and the reasons."""
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
        one.average.reason for one in found if one.kind == "effect" and one.average.reason
    )
    text = "Every number that was asked for is defined."
    if rows:
        text = "Undefined numbers are left out of the means above, with all seeds of their pair."
    if reasons:
        told = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common(5))
        text += f" Effects that could not be estimated: {told}."
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
        "bound; to retention it is not added. Of single configurations: over seeds and rows, by "
        "the rule of all runs (docs/verdicts.md).",
        "rank": f"needs {DEFAULT_RULE.min_seeds} seeds; intervals that overlap share their ranks.",
        **{spoken(response.name): response.about for response in RESPONSES},
        "gap": f"{gaps}. Signed: below 0 is the opposite bias.",
        "numbers": "percent; differences in points, bold where the interval leaves 0 out.",
    }


def spoken(name: str) -> str:
    """A response as words."""
    return {
        "gap_widening": "gap widening",
        "worst_group_acc": "worst group",
        "acc": "accuracy",
    }.get(name, name)
