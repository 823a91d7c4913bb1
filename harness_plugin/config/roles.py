"""Which roles a run trains, with which settings and teachers, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from harness_plugin.config.fields import Options
from harness_plugin.config.settings import (
    RoleSettings,
    StudentSettings,
    TaskSettings,
    TeacherSettings,
)
from harness_plugin.errors import HarnessError, unknown


class RoleKind(StrEnum):
    """Purpose of a role, independent of its name."""

    TEACHER = "teacher"
    STUDENT = "student"
    CONTROL = "control"
    """A student's twin that learns from labels alone: same start, method, rows and updates."""
    ERM_TEACHER = "erm_teacher"
    ERM_STUDENT = "erm_student"
    """The undebiased references."""

    @property
    def from_labels(self) -> bool:
        """Whether such a role learns from labels alone, whatever layers it starts from."""
        return self in (RoleKind.CONTROL, RoleKind.ERM_STUDENT)


TEACHERS = 0
STUDENTS = 1
"""Init groups: the roles of one group and seed start from the same weights and see the same
batches. Student, control and ERM student are one group, so that they can be compared; teacher and
ERM teacher are another; every further teacher is a group of its own."""


@dataclass(frozen=True)
class Role:
    """One model of a run, as its settings declare it.

    `distillation` None = no teacher has anything to do with it. A control or ERM student whose
    student starts from a teacher's layers has one that gives it such layers and nothing else.
    `augmentations` are those of the method, where it learns by the method, and its own.
    """

    name: str
    kind: RoleKind
    init_group: int
    method: str
    settings: RoleSettings
    distillation: StudentSettings | None = None
    augmentations: Mapping[str, Options] = field(default_factory=dict)

    @property
    def learns_from(self) -> tuple[str, ...]:
        """The roles that must be trained before it, a biased model that it avoids among them."""
        chosen = self.distillation
        if chosen is None:
            return ()
        return chosen.teachers + ((chosen.avoided,) if chosen.avoided else ())


def start_of(layers: str, teacher: str, *, compressed: bool) -> str:
    """Origin of a model's first weights in words: "even layers of teacher", "" for its own."""
    if compressed:
        return f"the network of {teacher}"
    return "" if layers == "none" else f"{layers} layers of {teacher}"


def init_seed(seed: int, init_group: int, round_number: int = 0, *, continued: bool = False) -> int:
    """The seed of a training's first weights and batches, another for each set of arguments.

    `seed` is the run's, in [0, 2**32); `init_group` and `round_number` are in [0, 2**14).
    `continued` trainings go on from weights of their own role and must not repeat its batches.
    The seeds of first rounds of the two large groups are small numbers, as they were when README's
    numbers were made; all others have bit 62 set, so that the two kinds never meet.
    """
    if init_group in (TEACHERS, STUDENTS) and round_number == 0:
        return 1000 * seed + 500 * init_group + continued
    packed = (seed << 14 | init_group) << 14 | round_number
    return 1 << 62 | packed << 1 | continued


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
        for teacher in roles[name].learns_from:
            if teacher not in roles:
                raise unknown(f"teacher of {name}", teacher, roles)
            visit(teacher)
        open_roles.remove(name)
        order[name] = made_smaller(roles[name], order)

    for name in roles:
        visit(name)
    return order


def behind(roles: Mapping[str, Role], name: str) -> dict[str, Role]:
    """A role and all that it learns from, in the order of `roles`."""
    needed, open_roles = set[str](), [name]
    while open_roles:
        needed.add(role := open_roles.pop())
        open_roles += [teacher for teacher in roles[role].learns_from if teacher not in needed]
    return {role: roles[role] for role in roles if role in needed}


def declared(settings: TaskSettings) -> list[Role]:
    """Every role, as it is written down."""
    method, teacher, student = settings.method, settings.teacher, settings.student
    of_method = settings.augmentations
    roles = [Role("teacher", RoleKind.TEACHER, TEACHERS, method, teacher, augmentations=of_method)]
    if settings.references:
        roles.append(Role("erm_teacher", RoleKind.ERM_TEACHER, TEACHERS, "erm", teacher))
    for number, (name, other) in enumerate(settings.teachers.items()):
        own = method if other.method == "same" else other.method
        chosen = trained_for(settings.changed_teacher(other), name, other.distillation)
        group, rows = STUDENTS + 1 + number, augmentations(settings, other, other.distillation)
        roles.append(Role(name, RoleKind.TEACHER, group, own, chosen, other.distillation, rows))
    for name, distilled in settings.students.items():
        own = method if distilled.method == "same" else distilled.method
        chosen = trained_for(student, name, distilled)
        rows = augmentations(settings, distilled, distilled)
        roles.append(Role(name, RoleKind.STUDENT, STUDENTS, own, chosen, distilled, rows))
    if settings.control:
        roles += controls(settings)
    if settings.references:
        roles += erm_students(settings)
    return roles


def augmentations(
    settings: TaskSettings,
    role: TeacherSettings | StudentSettings,
    distillation: StudentSettings | None,
) -> dict[str, Options]:
    """Those of the method, where the role learns by it, and those of its distillation."""
    of_method = settings.augmentations if role.method == "same" else {}
    return {**of_method, **(distillation.augmentations if distillation else {})}


def controls(settings: TaskSettings) -> Iterator[Role]:
    """A control for every start that students have: from labels alone, from the same weights."""
    method, student, rows = settings.method, settings.student, settings.augmentations
    for layers, teacher in starts(settings):
        name = "control"
        if teacher:
            name = f"control_{layers}" if teacher == "teacher" else f"control_{layers}_{teacher}"
        start = layers_alone(layers, teacher)
        yield Role(name, RoleKind.CONTROL, STUDENTS, method, student, start, rows)


def erm_students(settings: TaskSettings) -> Iterator[Role]:
    """An ERM student for every start: of its own weights, or from the ERM teacher's layers.

    It is what the student would be if nothing were debiased. A further teacher has no twin by ERM
    to start from.
    """
    known = {"": "", "teacher": "erm_teacher", "erm_teacher": "erm_teacher"}
    found = [(layers, known[teacher]) for layers, teacher in starts(settings) if teacher in known]
    for layers, teacher in dict.fromkeys(found):
        name = f"erm_student_{layers}" if teacher else "erm_student"
        start = layers_alone(layers, teacher)
        yield Role(name, RoleKind.ERM_STUDENT, STUDENTS, "erm", settings.student, start)


def starts(settings: TaskSettings) -> list[tuple[str, str]]:
    """The starts that students have: layers and whose they are, "" for weights of their own.

    A compressed teacher has none: nothing else starts from all of the teacher.
    """
    own = [s for s in settings.students.values() if not s.compress]
    found = [(s.from_teacher, "" if s.from_teacher == "none" else s.teachers[0]) for s in own]
    return sorted(dict.fromkeys(found or [("none", "")]), key=lambda start: start[1] != "")


def layers_alone(layers: str, teacher: str) -> StudentSettings | None:
    """To start from a teacher's layers, if from any, and learn from labels alone."""
    if not teacher:
        return None
    return StudentSettings(from_teacher=layers, teachers=(teacher,), ce_weight=1.0, kd_weight=0.0)


def trained_for(
    settings: RoleSettings, name: str, distilled: StudentSettings | None
) -> RoleSettings:
    """The settings with the epochs that its distillation asks for; HarnessError where it cannot."""
    if distilled is None or distilled.epochs is None or distilled.compress:
        return settings
    if distilled.epochs <= settings.erm_epochs:
        raise HarnessError(
            f"{name}: erm_epochs {settings.erm_epochs:g} leaves nothing of epochs "
            f"{distilled.epochs:g}."
        )
    return settings.model_copy(update={"epochs": distilled.epochs})


def made_smaller(role: Role, teachers: Mapping[str, Role]) -> Role:
    """A role of `compress` with the settings of its first teacher, whose network it is.

    It goes on from the teacher's weights, by the method alone, for the epochs that are given, and
    learns from no rows where there are none.
    """
    if role.distillation is None or not role.distillation.compress:
        return role
    theirs = teachers[role.distillation.teachers[0]].settings
    epochs = role.distillation.epochs or 0.0
    settings = theirs.model_copy(update={"epochs": epochs, "erm_epochs": 0.0})
    return replace(role, settings=settings, augmentations=role.augmentations if epochs else {})
