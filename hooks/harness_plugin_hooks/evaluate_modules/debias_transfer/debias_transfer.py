"""What a student keeps of its teacher's debiasing."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from harness_plugin.errors import unknown
from harness_plugin.scoring import columns, metrics

DESCRIPTION = """Distillability D, contribution K, gap widening and retention of a student."""

INPUTS = """
Args:
    predictions: the student's predicted labels, indices (N,).
    references: gold labels, indices (N,).
    groups: name of each row's group (N,).
    known_groups: all groups there are, those without a row included; default: those that occur.
        A group without a row makes the result nan, with a warning.
    teacher: the teacher's predicted labels of the same rows (N,).
    control: those of the student's twin that had no teacher (N,); K is None without them.
    erm_teacher, erm_student: those of the undebiased models; retention is None without them.
    metric: "worst_group_acc" or "acc".
"""


class DebiasTransfer(evaluate.Metric):  # type: ignore[misc]
    """What a student keeps of its teacher's debiasing."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="arXiv:2510.26038",
            inputs_description=INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Value("int64"),
                    "references": datasets.Value("int64"),
                    "groups": datasets.Value("string"),
                }
            ),
        )

    def _compute(
        self,
        predictions: list[int],
        references: list[int],
        groups: list[str],
        teacher: list[int] | None = None,
        control: list[int] | None = None,
        erm_teacher: list[int] | None = None,
        erm_student: list[int] | None = None,
        metric: str = "worst_group_acc",
        known_groups: list[str] | None = None,
    ) -> dict[str, Any]:
        """`distillability`, `contribution`, `gap_widening`, `retention`; None: not asked for."""
        choices = {m.name: m for m in (metrics.WORST_GROUP_ACC, metrics.ACC)}
        if metric not in choices:
            raise unknown("metric of debias_transfer", metric, choices)
        if teacher is None:
            raise ValueError("debias_transfer needs the teacher's predictions: teacher=[...].")
        given = {
            "student": predictions,
            "teacher": teacher,
            "control": control,
            "erm_teacher": erm_teacher,
            "erm_student": erm_student,
        }
        models = {
            role: columns.as_predictions(said, references, groups, known_groups=known_groups)
            for role, said in given.items()
            if said is not None
        }
        return columns.transfer(models, choices[metric], metrics.GAP_AVG_WORST)
