"""The report's figures: effects with intervals, the scale map, bias types. SVG, no display."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from harness_plugin.store.files import whole
from harness_plugin_hooks.report.figures.drawing import (
    CONTROL,
    ON_DARK,
    ON_LIGHT,
    PAGE,
    SOFT,
    STUDENTS,
    TEACHER,
    styled,
)
from harness_plugin_hooks.study.report.analysis import StudyEstimate, split_by
from harness_plugin_hooks.study.report.effects import Average
from harness_plugin_hooks.study.report.reading import Study
from harness_plugin_hooks.study.report.tables import place, sized

COLOURS = (*STUDENTS, TEACHER, CONTROL)
ALL = "all students"
ROW = 0.24
"""Height of a line of text and its interval, in inches."""


def draw(
    study: Study, estimates: Sequence[StudyEstimate], folder: Path, parameters: Mapping[str, int]
) -> dict[str, Path]:
    """Figures by section; those without anything to show are left out."""
    made: dict[str, Path] = {}
    with styled():
        for key, figure in (
            ("effects", effects(study, estimates)),
            ("scale", scale(study, estimates, parameters)),
            ("bias_types", bias_types(study, estimates)),
        ):
            if figure is not None:
                made[key] = saved(figure, folder / f"{key}_{study.name}.svg")
    return made


def saved(figure: Figure, path: Path) -> Path:
    """The same bytes for the same numbers."""
    with whole(path) as temporary:
        figure.savefig(
            temporary, format="svg", facecolor=PAGE, metadata={"Date": None}, bbox_inches="tight"
        )
    return path


def points(average: Average) -> tuple[float, float, float]:
    """Value and distances to the ends of its interval, in percent; no interval is a bare point."""
    low = 0.0 if math.isnan(average.low) else average.value - average.low
    high = 0.0 if math.isnan(average.high) else average.high - average.value
    return 100 * average.value, 100 * low, 100 * high


def dots(
    axes: Any, rows: Sequence[tuple[str, Sequence[tuple[str, Average]]]], names: Sequence[str]
) -> None:
    """A line for each row, a dot with its interval for each name."""
    room = 0.6 / max(len(names), 1)
    labelled: set[str] = set()
    for line, (_, averages) in enumerate(rows):
        for name, average in averages:
            if math.isnan(average.value):
                continue
            index = names.index(name)
            value, below, above = points(average)
            axes.errorbar(
                value,
                line + (index - (len(names) - 1) / 2) * room,
                xerr=[[below], [above]],
                fmt="o",
                markersize=4,
                linewidth=1.2,
                color=COLOURS[index % len(COLOURS)],
                label=name if name not in labelled else None,
            )
            labelled.add(name)
    axes.axvline(0, color=SOFT, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x")


def effects(study: Study, estimates: Sequence[StudyEstimate]) -> Figure | None:
    """Each level's effect on the gap's widening, axes for each factor, a colour a student."""
    estimates_of = [
        one
        for one in estimates
        if (one.kind, one.response) == ("effect", "gap_widening")
        and not math.isnan(one.average.value)
    ]
    factors = [name for name in study.factors if any(one.factor == name for one in estimates_of)]
    if not factors:
        return None
    subplots = []
    for factor in factors:
        rows: dict[tuple[str, str], list[tuple[str, Average]]] = {}
        for one in (one for one in estimates_of if one.factor == factor):
            key = (place(one.task, one.split), f"{one.level} \u2212 {one.reference}")
            rows.setdefault(key, []).append((one.role or ALL, one.average))
        several = len({where for where, _ in rows}) > 1
        subplots.append(
            [(f"{where}: {what}" if several else what, rows[where, what]) for where, what in rows]
        )
    lines = [len(rows) for rows in subplots]
    figure = Figure(figsize=(7.5, 0.9 * len(subplots) + 1.6 * ROW * sum(lines)))
    grid = figure.subplots(len(subplots), 1, squeeze=False, sharex=True, height_ratios=lines)
    names = list(study.students)
    for axes, factor, rows_of in zip(grid[:, 0], factors, subplots, strict=True):
        levels = {name for _, of_row in rows_of for name, _ in of_row}
        present = names if levels <= set(names) else [ALL]
        dots(axes, rows_of, present)
        axes.set_title(factor, loc="left", fontweight="bold", fontsize=9)
        if len(names) > 1 and present == names:
            axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    grid[-1, 0].set_xlabel("effect on gap widening, points; above 0 the student loses more")
    figure.tight_layout()
    return figure


def scale(
    study: Study, estimates: Sequence[StudyEstimate], parameters: Mapping[str, int]
) -> Figure | None:
    """Gap widening by teacher's and student's size, one map for each set and student."""
    scales = [one for one in estimates if (one.kind, one.response) == ("scale", "gap_widening")]
    maps = list(dict.fromkeys((one.task, one.split, one.role) for one in scales))
    if not maps:
        return None
    values = [abs(one.average.value) for one in scales if not math.isnan(one.average.value)]
    bound = 100 * max(values, default=0.01) or 1.0
    columns = min(2, len(maps))
    lines = math.ceil(len(maps) / columns)
    figure = Figure(figsize=(4.6 * columns, 3.0 * lines))
    grid = figure.subplots(lines, columns, squeeze=False).flat
    image: Any = None
    for axes, (task, split, role) in zip(grid, maps, strict=False):
        cells = {
            (one.teacher, one.student): one.average
            for one in scales
            if (one.task, one.split, one.role) == (task, split, role)
        }
        teachers = [level for level in study.levels["teacher"] if any(t == level for t, _ in cells)]
        students = [level for level in study.levels["student"] if any(s == level for _, s in cells)]
        image = axes.imshow(
            [
                [100 * cells[t, s].value if (t, s) in cells else math.nan for s in students]
                for t in teachers
            ],
            cmap="RdBu_r",
            vmin=-bound,
            vmax=bound,
            aspect="auto",
        )
        for y, teacher in enumerate(teachers):
            for x, student in enumerate(students):
                average = cells.get((teacher, student))
                if average is None or math.isnan(average.value):
                    continue
                value, below, above = points(average)
                dark = abs(value) > 0.6 * bound
                axes.text(
                    x,
                    y,
                    f"{value:+.1f}\n[{value - below:+.1f}, {value + above:+.1f}]",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color=ON_DARK if dark else ON_LIGHT,
                )
        axes.set_xticks(
            range(len(students)),
            [sized(task, "student", s, parameters).replace(" (", "\n(") for s in students],
            fontsize=7.5,
        )
        axes.set_yticks(
            range(len(teachers)),
            [sized(task, "teacher", t, parameters).replace(" (", "\n(") for t in teachers],
            fontsize=7.5,
        )
        axes.set(xlabel="student", ylabel="teacher")
        axes.set_title(f"{task}, {split}: {role}", fontsize=9, loc="left")
        axes.spines[:].set_visible(False)
    for axes in list(grid):
        axes.set_visible(False)
    figure.tight_layout()
    figure.colorbar(image, ax=figure.axes, label="gap widening, points", shrink=0.7, pad=0.02)
    return figure


def bias_types(study: Study, estimates: Sequence[StudyEstimate]) -> Figure | None:
    """Accuracy of the student minus its teacher's by subset; axes for each set and student."""
    factor = split_by(study)
    differences = [
        one
        for one in estimates
        if (one.kind, one.response) == ("bias_type", "distillability")
        and not math.isnan(one.average.value)
    ]
    subplots: dict[tuple[str, str, str], dict[str, list[tuple[str, Average]]]] = {}
    for one in differences:
        rows = subplots.setdefault((one.task, one.split, one.role), {})
        label = one.subset or "all rows"
        rows.setdefault(label, []).append((one.level, one.average))
    subplots = {key: rows for key, rows in subplots.items() if len(rows) > 1}
    if not subplots:
        return None
    names = list(study.levels_of(factor)) if factor else [""]
    lines = [len(rows) for rows in subplots.values()]
    figure = Figure(figsize=(7.5, 0.75 * len(subplots) + ROW * max(1, len(names) / 2) * sum(lines)))
    grid = figure.subplots(len(subplots), 1, squeeze=False, sharex=True, height_ratios=lines)
    for axes, ((task, split, role), rows) in zip(grid[:, 0], subplots.items(), strict=True):
        dots(axes, list(rows.items()), names)
        axes.set_title(f"{task}, {split}: {role}", loc="left", fontweight="bold", fontsize=9)
        if factor:
            axes.legend(
                title=factor,
                fontsize=8,
                frameon=False,
                loc="center left",
                bbox_to_anchor=(1.0, 0.5),
            )
    grid[-1, 0].set_xlabel("accuracy of the student minus its teacher's, points")
    figure.tight_layout()
    return figure
