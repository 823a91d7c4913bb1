"""Forms of changes that the built-in remedies share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness_plugin.plugins.remedies import ChangeFunction, RemedyChange

if TYPE_CHECKING:
    from harness_plugin.config.settings import StudentSettings


def setting(**student: Any) -> ChangeFunction:
    """The same values whatever the student's settings are."""
    return lambda _: RemedyChange(student)


def pure_distillation(distiller: str = "kd", **student: Any) -> ChangeFunction:
    """The distillation term alone, of a distiller with its default options."""
    return setting(
        method="erm",
        ce_weight=0.0,
        kd_weight=1.0,
        distiller=distiller,
        distiller_options={},
        **student,
    )


def further_rows(augmentation: str) -> ChangeFunction:
    """Rows of an augmentation with its default options, besides those the student has."""

    def change(student: StudentSettings) -> RemedyChange:
        return RemedyChange({"augmentations": {**student.augmentations, augmentation: {}}})

    return change
