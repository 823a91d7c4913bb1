"""Figures of the scores: group accuracies, gaps from teacher to student, bias types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from harness_plugin.records import Floats
from harness_plugin.scoring.transfer_record import Number, Scores, TransferRecord
from harness_plugin_hooks.render import document
from harness_plugin_hooks.render.text import metric_title, percent, plain
from harness_plugin_hooks.report.drawing import (
    DIVERGING,
    LINE,
    SOFT,
    TEXT,
    WIDTH,
    Axes,
    Picture,
    apart,
    canvas,
    colours_of,
    grid,
    matrix,
)

MOST_GROUPS, MOST_TYPES, MOST_PANELS = 14, 36, 4
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
    """Every figure of one task's scores."""
    for known in record.sets:
        found = scores_on(record, known.name)
        if any(scores.groups for scores in found.values()):
            yield groups(record, known.name)
    if (slopes := gaps(record)) is not None:
        yield slopes
    for known in record.sets:
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
    """Accuracy of every group, a bar a role, with its interval."""
    roles, found = compared_roles(record), scores_on(record, split)
    colours = colours_of(roles)
    numbers = {role: found[role].groups for role in roles}
    names = chosen_of(change := changes(numbers, roles), MOST_GROUPS)
    thick = 0.8 / len(roles)
    figure, (line,) = grid(1, 1, 0.75 + len(names) * (0.14 + 0.19 * len(roles)))
    axes: Axes = line[0]
    for number, role in enumerate(roles):
        y = np.arange(len(names)) - 0.4 + (number + 0.5) * thick
        of_role = [numbers[role].get(name) for name in names]
        values = 100 * np.array([value_of(n) for n in of_role])
        low, high = ends_of(of_role, values)
        axes.barh(y, values, 0.88 * thick, color=colours[role], label=role)
        axes.errorbar(
            values, y, xerr=[values - low, high - values], fmt="none", ecolor=TEXT, elinewidth=0.9
        )
        for at, value, end in zip(y, values, high, strict=True):
            if np.isfinite(value):
                axes.annotate(
                    f"{value:.1f}",
                    (max(value, end), at),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                )
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_yticks(range(len(names)), [clipped(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_xlabel("accuracy, %")
    figure.legend(loc="outside upper left", ncols=min(len(roles), 6))
    return Picture(
        name=f"groups_{split}",
        title=f"Accuracy by group on {split}",
        about="Bars: mean over seeds; whiskers: 95% interval over seeds and examples."
        + shown_of(len(names), len(change), "groups"),
        figure=figure,
        columns=("group", "examples", *list(found)),
        rows=[
            (
                name,
                f"{next((s.groups[name].n for s in found.values() if name in s.groups), 0):,}",
                *(document.Number.of(scores.groups.get(name)) for scores in found.values()),
            )
            for name in change
        ],
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
    told = record.primary
    for scores in record.scores:
        defined = [
            name
            for name in sorted(scores.metrics)
            if name.startswith("gap_") and scores.metrics[name].value is not None
        ]
        if scores.split not in told and defined:
            told[scores.split] = defined[0]
    order = {known.name: number for number, known in enumerate(record.sets)}
    return dict(sorted(told.items(), key=lambda item: order[item[0]]))


def gaps(record: TransferRecord) -> Picture | None:
    """From the teacher's gap to each student's and the control's, a panel a set."""
    roles, primary = compared_roles(record), primary_gaps(record)
    if not primary or "teacher" not in roles or len(roles) < 2:
        return None
    others, colours = roles[1:], colours_of(roles)
    shown = list(primary)[-MOST_PANELS:]
    figure, (panels,) = grid(1, len(shown), 3.6, sharey=True)
    found = {split: scores_on(record, split) for split in primary}
    span = max(
        10.0,
        np.ptp(
            [
                100 * value
                for split in shown
                for role in roles
                for value in [value_of(found[split][role].metrics.get(primary[split]))]
                if np.isfinite(value)
            ]
            or [0.0]
        ),
    )
    for axes, split in zip(panels, shown, strict=True):
        numbers = {role: found[split][role].metrics.get(primary[split]) for role in roles}
        slope(axes, numbers, others, colours, 0.085 * span)
        axes.set_title(f"{clipped(split, 24)}\n{metric_title(primary[split])}", fontsize=9.5)
    panels[0].set_ylabel("gap, points")
    names = dict.fromkeys(
        (split, name)
        for split in primary
        for scores in found[split].values()
        for name in scores.metrics
        if name.startswith("gap_")
    )
    return Picture(
        name="gaps",
        title="The gap, from the teacher to the student",
        about="0 treats both sides alike. A line that leaves 0 is a bias that grows; whiskers: 95% "
        "interval."
        + (f" The last {len(shown)} of {len(primary)} sets." if len(shown) < len(primary) else ""),
        figure=figure,
        columns=("set", "gap", *found[shown[0]]),
        rows=[
            (
                split,
                metric_title(name),
                *(
                    document.Number.of(scores.metrics.get(name), True)
                    for scores in found[split].values()
                ),
            )
            for split, name in names
        ],
    )


def slope(
    axes: Axes,
    numbers: Mapping[str, Number | None],
    others: Sequence[str],
    colours: Mapping[str, str],
    least: float,
) -> None:
    """One set: the teacher on the left, who is compared with it on the right."""
    start = 100 * value_of(numbers["teacher"])
    values = [100 * value_of(numbers[role]) for role in others]
    right = 1 + 0.06 * (len(others) - 1)
    axes.plot([-0.5, right + 0.05], [0, 0], color=SOFT, linewidth=0.8, linestyle=(0, (2, 2)))
    for place, role in ((0.0, "teacher"), *((1 + 0.06 * i, r) for i, r in enumerate(others))):
        value = 100 * value_of(numbers[role])
        low, high = ends_of([numbers[role]], np.array([value]))
        dashed = role.startswith("control")
        if role != "teacher":
            axes.plot(
                [0, place],
                [start, value],
                color=colours[role],
                linestyle="--" if dashed else "-",
            )
        axes.errorbar(
            [place],
            [value],
            yerr=[value - low, high - value],
            fmt="o",
            color=colours[role],
            elinewidth=1,
            markersize=5,
        )
    if np.isfinite(start):
        axes.annotate(
            f"teacher\n{percent(start / 100, True)}",
            (0, start),
            (-9, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=8.5,
            color=colours["teacher"],
        )
    seen = [(role, value) for role, value in zip(others, values, strict=True) if np.isfinite(value)]
    for (role, value), at in zip(seen, apart([v for _, v in seen], least), strict=True):
        axes.annotate(
            f"{role} {percent(value / 100, True)}",
            (right + 0.08, at),
            va="center",
            fontsize=8.5,
            color=colours[role],
        )
    axes.set_xlim(-0.55, right + 1.05)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.grid(axis="y")


def bias_types(record: TransferRecord, split: str, breakdown: str) -> Picture:
    """Accuracy on every value of a bias type by role, and how far each is from the teacher."""
    roles, found = compared_roles(record), scores_on(record, split)
    numbers = {
        role: {
            value: metrics["acc"]
            for value, metrics in found[role].breakdowns.get(breakdown, {}).items()
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
    )
