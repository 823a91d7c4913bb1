"""Students from the largest to the smallest: every group's accuracy, the verdict, and the knee."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from harness_plugin_hooks.render.document import Cell, Column, Number, Table
from harness_plugin_hooks.study.report.reading import FACTOR, EvaluationSet, Study
from harness_plugin_hooks.study.report.tables import judged

FEWEST = 3
"""Sizes that make a ladder."""


def ladder_tables(study: Study) -> Iterator[Table]:
    """A table for each set and student whose size differs between configurations."""
    table = study.estimates
    for where in study.sets:
        here = table[(table.task == where.task) & (table.split == where.split)]
        for role in study.students:
            part = here[here.role == role]
            sizes = part[part.measure == "size"].set_index("configuration").value.round()
            if sizes.nunique() >= FEWEST:
                yield ladder(study, where, role, part, sizes)


def ladder(
    study: Study, where: EvaluationSet, role: str, part: pd.DataFrame, sizes: pd.Series[float]
) -> Table:
    """One row a configuration, the largest first; the knee stands below."""
    factors = [name for name in study.factors if name in study.levels and name != "task"]
    groups = [s for s in part.subset.unique() if s.startswith("group=")]
    heads = [
        *(Column(name) for name in factors),
        Column("size, MB"),
        Column("debiasing"),
        Column("worst group"),
        *(Column(group.removeprefix("group=")) for group in groups),
    ]
    rows: list[tuple[Cell, ...]] = []
    knee = ""
    for configuration in sizes.sort_values(ascending=False, kind="stable").index:
        own = part[part.configuration == configuration]
        names = [str(own[FACTOR + name].iloc[0]) for name in factors]
        verdict = judged(own)
        size = f"{sizes[configuration] / 1e6:.3g}"
        if verdict is not None and verdict.style == "kept":
            knee = f"{', '.join(names)} ({size} MB)"
        accuracies = [score(own, "acc", group) for group in groups]
        rows.append((*names, size, verdict, score(own, "worst_group_acc", ""), *accuracies))
    note = f"The knee: {knee}." if knee else "No size has the verdict kept."
    return Table(f"{where.name}: {role} by size", tuple(heads), rows, note)


def score(own: pd.DataFrame, metric: str, subset: str) -> Number | None:
    """A score of one configuration, with its interval."""
    rows = own[(own.measure == "score") & (own.metric == metric) & (own.subset == subset)]
    if rows.empty:
        return None
    row = rows.iloc[0]
    return Number(float(row.value), float(row.low), float(row.high), False, str(row.reason))
