"""The remedy: listen less to the labels, which go with the product."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_plugin.plugins.remedies import Remedy, RemedyChange

if TYPE_CHECKING:
    from harness_plugin.config.settings import StudentSettings
    from harness_plugin.data.dataset import TaskData


def change(student: StudentSettings) -> RemedyChange:
    """A tenth of the weight of the labels, the rest on the teacher."""
    return RemedyChange({"ce_weight": student.ce_weight / 10, "kd_weight": 1.0})


def why_not_applicable(student: StudentSettings, data: TaskData) -> str:
    """A student without a label term has nothing to turn down."""
    return "" if student.ce_weight else "the student has no label term"


FEWER_LABELS = Remedy(
    "fewer_labels",
    "a tenth of the weight of the labels",
    change,
    order=45,
    why_not_applicable=why_not_applicable,
)
