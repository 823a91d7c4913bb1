"""What a role is, and that no two trainings share first weights and batches by accident."""

from itertools import product

from harness_plugin.config.roles import STUDENTS, TEACHERS, RoleKind, init_seed, plan_of_roles
from harness_plugin.config.settings import StudentSettings, TaskSettings, TeacherSettings


def roles_of(**changes):
    settings = {"teacher": {"model": "bert-tiny"}, "student": {"model": "bert-pico"}, **changes}
    return plan_of_roles(TaskSettings.model_validate(settings))


def test_no_two_trainings_have_one_seed():
    """1000 s + 20 n + 2 r gave teacher 25 the seed of students, round 500 the next run's."""
    seeds = (0, 1, 2, 7, 499, 500, 2**31, 2**32 - 1)
    groups = (TEACHERS, STUDENTS, 2, 3, 27, 2**14 - 1)
    rounds = (0, 1, 2, 10, 250, 500, 2**14 - 1)
    made = [
        init_seed(seed, group, number, continued=continued)
        for seed, group, number, continued in product(seeds, groups, rounds, (False, True))
    ]
    assert len(set(made)) == len(made)
    assert all(0 <= value < 2**63 for value in made)  # what torch and numpy take


def test_first_rounds_keep_the_seeds_that_readmes_numbers_were_made_with():
    assert [init_seed(s, TEACHERS) for s in (0, 1, 2)] == [0, 1000, 2000]
    assert [init_seed(s, STUDENTS) for s in (0, 1, 2)] == [500, 1500, 2500]
    assert init_seed(1, STUDENTS, continued=True) == 1501


def test_a_role_is_what_it_is_for_whatever_its_name():
    """A role was told by a substring of its name: these students had the teacher's weights."""
    names = ("student", "student_from_teacher", "student_teachers_agre", "student_erm_teacher")
    roles = roles_of(
        students={name: StudentSettings() for name in names},
        teachers={"teacher_student": TeacherSettings(), "teacher_b": TeacherSettings()},
    )
    for name in names:
        assert roles[name].kind is RoleKind.STUDENT
    assert roles["teacher_student"].kind is RoleKind.TEACHER
    students = {roles[name].init_group for name in (*names, "control", "erm_student")}
    assert students == {STUDENTS}
    assert {roles[name].init_group for name in ("teacher", "erm_teacher")} == {TEACHERS}
    further = [roles[name].init_group for name in ("teacher_student", "teacher_b")]
    assert len({*further, STUDENTS, TEACHERS}) == 4


def test_every_start_of_students_has_a_control_of_its_own():
    """Labels alone, from the weights that the student starts from; none where nobody does."""
    even, first = StudentSettings(from_teacher="even"), StudentSettings(from_teacher="first")
    of_big = StudentSettings(from_teacher="even", teachers=("teacher_big", "teacher"))
    plain = StudentSettings()

    def controls(**students):
        roles = roles_of(students=students, teachers={"teacher_big": TeacherSettings()})
        return {name: role for name, role in roles.items() if role.kind is RoleKind.CONTROL}

    assert list(controls(student=plain)) == ["control"]
    assert list(controls(student_a=even, student_b=even)) == ["control_even"]
    small = {"compress": {"int8": {}}}
    assert list(controls(student=small)) == ["control"]
    assert list(controls(student=small, student_a=even)) == ["control_even"]
    result = controls(student=plain, student_a=even, student_b=first, student_c=of_big)
    assert list(result) == ["control", "control_even", "control_first", "control_even_teacher_big"]
    assert result["control"].distillation is None
    for name, teacher in (("control_even", "teacher"), ("control_even_teacher_big", "teacher_big")):
        chosen = result[name].distillation
        assert (chosen.ce_weight, chosen.kd_weight, chosen.from_teacher) == (1, 0, "even")
        assert result[name].learns_from == (teacher,)
        assert (result[name].method, result[name].init_group) == (
            result["control"].method,
            STUDENTS,
        )
    assert not any(
        "control" in name for name in roles_of(students={"student": even}, control=False)
    )


def test_every_start_of_students_has_an_erm_student_that_starts_where_nothing_is_debiased():
    even, first = StudentSettings(from_teacher="even"), StudentSettings(from_teacher="first")
    of_big = StudentSettings(from_teacher="even", teachers=("teacher_big", "teacher"))

    def references(**students):
        roles = roles_of(students=students, teachers={"teacher_big": TeacherSettings()})
        return {name: role for name, role in roles.items() if role.kind is RoleKind.ERM_STUDENT}

    assert list(references(student=StudentSettings())) == ["erm_student"]
    assert list(references(student=StudentSettings(compress={"int8": {}}))) == ["erm_student"]
    result = references(student=StudentSettings(), student_a=even, student_b=first)
    assert list(result) == ["erm_student", "erm_student_even", "erm_student_first"]
    assert result["erm_student"].distillation is None
    reference = result["erm_student_even"]
    chosen = reference.distillation
    assert (chosen.ce_weight, chosen.kd_weight, chosen.from_teacher) == (1, 0, "even")
    assert reference.learns_from == ("erm_teacher",)
    assert (reference.method, reference.init_group, reference.augmentations) == ("erm", 1, {})
    assert reference.settings == result["erm_student"].settings
    # an assistant has no twin by ERM
    assert list(references(student=of_big, student_a=even)) == ["erm_student_even"]
    assert not references(student=of_big)
    of_erm = StudentSettings(from_teacher="even", teachers=("erm_teacher",))
    assert list(references(student=of_erm)) == ["erm_student_even"]
    assert list(references(student=of_erm, student_a=even)) == ["erm_student_even"]
    names = roles_of(students={"student": even}, references=False)
    assert not any("erm" in name for name in names)
