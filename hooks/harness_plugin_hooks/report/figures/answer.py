"""The figures that answer the title: gap and worst group from ERM to the teacher to the student."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from harness_plugin.scoring.files.transfer_record import Number, Scores, TransferRecord
from harness_plugin_hooks.render import document
from harness_plugin_hooks.render.text import listed, metric_title, percent
from harness_plugin_hooks.report.figures.drawing import (
    LINE,
    NARROW,
    PAGE,
    SOFT,
    Axes,
    Picture,
    canvas,
    colours_of,
)
from harness_plugin_hooks.report.figures.scores import (
    clipped,
    ends_of,
    primary_gaps,
    scores_on,
    value_of,
)

WORST = "worst_group_acc"
CHAIN = ("erm_teacher", "teacher", "student")
BESIDE = ("control", "erm_student")
"""Kinds of roles: what is handed on in their order, and who is compared with the student."""


def pictures(record: TransferRecord) -> Iterator[Picture]:
    """The gap, then the worst group."""
    gaps = primary_gaps(record)
    if gaps:
        yield picture(record, "answer_gap", "The gap", gaps, gap_rows(record, gaps))
    worst = {
        known.name: WORST
        for known in record.sets
        if any(WORST in scores.metrics for scores in scores_on(record, known.name).values())
    }
    if worst:
        rows: list[tuple[document.Cell, ...]] = [
            (split, *(document.Number.of(s.metrics.get(WORST)) for s in of_set(record, split)))
            for split in worst
        ]
        yield picture(record, "answer_worst_group", "Accuracy of the worst group", worst, rows)


def ordered(record: TransferRecord) -> tuple[list[str], list[str]]:
    """Roles in the order in which debiasing is handed on, and those that students are held to."""
    roles = dict.fromkeys(scores.role for scores in record.scores)
    kinds = {
        role: next((kind for kind in ("student", "control") if role.startswith(kind)), role)
        for role in roles
    }
    kinds |= {model.role: model.kind for model in record.models if model.kind}
    both: list[list[str]] = []
    for chosen in (CHAIN, BESIDE):
        both.append([role for kind in chosen for role in kinds if kinds[role] == kind])
    chain, beside = both
    return [*chain, *(r for r in kinds if r not in (*chain, *beside))], beside


def of_set(record: TransferRecord, split: str) -> list[Scores]:
    """Every role's scores on a set, in order."""
    scores = scores_on(record, split)
    chain, beside = ordered(record)
    return [scores[role] for role in (*chain, *beside) if role in scores]


def gap_rows(record: TransferRecord, gaps: Mapping[str, str]) -> list[tuple[document.Cell, ...]]:
    """Every gap of every set: a figure shows the one that its verdict is given on."""
    rows: list[tuple[document.Cell, ...]] = []
    for split in gaps:
        scores = of_set(record, split)
        names = dict.fromkeys(n for s in scores for n in s.metrics if n.startswith("gap_"))
        rows += [
            (
                f"{split}: {metric_title(name)}",
                *(document.Number.of(s.metrics.get(name), True) for s in scores),
            )
            for name in names
        ]
    return rows


def picture(
    record: TransferRecord,
    name: str,
    title: str,
    metrics: Mapping[str, str],
    rows: Sequence[tuple[document.Cell, ...]],
) -> Picture:
    """Axes for each set: a line a role with its interval, arrows from who is learned from."""
    chain, beside = ordered(record)
    roles = [*chain, *beside]
    shown = list(metrics)[::-1]  # the last set is the one that the first answer is given on
    figure = canvas(0.5 + len(shown) * (0.62 + 0.23 * len(roles)), NARROW)
    subplots = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
    is_gap = name == "answer_gap"
    for axes, split in zip(subplots, shown, strict=True):
        scores = scores_on(record, split)
        numbers = {r: scores[r].metrics.get(metrics[split]) if r in scores else None for r in roles}
        draw_gaps(axes, numbers, len(chain), colours_of(roles), signed=is_gap)
        axes.set_title(f"{clipped(split, 20)}: {metric_title(metrics[split])}", fontsize=9.5)
    subplots[-1].set_xlabel("points" if is_gap else "accuracy, %")
    low, high = subplots[-1].get_xlim()
    # room for the numbers
    subplots[-1].set_xlim(low, high + 0.16 * (high - low))
    about = (
        "0 treats both sides alike." if is_gap else "The worst of the groups that are large enough."
    )
    columns = [s.role for s in of_set(record, shown[0])]
    return Picture(
        name=name,
        title=title,
        about=f"{about} Arrows: from who is learned from. Lines: 95% intervals.",
        figure=figure,
        columns=("set", *columns),
        rows=rows,
        caption=sentence(record, shown[0], metrics[shown[0]]),
    )


def sentence(record: TransferRecord, split: str, metric: str) -> str:
    """How the number goes from ERM to the teacher to the students, on one set."""
    scores = scores_on(record, split)
    chain, _ = ordered(record)
    signed = metric.startswith("gap_")
    parts = [
        f"{role} {percent(value, signed)}"
        for role in chain
        if role in scores and np.isfinite(value := value_of(scores[role].metrics.get(metric)))
    ]
    return f"On {split}: {listed(parts)}." if parts else ""


def draw_gaps(
    axes: Axes,
    numbers: Mapping[str, Number | None],
    handed_on: int,
    colours: Mapping[str, str],
    *,
    signed: bool,
) -> None:
    """One set; the first `handed_on` roles hand their debiasing on, the others stand beside."""
    places = {role: y + 0.35 * (y >= handed_on) for y, role in enumerate(numbers)}
    values = {role: 100 * value_of(number) for role, number in numbers.items()}
    for role, y in places.items():
        value = values[role]
        if not np.isfinite(value):
            continue
        (low,), (high,) = ends_of([numbers[role]], np.array([value]))
        axes.plot([low, high], [y, y], color=colours[role], linewidth=2.2, zorder=2)
        axes.plot(
            [value],
            [y],
            "o",
            color=colours[role],
            markerfacecolor=PAGE if role.startswith("erm_") else colours[role],
            markersize=6,
            zorder=3,
        )
        axes.annotate(  # at the edge, where no arrow comes
            percent(value / 100, signed),
            (1, y),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="center",
            fontsize=8.5,
        )
    for source, target in handed(list(numbers)[:handed_on]):
        start, end = values[source], values[target]
        if np.isfinite(start) and np.isfinite(end):
            axes.annotate(
                "",
                (end, places[target]),
                (start, places[source]),
                arrowprops={"arrowstyle": "->", "color": SOFT, "shrinkA": 5, "shrinkB": 5},
                zorder=1,
            )
    if handed_on < len(numbers):
        axes.axhline(handed_on - 0.33, color=LINE, linewidth=0.8)
    if signed:
        axes.axvline(0, color=SOFT, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_yticks(list(places.values()), [clipped(role, 22) for role in places])
    axes.set_ylim(max(places.values()) + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")


def handed(chain: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Who learns of whom: the teacher repairs what ERM learned, the students learn of it."""
    if "teacher" not in chain:
        return
    for role in chain:
        if role == "erm_teacher":
            yield role, "teacher"
        elif role.startswith("student"):
            yield "teacher", role
