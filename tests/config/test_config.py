"""Settings: who wins, what is unknown, and that a run's own file repeats the run."""

from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import pytest
import yaml

from harness_plugin import HarnessError
from harness_plugin.config.merge import parse_assignments, run_config, task_settings
from harness_plugin.config.run_config import RunConfig
from harness_plugin.config.settings import (
    ImageSettings,
    RoleSettings,
    StudentSettings,
    TaskSettings,
    TeacherSettings,
)
from harness_plugin.data.task import read_task
from harness_plugin.data.yaml_files import merge, read_yaml
from harness_plugin.pipeline.prepare.open_task import check_option_names, load_tasks
from harness_plugin.run_tasks import resolved_config
from harness_plugin.store.files import strict
from harness_plugin.study.plan import Resources, StudyFile

TOY = Path(__file__).parents[1] / "toy" / "toy.yaml"


def settings(file=None, flags=None, sets=()):
    config = run_config(file, {"tasks": (str(TOY),), **(flags or {})}, sets)
    return task_settings(read_task(TOY), config.source_of(read_task(TOY)), ["toy"], config.settings)


def write(path, **content):
    path.write_text(yaml.safe_dump(content))
    return path


def test_later_layers_win(tmp_path):
    file = write(tmp_path / "run.yaml", settings={"teacher": {"epochs": 5}, "method": "erm"})
    assert settings().method == "group_dro"  # the default
    assert settings().teacher.epochs == 2  # the recipe
    assert settings().teacher.weight_decay == 0.01  # a default below the recipe's keys
    assert settings(file).teacher.epochs == 5
    assert settings(file, sets=["teacher.epochs=7"]).teacher.epochs == 7
    assert settings(file).teacher.model == "bert-pico"  # the file changes one key of a mapping
    assert settings(file, sets=["teacher.epochs=7"]).method == "erm"


def test_flags_win_over_the_file_and_assignments_over_flags(tmp_path):
    file = write(tmp_path / "run.yaml", data="hub", seeds=[4], limit=50)
    config = run_config(file, {"tasks": ("toy",), "data": "embedded", "limit": None}, [])
    assert (config.data, config.seeds, config.limit) == ("embedded", (4,), 50)
    config = run_config(
        file, {"tasks": ("toy",), "data": "embedded"}, ["data=data", "seeds=[1, 2]"]
    )
    assert (config.data, config.source_of(read_task(TOY)), config.seeds) == ("data", "path", (1, 2))


def test_one_task_wins_over_all_tasks_within_a_layer():
    sets = ["toy.teacher.epochs=9", "teacher.epochs=7", "student.epochs=7"]
    chosen = settings(sets=sets)
    assert (chosen.teacher.epochs, chosen.student.epochs) == (9, 7)


def test_a_flag_wins_over_what_the_file_says_of_one_task(tmp_path):
    file = write(tmp_path / "run.yaml", settings={"toy": {"teacher": {"epochs": 5}, "rows": 100}})
    assert settings(file).teacher.epochs == 5
    chosen = settings(file, sets=["teacher.epochs=7"])
    assert chosen.teacher.epochs == 7
    assert chosen.options == {"rows": 100}


def test_options_of_a_task_stand_below_its_name():
    assert settings(sets=["toy.rows=60"]).options == {"rows": 60}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("teacher.epoch=3", r"unknown setting of toy.teacher 'epoch'. Did you mean epochs"),
        ("teachr.epochs=3", r"unknown setting 'teachr'. Did you mean teacher"),
        ("toy.row=3", r"unknown setting of task toy 'row'. Did you mean rows"),
        ("teacher.epochs=-1", r"task toy: teacher.epochs: .*greater than or equal to 0 \(got -1\)"),
        ("teacher.erm_epochs=2", "erm_epochs 2.* leaves nothing of epochs 2"),
        ("students.copy={}", "a student's name begins with 'student', 'copy' does not"),
        ("students.student.distiler=kd", r"students.student.distiler"),
        ("teacher.epochs", "expected key=value"),
        ("teacher..epochs=1", "expected key=value"),
        ("teacher.epochs=[1", "is not a YAML value"),
        ("students={studnt_ce: null}", "student of task toy.* 'studnt_ce'. Did you mean student"),
        ("toy.students.student_ce=null", "unknown student of task toy.* 'student_ce'"),
        ("students={student:null}", "key 'student:null' has no value; YAML needs a space after"),
        ("method_options={group_dro: {eta:1}}", "key 'eta:1' has no value"),
        ("teacher={epochs: 1, epochs: 2}", "key given twice: epochs"),
        ("teacher.config={a: .inf}", "teacher.config: .*finite"),
        ("method_options={group_dro: {eta: [.nan]}}", "method_options.group_dro: .*finite"),
    ],
)
def test_a_bad_assignment_is_named(assignment, message):
    with pytest.raises(HarnessError, match=message):
        settings(sets=[assignment])


@pytest.mark.parametrize(
    ("assignment", "lines"),
    [
        (
            "students.student={ce_weight: 0, kd_weight: 0}",
            [
                "students.student: ce_weight and kd_weight are both 0: the student would learn "
                "nothing."
            ],
        ),
        (
            "teachers={teacher_b: {changes: {epochs: abc, nothing: 3}}}",
            [
                "teachers.teacher_b.changes: epochs: Input should be a valid number, unable to "
                "parse string as a number (got 'abc').",
                "teachers.teacher_b.changes: nothing: Extra inputs are not permitted (got 3).",
            ],
        ),
        (
            f"teacher.learning_rate={list(range(1000, 1100))}",
            [
                "teacher.learning_rate: Input should be a valid number (got "
                f"{str(list(range(1000, 1100)))[:79]}\u2026)."
            ],
        ),
        (
            "method_options={group_dro: {eta: [.nan]}}",
            [
                "method_options.group_dro: Input should be a finite number of at most 1e+12, not "
                "nan."
            ],
        ),
    ],
)
def test_every_problem_is_one_whole_line(assignment, lines):
    with pytest.raises(HarnessError) as caught:
        settings(sets=[assignment])
    assert str(caught.value).splitlines() == [f"task toy: {line}" for line in lines]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"task": ["toy"]}, r"run.yaml 'task'. Did you mean tasks"),
        ({"seeds": [1, 1]}, "a seed is given twice"),
        ({"limit": 0}, "limit: .*greater than or equal to 1"),
        ({"seeds": [-1]}, r"seeds.0: .*greater than or equal to 0 \(got -1\)"),
        ({"seeds": [0, 2**32]}, "seeds.1: .*less than 4294967296"),
        ({"data_seed": -1}, "data_seed: .*greater than or equal to 0"),
        ({"threads": 0}, "threads"),
        ({"eval_only": True, "seeds": [0, 1]}, "one checkpoint a role: give one seed"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, message):
    with pytest.raises(HarnessError, match=message):
        run_config(write(tmp_path / "run.yaml", **content), {"tasks": ("toy",)}, [])


def test_a_key_that_stands_twice_in_a_file_is_named_with_its_line(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("tasks: [toy]\nlimit: 5\nlimit: 50\n")
    with pytest.raises(HarnessError, match=r"run.yaml:3: .*key given twice: limit"):
        run_config(file, {}, [])
    file.write_text("a: &x {b: 1}\nc: {<<: *x, b: 2}\n")  # what is merged in may be replaced
    assert read_yaml(file)[0] == {"a": {"b": 1}, "c": {"b": 2}}


def test_a_student_that_a_lower_layer_brought_can_be_left_out(tmp_path):
    students = {"student": {}, "student_kd": {"kd_weight": 1}}
    for content in ({"students": students}, {"toy": {"students": students}}):
        file = write(tmp_path / "run.yaml", settings=content)
        assert set(settings(file).students) == {"student", "student_kd"}
        for assignment in ("students.student_kd=null", "toy.students={student_kd: null}"):
            assert set(settings(file, sets=[assignment]).students) == {"student"}
    both = ["students.student_kd={}", "students.student_kd=null", "students.student={}"]
    assert set(settings(sets=both).students) == {"student"}
    assert settings(sets=["students.student=null"]).students == {}
    assert settings(sets=["students.student_x=false"]).students == {}


def number_types(annotation, metadata=()):
    """Every int and float in a type, with what is said of it."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        yield from number_types(inner, (*metadata, *more))
    elif annotation in (int, float):
        yield metadata
    else:
        for part in get_args(annotation):
            own = () if get_origin(annotation) is tuple else metadata
            yield from number_types(part, own) if get_origin(annotation) is not Literal else ()


def constraints(metadata):
    for each in metadata:
        yield from each.metadata if hasattr(each, "metadata") else [each]


MODELS = [RunConfig, TaskSettings, RoleSettings, StudentSettings, TeacherSettings, ImageSettings]
NUMBERS = [
    (model, name, list(constraints(metadata)))
    for model in [*MODELS, StudyFile, Resources]
    for name, field in model.model_fields.items()
    for metadata in number_types(field.annotation, tuple(field.metadata))
]


def test_every_number_of_every_settings_model_is_looked_at():
    assert {(m.__name__, n) for m, n, _ in NUMBERS} >= {
        ("RunConfig", "seeds"),
        ("RunConfig", "threads"),
        ("RoleSettings", "erm_learning_rate"),
        ("ImageSettings", "mean"),
        ("ImageSettings", "center_crop"),
    }
    assert len(NUMBERS) > 30


@pytest.mark.parametrize(
    ("model", "name", "result"), NUMBERS, ids=lambda v: getattr(v, "__name__", v)
)
def test_every_number_has_bounds_and_is_finite(model, name, result):
    assert any(hasattr(each, "ge") or hasattr(each, "gt") for each in result)
    assert model.model_config["allow_inf_nan"] is False
    if name in ("seeds", "data_seed"):
        assert any(getattr(each, "lt", None) == 2**32 for each in result)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *((f"teacher.{name}", value) for name in ("epochs", "weight_decay", "max_grad_norm")
          for value in (".inf", ".nan")),
        ("teacher.learning_rate", ".inf"),
        ("teacher.erm_learning_rate", "0"),
        ("students.student.temperature", ".inf"),
        ("students.student.kd_weight", ".nan"),
        ("image.center_crop", "0"),
        ("image.mean", "[0.5, 0.5, 2]"),
        ("image.std", "[0.5, 0, 0.5]"),
        ("validation_fraction", ".nan"),
        ("teacher.epochs", "1e999"),
    ],
)  # fmt: skip
def test_numbers_out_of_bounds_are_refused(setting, value):
    with pytest.raises(HarnessError, match=f"task toy: {setting}"):
        settings(sets=[f"{setting}={value}"])


def test_a_missing_file_and_no_task_are_named(tmp_path):
    with pytest.raises(HarnessError, match=r"none.yaml: cannot be read"):
        run_config(tmp_path / "none.yaml", {}, [])
    with pytest.raises(HarnessError, match="no task given: --tasks"):
        run_config(None, {}, [])


def test_an_evaluation_has_one_seed_unless_told_otherwise():
    assert run_config(None, {"tasks": ("toy",), "eval_only": True}, []).seeds == (0,)
    assert run_config(None, {"tasks": ("toy",)}, []).seeds == (0, 1, 2)


def test_values_are_those_of_yaml_1_2(tmp_path):
    values = parse_assignments(["a=1e-3", "b.c={eta: 5E+2}", "d=no", "e=true", "f=1.5", "g=[1e3]"])
    assert values == {
        "a": 0.001,
        "b": {"c": {"eta": 500.0}},
        "d": "no",
        "e": True,
        "f": 1.5,
        "g": [1e3],
    }
    file = tmp_path / "run.yaml"
    file.write_text("precision: no\nsettings: {method_options: {group_dro: {eta: 1e-2}}}\n")
    config = run_config(file, {"tasks": ("toy",)}, [])
    assert config.precision == "no"
    assert config.settings["method_options"]["group_dro"]["eta"] == 0.01


def test_merging_changes_neither_side():
    base, over = {"a": {"b": [1]}}, {"a": {"c": {"d": 2}}}
    merged = merge(base, over)
    merged["a"]["b"].append(5)
    merged["a"]["c"]["d"] = 3
    assert (base, over) == ({"a": {"b": [1]}}, {"a": {"c": {"d": 2}}})


def test_the_resolved_configuration_gives_the_same_run(tmp_path, plugins):
    sets = ["toy.rows=80", "method=poe", "students.student_kd={kd_weight: 1, ce_weight: 0}"]
    flags = {"tasks": (str(TOY),), "seeds": (3, 4), "precision": "no", "limit": 40}
    flags["data"] = "embedded"  # what is written down where it was left open
    first = run_config(None, flags, sets)
    jobs = load_tasks(first, plugins)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(strict(resolved_config(first, jobs))))
    second = run_config(file, {}, [])
    (again,) = load_tasks(second, plugins)
    assert again.settings == jobs[0].settings
    assert again.data.fingerprint == jobs[0].data.fingerprint
    assert second.model_dump(exclude={"settings"}) == first.model_dump(exclude={"settings"})
    assert resolved_config(second, load_tasks(second, plugins)) == resolved_config(first, jobs)
    (changed,) = load_tasks(run_config(file, {}, ["method=erm"]), plugins)
    assert changed.settings.method == "erm"


def test_a_student_that_a_run_left_out_stays_left_out_when_its_file_is_given_back(
    tmp_path, plugins
):
    flags = {"tasks": ("celeba_bias",), "data": "embedded", "limit": 40}
    first = run_config(None, flags, ["students.student_ce=null", "celeba_bias.n_train=100"])
    jobs = load_tasks(first, plugins)
    assert set(jobs[0].settings.students) == {"student"}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(strict(resolved_config(first, jobs))))
    second = run_config(file, {}, [])
    again = load_tasks(second, plugins)
    assert again[0].settings == jobs[0].settings
    assert resolved_config(second, again) == resolved_config(first, jobs)


def test_options_of_what_nobody_offers_are_refused(plugins):
    for values in ({"method_options": {"grup_dro": {}}}, {"toy": {"method_options": {"jt": {}}}}):
        with pytest.raises(HarnessError, match=r"unknown method .* Did you mean"):
            check_option_names(values, plugins)
    for values in ({"bias_model": "featurs"}, {"toy": {"bias_model": "featurs"}}):
        with pytest.raises(HarnessError, match=r"unknown bias model 'featurs'.* Did you mean"):
            check_option_names(values, plugins)
    check_option_names({"method_options": {"jtt": {}}, "toy": {"rows": 3}}, plugins)


def test_two_tasks_of_one_name_do_not_run_together(plugins):
    config = run_config(None, {"tasks": (str(TOY), str(TOY))}, [])
    with pytest.raises(HarnessError, match="names task toy twice"):
        load_tasks(config, plugins)


def test_every_setting_has_a_default_but_the_models():
    assert RunConfig(tasks=("x",)).output_path == "results/{tasks}_{time}"


def test_a_file_may_hold_more_tasks_than_a_run(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "tasks: [hans, celeba_bias]\nsettings: {hans: {vocab_size: 500}, vocab_size: 900}"
    )
    config = run_config(file, {"tasks": ("celeba_bias",)}, [])
    assert config.settings == {"vocab_size": 900}
    assert run_config(file, {}, []).settings["hans"] == {"vocab_size": 500}
