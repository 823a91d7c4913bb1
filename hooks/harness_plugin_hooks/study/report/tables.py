"""The tables of a study's report: levels and ranks, effects, scale, bias types, configurations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from harness_plugin_hooks.render.document import (
    Cell,
    Column,
    Number,
    Table,
    Text,
)
from harness_plugin_hooks.study.report.analysis import StudyEstimate, split_by
from harness_plugin_hooks.study.report.effects import Average
from harness_plugin_hooks.study.report.reading import (
    BY_NAME,
    FACTOR,
    ROLE,
    EvaluationSet,
    Study,
)

SHOWN = ("gap_widening", "retention", "contribution", "worst_group_acc", "acc")


def number(average: Average, signed: bool, marked: bool = False) -> Number:
    """An average as a cell."""
    return Number(average.value, average.low, average.high, signed, average.reason, marked)


def titled(where: EvaluationSet, text: str) -> str:
    """A table's title."""
    return f"{where.name}: {text}"


def rank_tables(study: Study, estimates: Sequence[StudyEstimate]) -> Iterator[Table]:
    """For every factor one table: a row for each set, student and level."""
    means = [one for one in estimates if one.kind == "mean"]
    for factor in study.factors:
        rows, unmatched = [], False
        of_factor = [one for one in means if one.factor == factor]
        for heads, cells in in_turn(of_factor):
            unmatched |= not all(one.matched for one in cells.values())
            by_gap, by_worst = cells.get("gap_widening"), cells.get("worst_group_acc")
            rows.append(
                (
                    *heads,
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
                    *places_of(factor),
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


def effect_tables(study: Study, estimates: Sequence[StudyEstimate]) -> Iterator[Table]:
    """For every factor one table: a row for each set, student and level but the reference."""
    effects = [one for one in estimates if one.kind == "effect"]
    for factor in study.factors:
        rows = []
        of_factor = [one for one in effects if one.factor == factor]
        for (*where, level), cells in in_turn(of_factor):
            any_cell = next(iter(cells.values()))
            rows.append(
                (
                    *where,
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
                    *places_of(factor),
                    factor,
                    *map(spoken, SHOWN),
                    "pairs",
                    drawn=(spoken("gap_widening"),),
                ),
                rows,
            )
        )


def in_turn(
    estimates: Sequence[StudyEstimate],
) -> Iterator[tuple[list[Cell], dict[str, StudyEstimate]]]:
    """Set, student and level of each row of a table, in order, and what was found by response."""
    rows: dict[tuple[str, str, str, str], dict[str, StudyEstimate]] = {}
    for one in sorted_by(estimates):
        rows.setdefault((one.task, one.split, one.role, one.level), {})[one.response] = one
    for (task, split, role, level), cells in rows.items():
        # of the students' effect every row is about all of them
        yield [place(task, split), *([role] if role else []), level], cells


def places_of(factor: str) -> tuple[str, ...]:
    """The columns that say what a row is about, before the factor's level."""
    return ("set",) if factor == ROLE else ("set", "role")


def sorted_by(estimates: Sequence[StudyEstimate]) -> list[StudyEstimate]:
    """By set, those over all sets last, then student; levels stay in the plan's order."""
    sets = list(dict.fromkeys((one.task, one.split) for one in estimates if one.task))
    order = {where: position for position, where in enumerate(sets)}
    return sorted(
        estimates, key=lambda one: (order.get((one.task, one.split), len(order)), one.role)
    )


def place(task: str, split: str) -> str:
    """The name of a set, or of all."""
    return f"{task}, {split}" if task else "all sets"


def trimmed(table: Table) -> Table:
    """Without columns that have the same or nothing to say in every row."""
    kept = [
        index
        for index, column in enumerate(table.columns)
        if any(is_filled(row[index]) for row in table.rows)
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


def is_filled(cell: Cell) -> bool:
    """Whether a cell says anything."""
    if isinstance(cell, Number):
        return not math.isnan(cell.value) or bool(cell.reason)
    return cell is not None and cell != ""


def scale_tables(
    study: Study, estimates: Sequence[StudyEstimate], parameters: Mapping[str, int]
) -> Iterator[Table]:
    """A table for each set and student: teachers down, students across."""
    cells = {
        (one.task, one.split, one.role, one.response, one.teacher, one.student): one.average
        for one in estimates
        if one.kind == "scale"
    }
    if not cells:
        return
    for where in study.sets:
        for role in study.students:
            for response in ("gap_widening", "retention"):
                here = [key for key in cells if key[:2] == (where.task, where.split)]
                teachers, students = (
                    [level for level in study.levels[name] if any(k[at] == level for k in here)]
                    for at, name in ((4, "teacher"), (5, "student"))
                )
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


def bias_type_tables(study: Study, estimates: Sequence[StudyEstimate]) -> Iterator[Table]:
    """A table for each set and student: subsets down, levels of a factor across."""
    factor = split_by(study)
    levels = study.levels_of(factor) if factor else ("",)
    for where in study.sets:
        for role in study.students:
            here = [
                one
                for one in estimates
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


STATES = ("kept", "lost", "nothing_to_keep", "undecided")


def verdict_tables(study: Study) -> Iterator[Table]:
    """A table for each set: how many configurations got which verdict, in all and by level."""
    decided = study.estimates[study.estimates.verdict.isin(STATES)]
    factors = [name for name in study.factors if name in study.levels and name != "task"]
    levels = [
        ("", "", None),
        *((f, level, FACTOR + f) for f in factors for level in study.levels[f]),
    ]
    for where in study.sets:
        here = decided[(decided.task == where.task) & (decided.split == where.split)]
        rows: list[tuple[Cell, ...]] = []
        for role in study.students:
            for factor, level, column in levels:
                part = here[here.role == role]
                if column is not None:
                    part = part[part[column] == level]
                if len(part):
                    counts = [int((part.verdict == state).sum()) for state in STATES]
                    rows.append((role, factor or "all", level, *counts, len(part)))
        if rows:
            titles = (*(state.replace("_", " ") for state in STATES), "of")
            yield Table(where.name, columns("role", "factor", "level", *titles), rows)


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
                        judged(part),
                        *(estimated(part, name, where) for name in SHOWN),
                        changed(part),
                    )
                )
        if rows:
            heads = columns(*factors, "role", "debiasing", *map(spoken, SHOWN), "answers changed")
            yield trimmed(Table(where.name, heads, rows))


def judged(part: pd.DataFrame) -> Text | None:
    """The verdict's state with its notes below; None where there is none."""
    own = part[part.verdict != ""]
    if own.empty:
        return None
    state, notes = own.verdict.iloc[0], str(own.notes.iloc[0]).replace("_", " ")
    return Text(state.replace("_", " "), state, below=(notes,) if notes else ())


def changed(part: pd.DataFrame) -> Number | None:
    """The share of answers that differ from the teacher's."""
    own = part[part.measure == "flips_teacher"].set_index("metric").value
    return Number(float(own["changed"])) if "changed" in own else None


def estimated(part: pd.DataFrame, response: str, where: EvaluationSet) -> Number | None:
    """One response of one configuration and student."""
    response_of = BY_NAME[response]
    rows = part[
        (part.measure == response_of.measure) & (part.metric == (response_of.metric or where.gap))
    ]
    if rows.empty:
        return None
    row = rows.iloc[0]
    return Number(
        float(row.value), float(row.low), float(row.high), response_of.difference, str(row.reason)
    )


def spoken(name: str) -> str:
    """A response as words."""
    return {
        "gap_widening": "gap widening",
        "worst_group_acc": "worst group",
        "acc": "accuracy",
    }.get(name, name)
