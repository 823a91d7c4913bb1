"""Which roles a run trains, with which settings and teachers, in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness_plugin.config.settings import RoleSettings, StudentSettings, TaskSettings
from harness_plugin.errors import HarnessError, unknown


@dataclass(frozen=True)
class Role:
    """One model of a run: its settings, its method, and how it is distilled (None = it is not)."""

    name: str
    method: str
    settings: RoleSettings
    distillation: StudentSettings | None = None

    @property
    def heard(self) -> tuple[str, ...]:
        """The roles it learns from."""
        given = self.distillation
        if given is None:
            return ()
        return given.teachers + ((given.biased_teacher,) if given.combine == "agre" else ())


def plan_of_roles(settings: TaskSettings) -> dict[str, Role]:
    """Every role a run will train, by name: a teacher before those that learn from it.

    Otherwise teacher, ERM teacher, further teachers, students, control, ERM student. Raises
    HarnessError for a teacher that is no role of the run, and for roles that teach in a circle.
    """
    roles = {role.name: role for role in declared(settings)}
    order: dict[str, Role] = {}
    open_roles: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        if name in open_roles:
            circle = [*open_roles[open_roles.index(name) :], name]
            raise HarnessError(f"roles learn from each other: {' <- '.join(circle)}.")
        open_roles.append(name)
        for teacher in roles[name].heard:
            if teacher not in roles:
                raise unknown(f"teacher of {name}", teacher, roles)
            visit(teacher)
        open_roles.remove(name)
        order[name] = roles[name]

    for name in roles:
        visit(name)
    return order


def behind(roles: Mapping[str, Role], name: str) -> dict[str, Role]:
    """A role and all that it learns from, in the order of `roles`."""
    needed, open_roles = set[str](), [name]
    while open_roles:
        needed.add(role := open_roles.pop())
        open_roles += [teacher for teacher in roles[role].heard if teacher not in needed]
    return {role: roles[role] for role in roles if role in needed}


def narrowed(settings: TaskSettings, name: str) -> TaskSettings:
    """The settings without the roles that `name` does not need, and without their method."""
    roles = behind(plan_of_roles(settings), name)
    changes: dict[str, object] = {
        "teachers": {role: given for role, given in settings.teachers.items() if role in roles},
        "students": {role: given for role, given in settings.students.items() if role in roles},
        "control": settings.control if "control" in roles else False,
        "references": bool({"erm_teacher", "erm_student"} & roles.keys()),
    }
    if settings.method not in {role.method for role in roles.values()}:
        changes["method"] = "erm"
    if all(role.method == "erm" and role.distillation is None for role in roles.values()):
        changes["group_inference"] = "none"
    return settings.model_copy(update=changes)


def declared(settings: TaskSettings) -> list[Role]:
    """Every role, as it is written down."""
    method, teacher, student = settings.method, settings.teacher, settings.student
    roles = [Role("teacher", method, teacher)]
    if settings.references:
        roles.append(Role("erm_teacher", "erm", teacher))
    for name, other in settings.teachers.items():
        own = method if other.method == "same" else other.method
        roles.append(Role(name, own, settings.changed_teacher(other), other.distillation))
    for name, taught in settings.students.items():
        own = method if taught.method == "same" else taught.method
        roles.append(Role(name, own, student, taught))
    if settings.control:
        roles.append(Role("control", method, student))
    if settings.references:
        roles.append(Role("erm_student", "erm", student))
    return roles
