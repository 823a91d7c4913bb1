"""Figures of the scores: accuracy by group and by bias type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from harness_plugin.records import Floats
from harness_plugin.scoring.files.transfer_record import Number, Scores, TransferRecord
from harness_plugin_hooks.render import document
from harness_plugin_hooks.render.text import percent, plain
from harness_plugin_hooks.report.figures.drawing import (
    DIVERGING,
    LINE,
    MARKERS,
    NARROW,
    WIDTH,
    Axes,
    Picture,
    canvas,
    colours_of,
    matrix,
)

MOST_GROUPS, MOST_TYPES = 14, 36
"""More than these are left to the table: a figure shows those that change most."""


def compared_roles(record: TransferRecord) -> list[str]:
    """Teacher, students and control, those that there are, or else every role."""
    roles = list(dict.fromkeys(scores.role for scores in record.scores))
    students = [role for role in roles if role.startswith("student")]
    controls = [role for role in roles if role.startswith("control")]
    chosen = [role for role in ("teacher", *students, *controls) if role in roles]
    return chosen or roles


def scores_on(record: TransferRecord, split: str) -> dict[str, Scores]:
    """Role -> its scores on one set."""
    return {scores.role: scores for scores in record.scores if scores.split == split}


def pictures(record: TransferRecord) -> Iterator[Picture]:
    """Every figure of one task's scores; the set that the first answer is given on comes first."""
    for known in reversed(record.sets):
        of_roles = scores_on(record, known.name)
        if any(scores.groups for scores in of_roles.values()):
            yield groups(record, known.name)
    for known in reversed(record.sets):
        for breakdown in known.breakdowns:
            if any(
                scores.breakdowns.get(breakdown)
                for scores in scores_on(record, known.name).values()
            ):
                yield bias_types(record, known.name, breakdown)


def value_of(number: Number | None) -> float:
    """The number, nan where it is undefined."""
    return np.nan if number is None or number.value is None else number.value


def changes(numbers: Mapping[str, Mapping[str, Number]], roles: Sequence[str]) -> dict[str, float]:
    """Name -> the largest distance of a student from the teacher; 0 where there is none."""
    names = dict.fromkeys(name for of_role in numbers.values() for name in of_role)
    out = {}
    for name in names:
        teacher = value_of(numbers.get("teacher", {}).get(name))
        far = [
            abs(value_of(numbers[role].get(name)) - teacher)
            for role in roles
            if role.startswith("student")
        ]
        out[name] = float(np.nanmax(far)) if far and not np.isnan(far).all() else 0.0
    return out


def furthest(numbers: Mapping[str, Mapping[str, Number]], roles: Sequence[str], what: str) -> str:
    """Where a student's accuracy is furthest from its teacher's, in a sentence."""
    far = [
        (abs(own - teacher), role, name, teacher, own)
        for role in roles
        if role.startswith("student")
        for name in numbers[role]
        if np.isfinite(teacher := value_of(numbers.get("teacher", {}).get(name)))
        and np.isfinite(own := value_of(numbers[role][name]))
    ]
    if not far:
        return ""
    _, role, name, teacher, own = max(far)
    return (
        f"Furthest from the teacher: {role} on {what} {plain(name)}, {percent(own, False)}% where "
        f"the teacher has {percent(teacher, False)}%."
    )


def chosen_of(change: Mapping[str, float], most: int) -> list[str]:
    """At most `most` names, those that change most, in their own order."""
    if len(change) <= most:
        return list(change)
    largest = set(sorted(change, key=lambda name: -change[name])[:most])
    return [name for name in change if name in largest]


def shown_of(shown: int, of: int, what: str) -> str:
    """A sentence where a figure shows not everything."""
    if shown == of:
        return ""
    return f" The {shown} of {of:,} {what} whose accuracy changes most from teacher to student."


def groups(record: TransferRecord, split: str) -> Picture:
    """Accuracy of every group, a line a role with its interval; as narrow as a telephone."""
    roles, scores_of = compared_roles(record), scores_on(record, split)
    colours = colours_of(roles)
    numbers = {role: scores_of[role].groups for role in roles}
    names = chosen_of(change := changes(numbers, roles), MOST_GROUPS)
    lines = len(roles) + 1.6  # of a group: its name, a line a role, a gap
    figure = canvas(0.75 + 0.2 * lines * len(names), NARROW)
    axes: Axes = figure.subplots()
    for at, name in enumerate(names):
        axes.text(0, at * lines, clipped(name, 48), va="center", fontsize=9)
    for number, role in enumerate(roles):
        y = np.arange(len(names)) * lines + 1 + number
        of_role = [numbers[role].get(name) for name in names]
        values = 100 * np.array([value_of(n) for n in of_role])
        low, high = ends_of(of_role, values)
        axes.hlines(y, low, high, color=colours[role], linewidth=2.2)
        axes.plot(
            values,
            y,
            linestyle="none",
            marker=MARKERS[number % len(MARKERS)],
            color=colours[role],
            markersize=5,
            label=role,
        )
        for at, value in zip(y, values, strict=True):
            if np.isfinite(value):
                axes.text(115, at, percent(value / 100, False), ha="right", va="center", fontsize=8)
    axes.set_xlim(0, 115)
    axes.set_xticks(range(0, 101, 20))
    axes.set_yticks([])
    axes.set_ylim(len(names) * lines - 0.6, -0.8)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_xlabel("accuracy, %")
    columns = max(1, min(4, 64 // (max(map(len, roles)) + 8)))  # no wider than the figure
    figure.legend(loc="outside upper left", ncols=columns, columnspacing=1.2)
    return Picture(
        name=f"groups_{split}",
        title=f"Accuracy by group on {split}",
        about="Marks: mean over seeds; lines: 95% interval over seeds and examples."
        + shown_of(len(names), len(change), "groups"),
        figure=figure,
        columns=("group", "examples", *list(scores_of)),
        rows=[
            (
                name,
                f"{next((s.groups[name].n for s in scores_of.values() if name in s.groups), 0):,}",
                *(document.Number.of(scores.groups.get(name)) for scores in scores_of.values()),
            )
            for name in change
        ],
        caption=furthest(numbers, roles, "group"),
    )


def ends_of(numbers: Sequence[Number | None], values: Floats) -> tuple[Floats, Floats]:
    """Both ends of every interval in percent; the value itself where there is none."""
    low = [np.nan if n is None or n.low is None else 100 * n.low for n in numbers]
    high = [np.nan if n is None or n.high is None else 100 * n.high for n in numbers]
    lower, upper = np.array(low, dtype=float), np.array(high, dtype=float)
    return (
        np.minimum(np.where(np.isnan(lower), values, lower), values),
        np.maximum(np.where(np.isnan(upper), values, upper), values),
    )


def clipped(name: str, most: int = 34) -> str:
    """A name that fits beside an axis."""
    name = plain(name)
    return name if len(name) <= most else name[: most - 1] + "…"


def primary_gaps(record: TransferRecord) -> dict[str, str]:
    """Set -> its primary gap, where a verdict names it; else one that is defined."""
    gaps = record.primary
    for scores in record.scores:
        defined = [
            name
            for name in sorted(scores.metrics)
            if name.startswith("gap_") and scores.metrics[name].value is not None
        ]
        if scores.split not in gaps and defined:
            gaps[scores.split] = defined[0]
    order = {known.name: number for number, known in enumerate(record.sets)}
    return dict(sorted(gaps.items(), key=lambda item: order[item[0]]))


def bias_types(record: TransferRecord, split: str, breakdown: str) -> Picture:
    """Accuracy on every value of a bias type by role, and how far each is from the teacher."""
    roles, scores = compared_roles(record), scores_on(record, split)
    numbers = {
        role: {
            value: metrics["acc"]
            for value, metrics in scores[role].breakdowns.get(breakdown, {}).items()
            if "acc" in metrics
        }
        for role in roles
    }
    names = chosen_of(change := changes(numbers, roles), MOST_TYPES)
    table = np.array([[value_of(numbers[r].get(name)) for r in roles] for name in names])
    students = [role for role in roles if role.startswith("student")] if "teacher" in roles else []
    height = 1.25 + 0.27 * len(names)
    figure = canvas(height, min(WIDTH, 4.4 + 0.85 * (len(roles) + len(students))))
    parts = figure.subplots(
        1,
        2 if students else 1,
        squeeze=False,
        sharey=True,
        width_ratios=[len(roles), max(1, len(students))] if students else [1],
    )[0]
    rows = [clipped(name, 40) for name in names]
    heat = matrix(
        parts[0], 100 * table, (0, 100), rows, list(roles), form="{:.1f}", most=MOST_TYPES
    )
    parts[0].set_title("accuracy, %")
    figure.colorbar(heat, ax=parts[0], fraction=0.05, pad=0.02).outline.set_edgecolor(LINE)
    if students:
        far = 100 * (table[:, [roles.index(s) for s in students]] - table[:, [0]])
        most = float(np.nanmax(np.abs(far))) if np.isfinite(far).any() else 1.0
        limits = (-max(most, 5.0), max(most, 5.0))
        heat = matrix(
            parts[1],
            far,
            limits,
            rows,
            students,
            form="{:+.1f}",
            colours=DIVERGING,
            most=MOST_TYPES,
        )
        parts[1].invert_yaxis()  # shared: inverted twice
        parts[1].set_title("minus teacher, points")
        figure.colorbar(heat, ax=parts[1], fraction=0.08, pad=0.02).outline.set_edgecolor(LINE)
    for axes in parts:
        axes.xaxis.tick_top()
        axes.tick_params(axis="x", labelrotation=0 if len(roles) < 6 else 30)
    return Picture(
        name=f"types_{split}_{breakdown}",
        title=f"Accuracy by {breakdown} on {split}",
        about="An unchanged average can hide large changes of opposite sign."
        + shown_of(len(names), len(change), "values"),
        figure=figure,
        columns=(breakdown, *roles),
        rows=[
            (name, *(document.Number.of(numbers[role].get(name)) for role in roles))
            for name in change
        ],
        caption=furthest(numbers, roles, breakdown),
    )
