"""A study's answer to its question: its verdicts, then an effect a sentence, shown ones first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness_plugin_hooks.render.text import interval, percent, plural
from harness_plugin_hooks.study.report.analysis import StudyEstimate
from harness_plugin_hooks.study.report.reading import Study
from harness_plugin_hooks.study.report.tables import STATES, number, place

RESPONSE = "gap_widening"
LEVEL = 0.05
"""Joint error of the effects of a factor, after Holm's adjustment."""


def answers(study: Study, estimates: Sequence[StudyEstimate]) -> list[str]:
    """How many verdicts there are of each kind, and a sentence a factor."""
    effects = [
        one
        for one in estimates
        if (one.kind, one.response) == ("effect", RESPONSE) and not math.isnan(one.average.value)
    ]
    sentences = [
        of_factor(study, factor, mine)
        for factor in study.factors
        if (mine := [one for one in effects if one.factor == factor])
    ]
    # what is shown comes first, the rest in the plan's order
    sentences.sort(key=lambda one: not one[0])
    return [*of_verdicts(study), *(sentence for _, sentence in sentences)]


def of_verdicts(study: Study) -> list[str]:
    """`verdicts: 1 lost (student_half), 5 undecided.`; nothing where too few seeds gave none.

    A student is named where all of its verdicts are the same, kept or lost.
    """
    about = {(where.task, where.split) for where in study.sets}
    places = zip(study.estimates.task, study.estimates.split, strict=True)
    decided = study.estimates[[place in about for place in places]]
    decided = decided[decided.verdict.isin(STATES)]
    parts = []
    for state in STATES:
        count = int((decided.verdict == state).sum())
        same = [str(role) for role, mine in decided.groupby("role") if set(mine.verdict) == {state}]
        names = f" ({', '.join(same)})" if same and state in ("kept", "lost") else ""
        parts += [f"{count} {state.replace('_', ' ')}{names}"] if count else []
    return [f"verdicts: {', '.join(parts)}."] if parts else []


def of_factor(study: Study, factor: str, effects: Sequence[StudyEstimate]) -> tuple[bool, str]:
    """Whether any level changes what the student loses, and by how much."""
    several = len({(one.task, one.split, one.role) for one in effects}) > 1
    shown = [one for one in effects if one.p_holm < LEVEL]
    if shown:
        largest = max(shown, key=lambda one: abs(one.average.value))
        more = len(shown) - 1
        return True, (
            f"{factor}: {change(largest, several, len(study.students) > 1)}"
            + (f"; {more} more of {plural(len(effects), 'effect')} shown." if more else ".")
        )
    largest = max(effects, key=lambda one: abs(one.average.value))
    return False, (
        f"{factor}: no effect on the gap is shown (the largest of {len(effects)}: "
        f"{change(largest, several, len(study.students) > 1)})."
    )


def change(one: StudyEstimate, several: bool, students: bool) -> str:
    """`pure_kd - none narrows the gap by 3.1 points (-4.0 to -2.2) on hans, hans`."""
    value = one.average.value
    word = "widens" if value > 0 else "narrows"
    ends = interval(number(one.average, signed=True)) or "no interval: too few seeds"
    where = f" on {place(one.task, one.split)}" if several else ""
    whose = f" of {one.role}" if students and one.role else ""
    return (
        f"{one.level} instead of {one.reference} {word} the gap{whose} by "
        f"{percent(abs(value), False)} points ({ends}){where}"
    )
