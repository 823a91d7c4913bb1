"""Remedies: a change of a student's settings, and the further teachers it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # listing remedies imports no pydantic
    from harness_plugin.config.settings import StudentSettings, TeacherSettings
    from harness_plugin.data.dataset import TaskData
    from harness_plugin.plugins.registry import Registry


RANKING, CERTIFYING = "ranking", "certifying"
"""The half of the validation rows that students are scored on, and what is kept of it to certify:
rows that choose nothing."""


@dataclass(frozen=True)
class RemedyChange:
    """The change of a remedy, as data.

    `student` holds new values of fields of StudentSettings; `teachers` are trained besides the
    task's own teacher, by their role names.
    """

    student: Mapping[str, Any] = field(default_factory=dict)
    teachers: Mapping[str, TeacherSettings] = field(default_factory=dict)

    def applied_to(self, student: StudentSettings) -> StudentSettings:
        """`student` with the new values; raises pydantic's error for a field it does not have."""
        return type(student).model_validate({**student.model_dump(), **self.student})


ChangeFunction: TypeAlias = "Callable[[StudentSettings], RemedyChange]"
ReasonFunction: TypeAlias = "Callable[[StudentSettings, TaskData], str]"


def always_applicable(student: StudentSettings, data: TaskData) -> str:
    """No reason against any student or data."""
    return ""


@dataclass(frozen=True)
class Remedy:
    """One way to repair a student that lost its teacher's debiasing.

    `change` gets the settings of the student as it is. `cost` says in words what is paid besides
    the student's own training. `order` is the order of promise: remedies are tried from the lowest
    number up, by name where it is equal (the built-in ones are 10, 20, …, 250).
    `why_not_applicable` gives a reason why this student or data cannot have it, "" where they can;
    settings that the data cannot have are refused by the runner without it.
    """

    name: str
    summary: str
    change: ChangeFunction
    order: int
    cost: str = "none"
    why_not_applicable: ReasonFunction = always_applicable


def load_remedy(registry: Registry, name: str) -> Remedy:
    """The remedy that a plugin registered as `name`.

    Raises HarnessError for a name that nobody offers and for a target that is no such remedy.
    """
    offer = registry.offer(name)
    remedy = offer.instance(Remedy)
    if remedy.name != name:
        raise offer.refusal(remedy, f"a {__name__}.Remedy of that name")
    return remedy


def select_remedies(names: Iterable[str], registry: Registry) -> list[Remedy]:
    """The remedies called `names`, each a name or several joined by "+".

    Without names all that are registered, in the order of promise. Raises HarnessError with near
    matches for a name that nobody offers.
    """
    names = list(names)
    if not names:
        every = [load_remedy(registry, offer.name) for offer in registry]
        return sorted(every, key=lambda remedy: (remedy.order, remedy.name))
    return [combined([load_remedy(registry, part) for part in name.split("+")]) for name in names]


def combined(parts: Sequence[Remedy]) -> Remedy:
    """Several remedies at once; the later one decides where two set the same."""
    if len(parts) == 1:
        return parts[0]

    def change(student: StudentSettings) -> RemedyChange:
        teachers: dict[str, TeacherSettings] = {}
        for part in parts:
            step = part.change(student)
            student = step.applied_to(student)
            teachers |= step.teachers
        return RemedyChange(student.model_dump(), teachers)

    def why_not_applicable(student: StudentSettings, data: TaskData) -> str:
        for part in parts:
            if reason := part.why_not_applicable(student, data):
                return reason
            student = part.change(student).applied_to(student)
        return ""

    return Remedy(
        name="+".join(part.name for part in parts),
        summary="; ".join(part.summary for part in parts),
        change=change,
        order=min(part.order for part in parts),
        cost="; ".join(dict.fromkeys(part.cost for part in parts if part.cost != "none")) or "none",
        why_not_applicable=why_not_applicable,
    )
