"""The share of its teacher's debiasing that a student keeps."""

from __future__ import annotations

from typing import Any

from harness_plugin.errors import unknown
from harness_plugin.scoring import metrics
from harness_plugin.scoring.files import columns
from harness_plugin_hooks.adapters.evaluate_modules.factory import (
    RESAMPLING,
    metric_class,
    resampled,
)


def compute(
    predictions: list[int],
    references: list[int],
    groups: list[str],
    teacher: list[int] | None = None,
    control: list[int] | None = None,
    erm_teacher: list[int] | None = None,
    erm_student: list[int] | None = None,
    metric: str = "worst_group_acc",
    known_groups: list[str] | None = None,
    **resampling: Any,
) -> dict[str, Any]:
    """The measures of one student, each with its 95% interval over rows; None: not asked for."""
    choices = {m.name: m for m in (metrics.WORST_GROUP_ACC, metrics.ACC)}
    if metric not in choices:
        raise unknown("metric of debias_transfer", metric, choices)
    if teacher is None:
        raise ValueError("debias_transfer needs the teacher's predictions: teacher=[...].")
    predicted = {
        "student": predictions,
        "teacher": teacher,
        "control": control,
        "erm_teacher": erm_teacher,
        "erm_student": erm_student,
    }
    split, bootstrap = resampled(**resampling)
    models = {
        role: columns.as_predictions(
            labels, references, groups, known_groups=known_groups, task=bootstrap.task, split=split
        )
        for role, labels in predicted.items()
        if labels is not None
    }
    return columns.transfer(models, choices[metric], metrics.GAP_AVG_WORST, bootstrap)


DebiasTransfer = metric_class(
    compute,
    "DebiasTransfer",
    "Distillability, contribution, widening of the gap and of its size, retention of a student.",
    "arXiv:2510.26038",
    teacher="the teacher's predicted labels of the same rows (N,).",
    control="those of the student's twin that had no teacher (N,); K is None without them.",
    erm_teacher="those of the undebiased teacher; retention is None without it.",
    erm_student="those of the undebiased student; retention is None without it.",
    metric='"worst_group_acc" or "acc".',
    **RESAMPLING,
)
