"""Plans of studies: grids expanded, trainings shared, faults named."""

import subprocess
import sys

import pandas as pd
import pytest
from small_study import PLAN, TOY, write

from harness_plugin import HarnessError
from harness_plugin.study.plan import Resources

# ---- plans


GRID = {
    "factors": {
        "method": ["group_dro", "reweight", "poe"],
        "student.epochs": [1, 2],
        **PLAN["factors"],
    }
}


def test_a_grid_is_expanded_and_its_models_are_shared(expand):
    graph = expand(**GRID, settings=PLAN["settings"] | {"references": True})
    study = graph.study
    assert (len(study.configurations), study.cells) == (12, 24)
    roles = pd.Series([node.role for node in graph.nodes]).value_counts().to_dict()
    # a teacher a method, its ERM twin once; the control of a method has no teacher to differ by
    assert roles == {
        "teacher": 3,
        "erm_teacher": 1,
        "student": 12,
        "control": 6,
        "erm_student": 2,
    }
    assert graph.trainings == 2 * 24
    assert graph.unshared == 24 * 5
    for number, node in enumerate(graph.nodes):
        assert all(teacher < number for teacher in node.learns_from)
        assert len(node.learns_from) == (node.role == "student")


def test_equal_seeds_settings_and_names_of_students_make_equal_keys(expand):
    students = {f"student_{n}": {"ce_weight": 0, "kd_weight": 1} for n in "ab"}
    graph = expand(factors={}, settings=PLAN["settings"] | {"students": students})
    # the task's own student, and one node for two students that are trained alike
    assert [node.role for node in graph.nodes].count("student_a") == 1
    assert "student_b" not in [node.role for node in graph.nodes]
    again = expand(factors={}, settings=PLAN["settings"] | {"students": students})
    assert [node.key for node in again.nodes] == [node.key for node in graph.nodes]
    other = expand(factors={}, run=PLAN["run"] | {"data_seed": 1})
    assert not {node.key for node in other.nodes} & {node.key for node in graph.nodes}


def test_cells_are_left_out_and_added(expand):
    graph = expand(
        **GRID,
        leave_out=[{"method": "poe"}, {"method": "reweight", "student.epochs": [1, 2]}],
        cells=[{"method": "poe", "student.epochs": 2, "distilled": "pure", "seed": 7}],
    )
    levels = [graph.study.levels_of(c) for c in graph.study.configurations]
    assert [one["method"] for one in levels] == ["group_dro"] * 4 + ["poe"]
    assert graph.study.configurations[-1].seeds == (7,)
    assert {seed for seeds in graph.seeds for seed in seeds} == {0, 1, 7}
    assert len({graph.study.id_of(c) for c in graph.study.configurations}) == 5


def test_seeds_are_left_out_of_cells_and_added_to_them(expand):
    study = expand(
        leave_out=[{"seed": 1, "distilled": "pure"}, {"seed": [0], "distilled": "half"}],
        cells=[{"distilled": "pure", "seed": [0, 5]}],
    ).study
    seeds = {study.levels_of(c)["distilled"]: c.seeds for c in study.configurations}
    assert seeds == {"pure": (0, 5), "half": (1,)}


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ({"method_options": {"group_dro": {"etta": 1}}}, r"cell .*odd x: .*option.*etta.*eta"),
        ({"students": {"student": {"distiller_options": {"b": 1}}}}, "unknown option of"),
        ({"teacher": {"model": "bert-picco"}}, "cell .*bert-picco"),
    ],
)
def test_options_and_models_are_checked_before_anything_is_trained(expand, plugins, level, message):
    graph = expand(factors={"odd": {"x": level}})
    with pytest.raises(HarnessError, match=message):
        graph.check_choices(plugins)


def test_settings_under_a_tasks_name_hold_for_it_alone(expand):
    factors = {"size": {"small": {}, "large": {"hans": {"student": {"epochs": 3}}}}}
    graph = expand(tasks=[TOY, "hans"], factors=factors, settings={"references": False})
    by_task = pd.Series([node.task for node in graph.nodes if node.role == "control"])
    assert by_task.value_counts().to_dict() == {"hans": 2, "toy": 1}
    hans = [c for c in graph.study.configurations if graph.study.task_of(c) == "hans"]
    assert graph.study.settings_of(hans[1])["hans"] == {"student": {"epochs": 3}}
    assert TOY not in graph.study.settings_of(hans[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"studie": 1}, "unknown key of .*plan.yaml:.*Did you mean study"),
        ({"study": "Two words"}, r"plan.yaml:1: study: String should match"),
        ({"seeds": [0, 0]}, r"plan.yaml:\d+: seeds: .*given twice"),
        ({"run": {"thread": 1}}, "unknown run setting in .*Did you mean threads"),
        ({"run": {"output_path": "x"}}, "unknown run setting"),
        ({"run": {"threads": -1, "precision": "fp8"}}, "run: precision"),
        ({"factors": {"methode": ["poe"]}}, r"named for.*Did you mean method"),
        ({"factors": {"method": []}}, "has no level"),
        ({"factors": {"method": ["poe", "poe"]}}, "has level poe twice"),
        ({"factors": {"seed": [1]}}, "set seeds instead"),
        ({"factors": {"method": ["po"]}}, "cell task .*method po: unknown method 'po'"),
        ({"factors": {"x": {"a": {"student": {"epoch": 1}}}}}, "cell .*unknown setting"),
        ({"leave_out": [{"distilled": "purr"}]}, "unknown level of distilled .*pure"),
        ({"leave_out": [{"distil": "pure"}]}, "unknown factor in"),
        ({"cells": [{"distilled": "pure"}]}, "is in the study already"),
        ({"cells": [{"seed": 3}]}, "names no level of distilled"),
        ({"cells": [{"distilled": "pure", "seed": "x"}]}, "seed: expected whole numbers"),
        ({"tasks": ["hanz"]}, "unknown task 'hanz'"),
        ({"resources": {"memory": "2 bytes"}}, "resources.memory"),
        ({"resources": {"cpus": 0}}, "resources.cpus"),
    ],
)
def test_what_is_wrong_with_a_plan_is_named(expand, changes, message):
    with pytest.raises(HarnessError, match=message):
        expand(**changes)


def test_a_level_may_leave_out_a_student_that_the_study_brings(expand):
    students = {"student": {}, "student_kd": {"kd_weight": 1}}
    levels = {"both": {}, "one": {"students": {"student_kd": None}}}
    graph = expand(settings={"students": students}, factors={"which": levels}, leave_out=[])
    both, one = graph.study.configurations[:2]
    assert set(graph.study.settings_of(both)["students"]) == {"student", "student_kd"}
    assert graph.study.settings_of(one)["students"]["student_kd"] is False


def test_planning_imports_nothing_heavy(tmp_path):
    program = (
        "import sys; from harness_plugin.cli.main import main\n"
        f"assert main(['study', {str(write(tmp_path))!r}, '--dry_run']) == 0\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "8 distinct trainings; 12 without sharing: 33% saved" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_memory_is_a_number_of_bytes():
    assert Resources(memory="1.5 GiB").memory_bytes == 3 * 2**29
    assert Resources(memory="2MiB").memory_bytes == 2**21
    assert Resources().memory_bytes is None
