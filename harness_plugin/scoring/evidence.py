"""The numbers behind a verdict: variance components of gaps and of worst-group accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from harness_plugin.records import Evidence, Floats, VarianceComponents
from harness_plugin.scoring.measure import Quantities, Quantity
from harness_plugin.scoring.pairing import PairedPredictions, one_class
from harness_plugin.scoring.statistics.intervals import Sizes, centred, components, no_claim, sizes

WORST = "worst_group_acc"


def evidence_of(
    student: str,
    split: str,
    gap: str,
    quantities: Quantities,
    paired: PairedPredictions,
    distinct_seeds: int,
) -> Evidence | None:
    """The evidence on one student's primary `gap`; None without a teacher to compare it with."""
    q, worst = quantities[""][gap], quantities[""].get(WORST)
    if "teacher" not in q.values or student not in q.values:
        return None
    change = sizes(q.values[student], q.values["teacher"], q.support.df)
    reference = None
    if "erm_teacher" in q.values:
        reference = sizes(q.values["teacher"], q.values["erm_teacher"], q.support.df)
    noisiest, rows = noisiest_group(student, quantities, q)
    notes = {
        role: words
        for role in (student, "teacher")
        if (words := " and ".join(dict.fromkeys(filter(None, map(one_class, paired[role])))))
    }
    return Evidence(
        student=student,
        split=split,
        gap=gap,
        student_gap=change.new,
        teacher_gap=change.old,
        change=change.difference,
        total=change.total,
        drop=drop(worst, "teacher", student),
        reference_gap=reference and reference.old,
        reference_change=reference and reference.difference,
        reference_total=reference and reference.total,
        reference_drop=drop(worst, "teacher", "erm_teacher") if reference else None,
        reason=no_claim(change.difference, q.support, difference=True, any_seeds=True),
        distinct_seeds=distinct_seeds,
        noisiest=noisiest,
        noisiest_rows=rows,
        one_class=notes,
    )


def drop(worst: Quantity | None, role: str, other: str) -> VarianceComponents | None:
    """Worst-group accuracy of `role` minus that of `other`; None where it is not defined."""
    if worst is None or role not in worst.values or other not in worst.values:
        return None
    return components(worst.values[role] - worst.values[other], worst.support.df)


def noisiest_group(student: str, quantities: Quantities, q: Quantity) -> tuple[str, int]:
    """The group whose rows add most to the rows' variance of the gap's change, and its size.

    Groups are resampled independently, so that the squared correlations of the change with the
    changes of the groups' accuracies add up to about 1.
    """
    change = mean_deviation(q.values, student)
    most, name, rows = -1.0, "", 0
    for subset, (quantity,) in groups_of(quantities):
        group = mean_deviation(quantity.values, student)
        spread = float((change @ change) * (group @ group))
        share = float(change @ group) ** 2 / spread if spread > 0 else 0.0
        if share > most:
            most, name, rows = share, subset.removeprefix("group="), quantity.support.n
    return name, rows


def groups_of(quantities: Quantities) -> Iterator[tuple[str, tuple[Quantity]]]:
    """The groups with rows, each with its accuracy."""
    for subset, metrics in quantities.items():
        if subset.startswith("group=") and metrics["acc"].values:
            yield subset, (metrics["acc"],)


def mean_deviation(values: Mapping[str, Floats], student: str) -> Floats:
    """(B,) deviation of the mean over seeds of student minus teacher."""
    deviation: Floats = centred(values[student] - values["teacher"]).mean(axis=0)
    return np.nan_to_num(deviation)


def change_of(e: Evidence) -> Sizes:
    """Student against teacher, as `size_change` takes it."""
    return Sizes(e.student_gap, e.teacher_gap, e.change, e.total)


def gain_of(e: Evidence) -> Sizes | None:
    """Teacher against its ERM reference, where there is one."""
    if e.reference_gap is None or e.reference_change is None or e.reference_total is None:
        return None
    return Sizes(e.teacher_gap, e.reference_gap, e.reference_change, e.reference_total)
