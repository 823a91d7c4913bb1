"""Remedies that change who teaches: a second teacher, the teacher's weights, the student itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_plugin.plugins.remedies import ChangeFunction, Remedy, RemedyChange
from harness_plugin_hooks.remedies.changes import setting

if TYPE_CHECKING:
    from harness_plugin.config.settings import StudentSettings

SECOND = "teacher_second"
"""A further teacher: as the task's own, from other first weights."""


def two_teachers(combine: str) -> ChangeFunction:
    """The task's teacher and a second one that started from other weights."""

    def change(_: StudentSettings) -> RemedyChange:
        from harness_plugin.config.settings import TeacherSettings

        return RemedyChange(
            {"teachers": ("teacher", SECOND), "combine": combine}, {SECOND: TeacherSettings()}
        )

    return change


TEACHERS_MEAN_PROB = Remedy(
    "teachers_mean_prob",
    "mean probability of two teachers",
    two_teachers("mean_prob"),
    order=100,
    cost="a second teacher",
)
TEACHERS_CONFIDENCE = Remedy(
    "teachers_confidence",
    "two teachers, each where it is right",
    two_teachers("confidence"),
    order=110,
    cost="a second teacher",
)
TEACHERS_AGRE = Remedy(
    "teachers_agre",
    "two teachers, each where it pulls away from the ERM teacher",
    two_teachers("agre"),
    order=120,
    cost="a second teacher and an ERM teacher",
)
FROM_TEACHER = Remedy(
    "from_teacher", "start from the teacher's weights", setting(from_teacher="even"), order=200
)
ROUNDS = Remedy(
    "rounds",
    "two rounds, the first student teaches the second",
    setting(rounds=2),
    order=210,
)
