"""Metrics as modules of `evaluate`: loaded from the folder, without the hub, and combined."""

import os
import tempfile

os.environ.setdefault("HF_EVALUATE_OFFLINE", "1")
os.environ.setdefault("HF_MODULES_CACHE", tempfile.mkdtemp())  # read once, on import

import json
import math
import re
import subprocess
import sys

import evaluate
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from harness_plugin import HarnessError
from harness_plugin.scoring.files import columns
from harness_plugin_hooks.adapters.evaluate_modules import folder

NAMES = sorted(path.name for path in folder().iterdir() if (path / f"{path.name}.py").is_file())


@pytest.fixture
def load(tmp_path):
    """Load a module into a cache of this test's own."""
    return lambda name: evaluate.load(str(folder() / name), cache_dir=str(tmp_path))


PREDICTED = [1, 0, 1, 1, 0, 0, 1, 0]
GOLD = [1, 0, 0, 1, 0, 1, 1, 1]
GROUPS = ["a", "a", "a", "b", "b", "b", "b", "b"]
DATA = {"predictions": PREDICTED, "references": GOLD, "groups": GROUPS}  # a: 2 of 3, b: 3 of 5


def random_data(seed=0, rows=200):
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 2, rows)
    predicted = np.where(rng.random(rows) < 0.7, gold, 1 - gold)
    return predicted.tolist(), gold.tolist(), [f"g{i}" for i in rng.integers(0, 4, rows)]


def test_the_modules_there_are():
    assert NAMES == [
        "accuracy",
        "debias_transfer",
        "f1",
        "group_accuracy",
        "spurious_gap",
        "worst_group_accuracy",
    ]


def test_groups_by_hand(load):
    worst = load("worst_group_accuracy").compute(**DATA, min_group=1)
    assert worst["worst_group_accuracy_plain"] == pytest.approx(3 / 5)
    assert worst["worst_group"] == "b"
    assert worst["worst_group_accuracy"] > 3 / 5  # corrected for having been looked for
    with pytest.warns(
        UserWarning, match="no group has rows enough to steer a minimum, the largest has 5"
    ):
        few = load("worst_group_accuracy").compute(**DATA)
    assert math.isnan(few["worst_group_accuracy"])
    assert few["worst_group"] == ""
    every = load("group_accuracy").compute(**DATA)
    assert every["group_accuracy"] == {"a": pytest.approx(2 / 3), "b": pytest.approx(3 / 5)}
    assert every["n"] == {"a": 3, "b": 5}


def test_groups_against_scikit_learn(load):
    answers, gold, groups = random_data()
    result = load("group_accuracy").compute(predictions=answers, references=gold, groups=groups)
    for name, value in result["group_accuracy"].items():
        rows = [i for i, group in enumerate(groups) if group == name]
        expected = accuracy_score([gold[i] for i in rows], [answers[i] for i in rows])
        assert value == pytest.approx(expected)
        assert result["n"][name] == len(rows)


def test_an_empty_group_is_nan_with_no_rows_and_a_warning_and_shifts_no_other(load):
    known = ["a", "never", "b"]
    with pytest.warns(UserWarning, match="group 'never' has no row"):
        result = load("group_accuracy").compute(**DATA, known_groups=known)
    assert math.isnan(result["group_accuracy"]["never"])
    assert result["n"] == {"a": 3, "never": 0, "b": 5}
    assert result["group_accuracy"]["b"] == pytest.approx(3 / 5)
    answers = r"groups under 1 rows are left out: never \(0\)"
    with pytest.warns(UserWarning, match=f"worst_group_acc: {answers}"):
        worst = load("worst_group_accuracy").compute(**DATA, known_groups=known, min_group=1)
    assert worst["worst_group_accuracy_plain"] == pytest.approx(3 / 5)
    with pytest.warns(UserWarning, match=f"gap_avg_worst: {answers}"):
        load("spurious_gap").compute(**DATA, known_groups=known, min_group=1)


def test_every_named_gap_by_hand(load):
    result = load("spurious_gap").compute(
        **DATA,
        aligned=[1, 1, 0, 1, 1, 0, -1, 0],
        labels=["entailment", "non-entailment"],
        in_domain_accuracy=0.9,
        min_group=1,
    )
    assert result["gap_avg_worst_plain"] == pytest.approx(5 / 8 - 3 / 5)
    assert result["gap_aligned_conflicting"] == pytest.approx(1 - 0)
    assert result["gap_entailment"] == pytest.approx(2 / 3 - 3 / 5)  # label 0 is entailment
    assert result["gap_id_ood"] == pytest.approx(0.9 - 5 / 8)
    ends = {"gap_avg_worst", "gap_avg_worst_low", "gap_avg_worst_high", "gap_avg_worst_plain"}
    assert load("spurious_gap").compute(**DATA, min_group=1).keys() == ends


def test_transfer_by_hand(load):
    """Sixteen times the rows: what is shown of an accuracy, and what is not."""
    right, data = GOLD * 16, {name: column * 16 for name, column in DATA.items()}
    erm = [*GOLD[:4], *(1 - y for y in GOLD[4:])] * 16
    result = load("debias_transfer").compute(
        **data,
        teacher=right,
        control=PREDICTED * 16,
        erm_teacher=erm,
        erm_student=erm,
        metric="acc",
    )
    assert result["distillability"] == pytest.approx(5 / 8 - 1)
    assert result["distillability_low"] < 5 / 8 - 1 < result["distillability_high"] < 0
    assert result["contribution"] == result["contribution_low"] == result["contribution_high"] == 0
    assert result["retention"] == pytest.approx((5 / 8 - 4 / 8) / (1 - 4 / 8))
    assert result["retention_low"] < result["retention"] < result["retention_high"]
    worst = load("debias_transfer").compute(**data, teacher=right)
    assert worst["distillability"] == pytest.approx(3 / 5 - 1, abs=0.05)  # a corrected minimum
    assert worst["gap_widening"] == worst["gap_size_change"]
    assert worst["contribution"] is worst["retention"] is worst["retention_low"] is None
    with pytest.warns(UserWarning, match="the teacher's gain over ERM is not clearly above 0"):
        none = load("debias_transfer").compute(
            **data, teacher=right, erm_teacher=right, erm_student=PREDICTED * 16, metric="acc"
        )
    assert math.isnan(none["retention"])


def test_accuracy_and_f1_are_scikit_learns(load):
    answers, gold, _ = random_data(1)
    assert load("accuracy").compute(predictions=answers, references=gold) == {
        "accuracy": pytest.approx(accuracy_score(gold, answers))
    }
    for average in ("binary", "macro"):
        result = load("f1").compute(predictions=answers, references=gold, average=average)
        assert result == {"f1": pytest.approx(f1_score(gold, answers, average=average))}


def test_modules_combine_and_take_batches(load):
    both = evaluate.combine([load("worst_group_accuracy"), load("accuracy")])
    data = {name: column * 16 for name, column in DATA.items()}
    result = both.compute(**data)
    assert result["accuracy"] == pytest.approx(5 / 8)
    assert result["worst_group_accuracy_plain"] == pytest.approx(3 / 5)
    metric = load("worst_group_accuracy")
    for start in (0, 64):
        metric.add_batch(**{name: column[start : start + 64] for name, column in data.items()})
    assert metric.compute()["worst_group_accuracy"] == result["worst_group_accuracy"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": ["a"]}, "groups: (1,) values for (2,) references"),
        (
            {"groups": ["a", "c"], "known_groups": ["a", "b"]},
            "groups: row 2 has 'c'; known",
        ),
        ({"predicted": [0, -1]}, "predictions: expected labels 0 to 1"),
        ({"predicted": [0.0, 1.0]}, "predictions: expected labels"),
        ({"labels": ["one"], "gold": [0, 0]}, "predictions: expected labels 0 to 0"),
    ],
)
def test_columns_that_do_not_fit_are_named(changes, message):
    values = {"predicted": [0, 1], "gold": [1, 1], "groups": ["a", "b"], **changes}
    with pytest.raises(HarnessError) as caught:
        columns.as_predictions(**values)
    assert message in str(caught.value)


def test_a_teacher_and_a_metric_are_needed(load):
    with pytest.raises(ValueError, match="needs the teacher's predictions"):
        load("debias_transfer").compute(**DATA)
    with pytest.raises(HarnessError, match="metric of debias_transfer 'f1'"):
        load("debias_transfer").compute(**DATA, teacher=GOLD, metric="f1")


def test_the_command_prints_the_folder():
    words = [sys.executable, "-m", "harness_plugin", "metrics-path"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(folder())


def test_the_record_of_a_run_is_what_evaluate_saves(finished_report, tmp_path):
    from harness_plugin_hooks.outputs import evaluate_save

    report = finished_report(tmp_path, {"teacher": 0.9}, seeds=1)
    (ours,) = evaluate_save.write(report, tmp_path / "ours")
    result = json.loads(ours.read_text())
    theirs = evaluate.save(tmp_path / "theirs", **{k: v for k, v in result.items() if k[0] != "_"})
    expected = json.loads(theirs.read_text())
    assert list(result) == list(expected)
    differ = {key for key in result if result[key] != expected[key]}
    assert differ <= {"_timestamp", "_git_commit_hash", "_interpreter_path"}
    assert "/" not in result["_interpreter_path"]
    assert ours.name == "result-1970_01_01-00_00_00.json"
    assert re.fullmatch(re.sub(r"\d", r"\\d", ours.name), theirs.name)
    assert result["made_id_acc"] == 0.9
    assert result["made_id_gap_entailment"] is None
