"""Bad input of every kind is one line, never a traceback, a hang or a result."""

import shutil

import bad_input_files
import bad_input_parts
import bad_inputs
import pytest
import yaml

from harness_plugin.cli.main import main
from harness_plugin.data.yaml_files import load_yaml
from harness_plugin.plugins.registry import load_installed, make_manager

TOY = str(bad_input_parts.TOY / "toy.yaml")


@pytest.mark.parametrize("kind", bad_inputs.MAKERS)
def test_generated_bad_inputs_end_in_one_line(kind, tmp_path, toy_run, monkeypatch):
    """A few of the thousand that bench/faults.py tries."""
    monkeypatch.chdir(tmp_path)
    good = bad_inputs.Good(tmp_path / "good", toy_run.output)
    for case in bad_inputs.cases(tmp_path / "cases", 6, 77, [kind], good):
        outcome = bad_inputs.outcome(case)
        assert not outcome.fault, (case.argv, outcome.fault)


SETTINGS = {
    "teacher.epochs=1e26": "less than or equal to 1000000",
    "teacher.epochs=1e9": "less than or equal to 1000000",
    "teacher.epochs=.inf": "finite number",
    "resamples=1000000000000": "less than or equal to 1000000",
    "seeds=[-1]": "greater than or equal to 0",
    "threads=0": "greater than or equal to 1",
    "method_options.group_dro.eta=1e300": "finite number of at most",
    "teacher.batch_size=!!int abc": "is not a YAML value",
    "select=2020-13-45": "Input should be 'none', 'average', 'worst_group' or 'worst_environment'",
    "teacher=&a [*a]": "is not a YAML value",
    "student.config=" + "[" * 5000: "is not a YAML value",
    "students.student.ce_weight=0": None,
    "students.student={ce_weight: 0, kd_weight: 0}": "the student would learn nothing",
    "settings=3": "settings: ",
    "toy.rows=many": "toy.rows: expected a whole number, found 'many'",
}


@pytest.mark.parametrize("assignment", SETTINGS, ids=lambda text: text[:30])
def test_settings_that_make_no_sense_are_refused(assignment, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = (*bad_input_parts.base_run(tmp_path), "--set", assignment)
    outcome = bad_inputs.outcome(bad_input_parts.Case("settings", argv))
    if SETTINGS[assignment] is None:
        assert outcome.status == 0
        return
    assert not outcome.fault
    assert outcome.status == 2
    assert SETTINGS[assignment] in outcome.output
    assert "Traceback" not in outcome.output


@pytest.mark.parametrize(("field", "value", "why"), bad_input_files.NAMES_NOTHING)
def test_what_a_task_names_must_be_there(tmp_path, field, value, why):
    shutil.copy(bad_input_parts.TOY / "toy_data.py", tmp_path)
    task = yaml.safe_load((bad_input_parts.TOY / "toy.yaml").read_text())
    task[field] = value
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(task))
    argv = tuple(bad_input_parts.base_run(tmp_path, str(tmp_path / "toy.yaml")))
    outcome = bad_inputs.outcome(bad_input_parts.Case("yaml", argv, why))
    assert outcome.status == 2
    assert not outcome.fault


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/absent", "a" * 300])
@pytest.mark.parametrize("flag", ["--config", "--include_path"])
def test_paths_that_are_no_files_are_named(path, flag, tmp_path, capsys):
    assert main([*bad_input_parts.base_run(tmp_path), flag, path]) == 2
    assert path[:20] in capsys.readouterr().err


def test_a_plugin_that_calls_exit_is_a_broken_plugin(tmp_path, monkeypatch):
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    info = tmp_path / "leaves-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: leaves\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness_plugin]\nleaves = leaves\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = load_installed(make_manager())
    assert [one.name for one in broken] == ["leaves"]
    assert "SystemExit: 3" in str(broken[0])


def test_values_that_stand_for_too_much_are_refused():
    laughs = "\n".join(
        ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    )
    with pytest.raises(yaml.YAMLError, match="aliases stand for too much"):
        load_yaml(laughs)
    assert load_yaml("a: &x {b: 1}\nc: *x\nd: 2020-13-45")[0]["d"] == "2020-13-45"


def test_labels_and_columns_of_ones_own_table(tmp_path):
    (tmp_path / "table.csv").write_text(bad_input_files.TABLE)
    for option, message in (
        ("labels: [a, b, c]", "'c' stands in no row"),
        ("attribute: label", "another column than the label"),
        ("inputs: [text, text]", "a column is named twice"),
    ):
        task = f"task: mine\nbase: csv_groups\ntable: table.csv\n{option}\n"
        (tmp_path / "mine.yaml").write_text(task)
        case = bad_input_parts.Case("tables", ("validate", str(tmp_path / "mine.yaml")))
        outcome = bad_inputs.outcome(case)
        assert outcome.status == 2, outcome.fault
        assert message in outcome.output
