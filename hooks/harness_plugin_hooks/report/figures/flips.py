"""Whose answers change from a model to the student, part by part of a set."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes

from harness_plugin.records import Flips
from harness_plugin.scoring.files.transfer_record import TransferRecord
from harness_plugin.scoring.flips import sentence
from harness_plugin_hooks.render.text import percent
from harness_plugin_hooks.report.figures.drawing import NARROW, OTHER, TEXT, Picture, canvas
from harness_plugin_hooks.report.figures.scores import clipped

KINDS = {
    "lost": ("right to wrong", "#c2410c"),
    "repaired": ("wrong to right", "#2f7d4f"),
    "other_wrong": ("wrong to another wrong", OTHER),
}
COLUMNS = (
    "part",
    "examples",
    "changed, %",
    *(f"{title}, %" for title, _ in KINDS.values()),
    "between seeds, %",
    "p (McNemar, Holm)",
)


def of_pairs(record: TransferRecord) -> Iterator[list[Flips]]:
    """The flips of every set, student and other model; sets out of domain first."""
    order = {known.name: -number for number, known in enumerate(record.sets)}
    every = [Flips(**flips.model_dump()) for flips in record.flips]
    ordered = sorted(every, key=lambda f: (order.get(f.split, 0), f.student, f.other))
    for _, flips in groupby(ordered, lambda f: (f.split, f.student, f.other)):
        yield list(flips)


def sentences(record: TransferRecord) -> list[str]:
    """Those of pairs without a figure: a student and another model than its teacher."""
    return [sentence(flips) for flips in of_pairs(record) if flips[0].other != "teacher"]


def pictures(record: TransferRecord) -> Iterator[Picture]:
    """One for every set and student, against its teacher."""
    for flips in of_pairs(record):
        if flips[0].other == "teacher" and any(f.changed for f in flips):
            yield picture(flips)


def picture(flips: list[Flips]) -> Picture:
    """Stacked bars of what changed in the whole set, its groups, and tenths of the margin."""
    drawn = [f for f in flips if f.subset.partition("=")[0] in ("", "group", "margin")]
    first, y = drawn[0], np.arange(len(drawn))
    figure = canvas(1.1 + 0.24 * len(drawn), NARROW)
    axes: Axes = figure.subplots()
    start = np.zeros(len(drawn))
    for kind, (title, colour) in KINDS.items():
        share = 100 * np.array([getattr(f, kind) for f in drawn])
        if not share.any():
            continue
        axes.barh(y, share, 0.72, left=start, color=colour, label=title)
        start = start + share
    expected = [(at, 100 * f.expected) for at, f in enumerate(drawn) if f.expected is not None]
    if expected:
        rows, values = zip(*expected, strict=True)
        axes.plot(values, rows, "|", color=TEXT, markersize=11, label="between two seeds")
    axes.set_yticks(y, [clipped(named(f.subset), 22) for f in drawn])
    axes.set_ylim(len(drawn) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_xlabel("changed answers, % of the part's examples")
    figure.legend(loc="outside upper left", ncols=2)
    return Picture(
        name=f"flips_{first.split}_{first.student}_{first.other}",
        title=f"Whose answers change on {first.split}: {first.other} to {first.student}",
        about="Mean over seeds. The tick is what two seeds of one model change alone. Margin: the "
        f"tenths of the examples that the {first.other} is least to most sure of.",
        figure=figure,
        columns=COLUMNS,
        rows=[
            (
                named(f.subset),
                f"{f.n:,}",
                percent(f.changed, False),
                *(percent(getattr(f, kind), False) for kind in KINDS),
                "" if f.expected is None else percent(f.expected, False),
                f"{f.p:.2g}",
            )
            for f in flips
        ],
        caption=sentence(flips),
    )


def named(subset: str) -> str:
    """A part as the page calls it."""
    kind, _, name = subset.partition("=")
    return {"": "all", "group": name}.get(kind, f"{kind} {name}")
