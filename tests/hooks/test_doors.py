"""Every door gives one number: a run's scores, lm_eval's, Inspect's, `evaluate`'s, to the digit.

One model's answers, or a student's and its teacher's, go through each; values, both ends of the
intervals and the uncorrected minima are compared, each door with each. A run's own numbers and what
`compare`, a study's tables, a leaderboard and the report make of its files are compared as well;
`harness score` is in tests/scoring/test_prediction_files.py.
"""

import itertools
import os
import tempfile
from dataclasses import replace

os.environ.setdefault("HF_EVALUATE_OFFLINE", "1")
os.environ.setdefault("HF_MODULES_CACHE", tempfile.mkdtemp())  # read once, on import

import numpy as np
import pytest
from inspect_ai.scorer import SampleScore, Score
from report_records import transfer_of

import harness_plugin as hp
from harness_plugin.cli.main import main
from harness_plugin.scoring import metrics
from harness_plugin.scoring.files import columns
from harness_plugin.scoring.score import score_task
from harness_plugin.scoring.verdict import verdicts
from harness_plugin.study import results
from harness_plugin_hooks.adapters import inspect_scoring, lm_eval_metrics
from harness_plugin_hooks.adapters.evaluate_modules.debias_transfer import debias_transfer
from harness_plugin_hooks.adapters.evaluate_modules.spurious_gap import spurious_gap
from harness_plugin_hooks.adapters.evaluate_modules.worst_group_accuracy import worst_group_accuracy
from harness_plugin_hooks.leaderboard.board import boards_of
from harness_plugin_hooks.leaderboard.verify import verify
from harness_plugin_hooks.outputs import lm_eval, predictions, transfer
from harness_plugin_hooks.report import answer

pytestmark = pytest.mark.filterwarnings("ignore:.*are left out. few:UserWarning")

LABELS = ("entailment", "non-entailment")
GROUPS = ("a", "b", "c", "few")
METRICS = (
    metrics.ACC,
    metrics.WORST_GROUP_ACC,
    metrics.GAP_AVG_WORST,
    metrics.GAP_ALIGNED_CONFLICTING,
    metrics.GAP_ENTAILMENT,
)
NAMES = {"task": "t", "split": "ood"}
ENDS = ("", "_low", "_high", "_plain")


def rows(seed):
    """Gold labels, groups, alignment; answers right in 9, 7 and 7 of 10 rows of the groups."""
    rng = np.random.default_rng(4)
    group = np.repeat(np.arange(4), (120, 80, 90, 12))
    gold = rng.integers(0, 2, len(group))
    aligned = np.where(group == 0, 1, 0)
    right = np.random.default_rng(seed).random(len(group)) < np.array([0.9, 0.7, 0.7, 0.1])[group]
    return np.where(right, gold, 1 - gold), gold, [GROUPS[g] for g in group], aligned


def record(role, seed):
    answers, gold, groups, aligned = rows(seed)
    p = columns.as_predictions(
        answers, gold, groups, known_groups=GROUPS, aligned=aligned, labels=LABELS, **NAMES
    )
    return replace(p, role=role, model=role)


def a_run(*predictions):
    return score_task(
        predictions,
        task="t",
        source="embedded",
        fingerprint="",
        train_groups=GROUPS,
        train_group_counts=[1] * 4,
        purposes={"ood": "ood"},
        metrics={m.name: m for m in METRICS},
    )


def of(name, estimate):
    return columns.numbers(name, estimate)


def by_a_run():
    (scores,) = a_run(record("teacher", 1)).scores
    return {k: v for name, e in scores.metrics.items() for k, v in of(name, e).items()}


def by_a_run_with_a_student():
    result = a_run(record("teacher", 1), record("student", 2))
    scores = next(s for s in result.scores if s.role == "teacher")
    return {k: v for name, e in scores.metrics.items() for k, v in of(name, e).items()}


def by_evaluate():
    answers, gold, groups, aligned = rows(1)
    data = (answers.tolist(), gold.tolist(), groups, list(GROUPS))
    worst = worst_group_accuracy.compute(*data, **NAMES)
    gaps = spurious_gap.compute(*data, aligned=aligned.tolist(), labels=list(LABELS), **NAMES)
    return gaps | {f"worst_group_acc{end}": worst[f"worst_group_accuracy{end}"] for end in ENDS}


def by_lm_eval():
    items = [
        (int(y), int(gold), [GROUPS.index(group)], int(a))
        for y, gold, group, a in zip(*rows(1), strict=True)
    ]
    facts = lm_eval_metrics.Facts(LABELS, GROUPS, **NAMES)
    return {
        k: v
        for metric in METRICS
        for k, v in of(metric.name, lm_eval_metrics.estimate(metric, items, facts)).items()
    }


def by_inspect():
    known = {
        "purpose": "ood",
        "labels": list(LABELS),
        "groups": list(GROUPS),
        "overlapping": False,
        "collapse": None,
        "collapse_rule": "argmax",
        "train_groups": dict.fromkeys(GROUPS, 1),
    }
    scores = []
    for i, (answers, gold, group, a) in enumerate(zip(*rows(1), strict=True)):
        facts = {"set": "ood", "label": LABELS[gold], "groups": [group], "aligned": int(a)}
        score = Score(value="C" if answers == gold else "I", answer=LABELS[answers])
        scores.append(SampleScore(score=score, sample_id=i, sample_metadata=facts))
    resampling = {"task": "t", "resamples": 1000}
    parts = (inspect_scoring.performance, inspect_scoring.spurious_gaps)
    result = {k: v for p in parts for k, v in p({"ood": known}, resampling)(scores).items()}
    return {name.removeprefix("ood_"): value for name, value in result.items()}


@pytest.fixture(scope="module")
def doors():
    made = (by_a_run, by_a_run_with_a_student, by_evaluate, by_lm_eval, by_inspect)
    return {door.__name__: door() for door in made}


DOORS = ("by_a_run", "by_a_run_with_a_student", "by_evaluate", "by_lm_eval", "by_inspect")


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(DOORS, 2)))
def test_two_doors_give_one_number(doors, one, other):
    shared = doors[one].keys() & doors[other].keys()
    minima = {f"{name}{end}" for name in ("worst_group_acc", "gap_avg_worst") for end in ENDS}
    assert minima | {"gap_aligned_conflicting_low", "gap_entailment_high"} <= shared
    for name in shared:
        assert doors[one][name] == pytest.approx(doors[other][name], abs=1e-12), name


@pytest.mark.parametrize("roles", [("teacher", "student"), ("student", "teacher")])
def test_a_student_is_compared_alike_by_a_run_and_by_evaluate(roles):
    """In whatever order the models come."""
    seeds = {"teacher": 1, "student": 2}
    result = a_run(*(record(role, seeds[role]) for role in roles)).transfer
    run = {
        t.measure: t.estimate
        for t in result
        if not t.subset and t.metric in ("worst_group_acc", "gap_avg_worst")
    }
    (answers, gold, groups, _), (teacher, *_) = rows(2), rows(1)
    data = (answers.tolist(), gold.tolist(), groups, teacher.tolist())
    module = debias_transfer.compute(*data, known_groups=list(GROUPS), **NAMES)
    for measure in ("distillability", "gap_widening", "gap_size_change"):
        for name, value in of(measure, run[measure]).items():
            assert module[name] == pytest.approx(value, abs=1e-12), name


# ---- doors that open a run's files

STUDENT, SET, GAP = "student", "swapped", "gap_avg_worst"


@pytest.fixture(scope="module")
def run(tmp_path_factory, finished_report):
    """A run's scores, as it prints them, and the folder with what it writes."""
    folder = tmp_path_factory.mktemp("run")
    report = finished_report(folder, {"teacher": 0.95, "student": 0.7})
    for output in (lm_eval, predictions, transfer):
        output.write(report, folder)
    return report.tasks[0], folder


def ends(number):
    return [number.value, number.low, number.high]


def changes_of(scores):
    return {
        (t.metric, t.measure): t.estimate
        for t in scores.transfer
        if (t.student, t.split, t.subset) == (STUDENT, SET, "")
    }


def test_a_study_tells_a_run_s_numbers_and_verdict(run, monkeypatch):
    monkeypatch.setattr(results, "sizes_of", lambda scores: {})  # of weights; these are made up
    scores, _ = run
    (verdict,) = [v for v in verdicts(scores) if (v.student, v.split) == (STUDENT, SET)]
    table = {
        (row["metric"], row["measure"]): row
        for row in results.estimates_of(scores)
        if (row["role"], row["split"], row["subset"]) == (STUDENT, SET, "")
    }
    own = {(name, "score"): e for name, e in scores.of(STUDENT, SET).metrics.items()}
    for key, estimate in (own | changes_of(scores)).items():
        shown = [table[key][end] for end in ("value", "low", "high")]
        assert [np.nan if x is None else x for x in shown] == pytest.approx(
            ends(estimate), nan_ok=True, abs=1e-12
        ), key
    assert table[GAP, "gap_size_change"]["verdict"] == verdict.state


def test_a_leaderboard_tells_a_run_s_numbers_and_verdict(run, tmp_path, plugins):
    scores, folder = run
    bundle = tmp_path / "ours.zip"
    assert main(["submit", str(folder), "--output_path", str(bundle), "--name", "Ours"]) == 0
    board = next(b for b in boards_of({"ours": verify(bundle, plugins)}) if b.known.name == SET)
    (row,) = board.rows
    (verdict,) = [v for v in verdicts(scores) if (v.student, v.split) == (STUDENT, SET)]
    assert (row.verdict, row.sentence) == (verdict.state, verdict.sentence)
    of_run = {
        name: scores.of(STUDENT, SET).metrics[name] for name in ("acc", "worst_group_acc", GAP)
    }
    changes = changes_of(scores)
    of_run["teacher_worst_group_acc"] = scores.of("teacher", SET).metrics["worst_group_acc"]
    of_run["gap_size_change"] = changes[GAP, "gap_size_change"]
    of_run["distillability"] = changes["worst_group_acc", "distillability"]
    for name, estimate in of_run.items():
        assert ends(row.numbers[name]) == pytest.approx(ends(estimate), abs=1e-12), name


def test_a_comparison_with_the_teacher_is_the_run_s_change(run):
    scores, folder = run
    comparison = hp.compare(
        folder, folder, role=STUDENT, baseline_role="teacher", margin=0.02, resamples=100
    )
    checks = {c.metric.name: c.change for c in comparison.checks if c.split == SET}
    changes = changes_of(scores)
    for name in ("acc", "worst_group_acc"):
        assert ends(checks[name].baseline) == pytest.approx(
            ends(scores.of("teacher", SET).metrics[name])
        )
        worse = changes[name, "distillability"]
        assert ends(checks[name]) == pytest.approx([-worse.value, -worse.high, -worse.low]), name
    gaps = [name for name in checks if name.startswith("gap_")]
    assert gaps
    for name in gaps:
        assert ends(checks[name]) == pytest.approx(ends(changes[name, "gap_size_change"])), name


def test_the_report_shows_the_run_s_numbers(run):
    scores, folder = run
    table = answer.numbers(transfer_of(folder))
    (shown,) = [row for row in table.rows if row[:2] == (SET, STUDENT)]
    of_student = scores.of(STUDENT, SET).metrics
    for name, cell in zip(("acc", "worst_group_acc", GAP), shown[2:5], strict=True):
        assert ends(cell) == pytest.approx(ends(of_student[name]), abs=1e-12), name
