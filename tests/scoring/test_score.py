"""Scoring: joins, hand-computed transfer measures, pairing, intervals, verdicts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import planted
import pytest

from harness_plugin.errors import HarnessError
from harness_plugin.records import Estimate, Predictions, TaskScores, TrainedModel, VerdictRule
from harness_plugin.scoring import metrics as m
from harness_plugin.scoring.measure import Bootstrap, resample
from harness_plugin.scoring.pairing import first_of, take
from harness_plugin.scoring.score import score_task

METRICS = {
    metric.name: metric
    for metric in (
        m.ACC,
        m.F1,
        m.WORST_GROUP_ACC,
        m.ACC_TRAIN_WEIGHTED,
        m.GAP_ID_OOD,
        m.GAP_ALIGNED_CONFLICTING,
        m.GAP_AVG_WORST,
        m.GAP_ENTAILMENT,
        m.ECE,
    )
}
LABELS = ("entailment", "non-entailment")
GROUPS = ("lexical/entailment", "lexical/non", "sub/entailment", "sub/non")
N = 40
GROUP = np.arange(N) % 4
LABEL = GROUP % 2


def predict(role, seed, rights, split="hans", **more):
    """Predictions that get `rights` of the 10 rows of each of the four groups right."""
    rank = np.arange(N) // 4
    right = rank < np.asarray(rights)[GROUP]
    predicted = np.where(right, LABEL, 1 - LABEL)
    fields = {
        "task": "t",
        "split": split,
        "role": role,
        "model": f"{role}-{seed}",
        "seed": seed,
        "ids": np.array([f"ex{i:02d}" for i in range(N)]),
        "logits": 2 * np.eye(2, dtype=np.float32)[predicted],
        "model_labels": LABELS,
        "label": LABEL,
        "labels": LABELS,
        "group": GROUP,
        "groups": GROUPS,
        "aligned": 1 - LABEL,
        "breakdowns": {"heuristic": np.where(GROUP < 2, "lexical", "sub")},
    }
    return Predictions(**(fields | more))


def score(predictions, **more) -> TaskScores:
    arguments = {
        "task": "t",
        "source": "embedded",
        "fingerprint": "f",
        "train_groups": GROUPS,
        "train_group_counts": [4, 1, 4, 1],
        "purposes": {"hans": "ood", "mnli": "in_domain"},
        "metrics": METRICS,
        "resamples": 200,
        "rule": VerdictRule(min_group=1),
    }
    return score_task(predictions, **(arguments | more))


def transfer(scores, metric, measure, *, subset="", student="student", split="hans") -> Estimate:
    expected = (student, split, subset, metric, measure)
    result = [
        t
        for t in scores.transfer
        if (t.student, t.split, t.subset, t.metric, t.measure) == expected
    ]
    assert len(result) == 1, [t for t in scores.transfer if t.measure == measure]
    return result[0].estimate


RIGHTS = {
    "teacher": (9, 7, 9, 8),
    "student": (10, 4, 9, 6),
    "control": (9, 5, 9, 6),
    "erm_teacher": (10, 2, 10, 2),
    "erm_student": (10, 1, 10, 1),
}


@pytest.fixture
def predictions() -> list[Predictions]:
    """Five roles, three seeds; seed k loses k rows of the last group."""
    return [
        predict(role, seed, (*rights[:3], rights[3] - seed), split=split)
        for role, rights in RIGHTS.items()
        for seed in (0, 1, 2)
        for split in ("hans", "mnli")
    ]


def test_scores_by_hand(predictions):
    result = score(predictions).of("teacher", "hans")
    assert result.metrics["acc"].seeds == pytest.approx((33 / 40, 32 / 40, 31 / 40))
    assert result.metrics["acc"].value == pytest.approx(32 / 40)
    assert result.metrics["acc"].sd == pytest.approx(1 / 40)
    assert result.metrics["worst_group_acc"].plain == pytest.approx((0.7, 0.7, 0.6))
    assert result.metrics["worst_group_acc"].value > 2 / 3  # corrected for the noise of ten rows
    assert result.metrics["gap_entailment"].seeds == pytest.approx((0.15, 0.2, 0.25))
    assert result.metrics["acc_train_weighted"].seeds[0] == pytest.approx(0.8 * 0.9 + 0.2 * 0.75)
    assert result.groups["sub/non"].value == pytest.approx(0.7)
    assert result.groups["sub/non"].n == 10
    sub = result.breakdowns["heuristic"]["sub"]
    assert set(sub) == {"acc", "gap_aligned_conflicting", "gap_entailment"}
    assert sub["gap_entailment"].seeds == pytest.approx((0.1, 0.2, 0.3))
    assert sub["acc"].n == 20


def test_transfer_by_hand(predictions):
    scores = score(predictions)
    change = transfer(scores, "acc", "distillability")
    assert change.seeds == pytest.approx((-4 / 40,) * 3)
    assert change.sd == pytest.approx(0)
    assert transfer(scores, "acc", "contribution").value == pytest.approx(0 / 40)
    widening = transfer(scores, "gap_entailment", "gap_widening")
    assert widening.value == pytest.approx((19 - 9) / 20 - (18 - 14) / 20)
    size = transfer(scores, "gap_entailment", "gap_size_change")
    assert (size.value, size.low) == pytest.approx((widening.value, widening.low))
    assert size.high > widening.high  # the sign of the teacher's gap is not shown by 40 rows
    lexical = transfer(scores, "gap_entailment", "gap_widening", subset="heuristic=lexical")
    assert lexical.value == pytest.approx(0.6 - 0.2)
    group = transfer(scores, "acc", "distillability", subset="group=lexical/non")
    assert group.value == pytest.approx(-0.3)
    assert not [t for t in scores.transfer if t.measure == "distillability" and "gap" in t.metric]
    assert {t.student for t in scores.transfer} == {"student"}


def test_retention_is_a_ratio_of_means():
    """Accuracy: ERM .6, teacher .75, student .65: a third of the gain is kept."""
    rights = {
        "teacher": (10, 5, 10, 5),
        "student": (10, 3, 10, 3),
        "erm_teacher": (10, 2, 10, 2),
        "erm_student": (10, 2, 10, 2),
    }
    scores = score([predict(role, seed, r) for role, r in rights.items() for seed in (0, 1, 2)])
    kept = transfer(scores, "acc", "retention")
    assert kept.value == pytest.approx((0.65 - 0.6) / (0.75 - 0.6))
    assert kept.low < kept.value < kept.high
    assert kept.reason == ""
    assert not [t for t in scores.transfer if t.measure == "retention" and t.metric == "ece"]
    assert not [t for t in scores.transfer if t.measure == "retention" and "gap" in t.metric]


def test_retention_stays_finite_where_a_resample_has_no_gain():
    """The teacher's gain is 3 of 10 rows in two groups."""
    rights = {
        "teacher": (9, 7, 9, 7),
        "student": (10, 4, 10, 4),  # gains on other rows than the teacher
        "erm_teacher": (9, 4, 9, 4),
        "erm_student": (9, 4, 9, 4),
    }
    scores = score([predict(role, 0, r) for role, r in rights.items()], resamples=4000)
    kept = transfer(scores, "acc", "retention")
    assert kept.value == pytest.approx(1 / 3)
    assert -1 < kept.low < 1 / 3 < kept.high < 10


def test_retention_without_a_gain_is_undefined():
    same = (8, 6, 8, 6)
    roles = ("teacher", "student", "erm_teacher", "erm_student")
    scores = score([predict(role, seed, same) for role in roles for seed in (0, 1)])
    nothing = transfer(scores, "worst_group_acc", "retention")
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
    assert nothing.reason == (
        "the teacher's gain over ERM is not clearly above 0 (0.000, 95% interval 0.000 to 0.000)"
    )


def test_gap_id_ood():
    predictions = [predict("teacher", 0, (9, 9, 9, 9), split="mnli")]
    predictions += [predict("student", 0, (8, 8, 8, 8), split="mnli")]
    predictions += [predict("teacher", 0, (9, 5, 9, 5)), predict("student", 0, (9, 1, 9, 1))]
    scores = score(predictions)
    assert [s.split for s in scores.scores] == ["mnli", "mnli", "hans", "hans"]
    assert "gap_id_ood" not in scores.of("teacher", "mnli").metrics
    assert scores.of("teacher", "hans").metrics["gap_id_ood"].value == pytest.approx(0.9 - 0.7)
    widening = transfer(scores, "gap_id_ood", "gap_widening")
    assert widening.value == pytest.approx((0.8 - 0.5) - (0.9 - 0.7))
    alone = score(predictions[2:]).of("teacher", "hans").metrics["gap_id_ood"]
    assert (np.isnan(alone.value), alone.reason) == (True, "there is no in-domain set")


def test_in_domain_and_ood_are_resampled_independently():
    """Var(id - ood) = var(id) + var(ood), also when the two sets hold the same rows."""
    rights = (7, 7, 7, 7)
    scores = score(
        [predict("teacher", 0, rights, split=split) for split in ("mnli", "hans")], resamples=3000
    )
    error = scores.of("teacher", "hans").metrics["gap_id_ood"].errors[0]
    assert error == pytest.approx(np.sqrt(2 * 0.7 * 0.3 / 40), rel=0.06)


def test_identical_models_differ_by_exactly_nothing(predictions):
    teachers = [p for p in predictions if p.role == "teacher"]
    copies = [replace(p, role="student_copy") for p in teachers]
    scores = score(teachers + copies)
    assert scores.transfer
    for t in scores.transfer:
        assert (t.student, t.estimate.value) == ("student_copy", 0)
        assert (t.estimate.low, t.estimate.high) == (0, 0)


def test_paired_resamples_are_tighter_than_unpaired():
    """Models that differ in 2 of 40 rows: the interval is that of these rows alone."""
    scores = score(
        [predict("teacher", 0, (5, 5, 5, 5)), predict("student", 0, (5, 5, 5, 3))], resamples=4000
    )
    change = transfer(scores, "acc", "distillability")
    # only the last group varies: 10 rows, 2 of them differ
    assert change.errors[0] == pytest.approx(np.sqrt(10 * 0.2 * 0.8) / 40, rel=0.05)


def test_row_order_does_not_matter(predictions):
    rng = np.random.default_rng(0)

    def shuffled(p):
        order = rng.permutation(len(p))
        columns = ("ids", "logits", "label", "group", "aligned")
        breakdowns = {name: column[order] for name, column in p.breakdowns.items()}
        return replace(
            p, **{name: getattr(p, name)[order] for name in columns}, breakdowns=breakdowns
        )

    one, other = score(predictions), score([shuffled(p) for p in predictions])
    assert repr(one.scores) == repr(other.scores)
    assert repr(one.transfer) == repr(other.transfer)


def test_the_order_of_roles_and_sets_does_not_matter(predictions):
    one, other = score(predictions), score(predictions[::-1])
    for s in one.scores:
        assert repr(other.of(s.role, s.split).metrics) == repr(s.metrics)


def test_the_seed_decides_the_resamples(predictions):
    assert repr(score(predictions).transfer) == repr(score(predictions).transfer)
    assert repr(score(predictions).transfer) != repr(score(predictions, seed=1).transfer)


def test_predictions_are_kept_in_order(predictions):
    kept = score(predictions).predictions
    keys = [(p.role, p.seed, p.split) for p in kept]
    assert keys[:4] == [
        ("teacher", 0, "mnli"),
        ("teacher", 0, "hans"),
        ("teacher", 1, "mnli"),
        ("teacher", 1, "hans"),
    ]
    assert len(keys) == len(predictions)
    assert kept[0].ids.tolist() == predictions[0].ids.tolist()
    assert kept[0].train_groups == dict(zip(GROUPS, [4, 1, 4, 1], strict=True))


def test_undefined_numbers_have_a_reason(predictions):
    no_groups = [replace(p, groups=(), group=np.full(N, -1)) for p in predictions]
    scores = score(no_groups)
    for s in scores.scores:
        estimates = [*s.metrics.values(), *s.groups.values()]
        estimates += [e for v in s.breakdowns.values() for b in v.values() for e in b.values()]
        for estimate in estimates:
            assert np.isnan(estimate.value) == bool(estimate.reason)
            assert len(estimate.seeds) == len(estimate.errors) == 3
    result = scores.of("student", "hans")
    assert result.metrics["worst_group_acc"].reason == "the set has no groups"
    assert result.groups == {}


def test_an_absent_group_is_named():
    rows = GROUP != 1
    columns = ("ids", "logits", "label", "group", "aligned")

    def without(p):
        kept = {name: getattr(p, name)[rows] for name in columns}
        return replace(p, **kept, breakdowns={})

    scores = score([without(predict("teacher", 0, (9, 7, 8, 5)))])
    result = scores.of("teacher", "hans")
    assert result.metrics["worst_group_acc"].plain == (0.5,)
    assert result.metrics["acc_train_weighted"].reason == "no row of group lexical/non"
    assert without_widths(scores) == (
        "1 of 4 groups of hans have under 1 rows (the smallest, lexical/non, has 0): they steer no "
        "worst group",
    )
    assert result.groups["lexical/non"].n == 0
    assert result.groups["lexical/non"].reason == "no row of group lexical/non"
    assert [result.groups[name].value for name in (GROUPS[0], *GROUPS[2:])] == [0.9, 0.8, 0.5]


def test_primary_gap(predictions):
    assert score(predictions).primary == {"mnli": "gap_entailment", "hans": "gap_entailment"}
    yes_no = ("no", "yes")
    images = [replace(p, labels=yes_no, model_labels=yes_no) for p in predictions]
    assert set(score(images).primary.values()) == {"gap_aligned_conflicting"}
    unaligned = [replace(p, aligned=np.full(N, -1)) for p in images]
    assert set(score(unaligned).primary.values()) == {"gap_avg_worst"}


def test_constant_predictions_are_noted():
    scores = score([predict("student", 4, (10, 0, 10, 0))], notes=["a note"])
    assert without_widths(scores) == (
        "a note",
        "student predicts entailment for every row of hans (1 of 1 seed(s)): its gaps say nothing "
        "of bias",
    )
    nearly = score([predict("student", 4, (10, 0, 10, 1))])  # 39 of 40 rows
    assert "entailment for 97.5% of rows of hans" in nearly.notes[0]
    assert not without_widths(score([predict("student", 4, (10, 2, 10, 1))]))  # 37 of 40


def without_widths(scores):
    """The notes, but for those that groups of ten rows have."""
    return tuple(note for note in scores.notes if not note.startswith("intervals of the worst"))


@pytest.mark.parametrize("rows", [99, 100])
def test_a_minimum_of_few_rows_is_said_to_have_wide_intervals(rows):
    found = planted.scored(planted.answered((80, 60, 70, 80), rows=rows))
    note = (
        f"intervals of the worst group of balanced are wider than 95% needs: its smallest group "
        f"has {rows} rows, below 100"
    )
    assert (note in found.notes) == (rows < 100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ps: ps[1:], r"teacher seed 0 has no predictions for set 'hans'"),
        (lambda ps: [*ps, ps[0]], r"teacher seed 0 has two predictions for set 'hans'"),
        (lambda ps: [], r"nothing to score"),
        (lambda ps: [*ps[:-1], replace(ps[-1], split="x")], r"set 'x', which is no evaluation set"),
        (
            lambda ps: [*ps[:-1], replace(ps[-1], label=1 - ps[-1].label)],
            r"erm_student seed 2 and teacher seed 0 have the same ids but other labels",
        ),
        (
            lambda ps: [*ps[:-1], replace(ps[-1], ids=np.array(["ex00"] * N))],
            r"erm_student seed 2, set 'mnli': id 'ex00' is doubled",
        ),
        (
            lambda ps: [
                *ps[:-1],
                replace(ps[-1], ids=np.append(ps[-1].ids[1:], "ex99")),
            ],
            r"erm_student seed 2 has 40 rows and teacher seed 0 40; id 'ex00', for one",
        ),
        (
            lambda ps: [
                *ps[:-1],
                replace(ps[-1], collapse={"neutral": "non-entailment"}, collapse_rule="sum"),
            ],
            r"set 'mnli' collapses labels by 'sum', the scores by 'argmax'",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(predictions, change, message):
    with pytest.raises(HarnessError, match=message):
        score(change(predictions))


def test_bad_arguments_are_refused(predictions):
    with pytest.raises(HarnessError, match="metric 'accuracy' is registered as something else"):
        score(predictions, metrics={"accuracy": m.ACC})
    with pytest.raises(HarnessError, match="1 resamples: an interval needs at least 2"):
        score(predictions, resamples=1)
    grouped = [replace(p, breakdowns={"group": p.ids}) for p in predictions]
    with pytest.raises(HarnessError, match="a breakdown may not be called 'group'"):
        score(grouped)


def test_a_plugin_metric_that_is_nan_says_so(predictions):
    """A row is missing from about a third of the resamples; the interval is not faked."""

    def first_row(p, counts):
        rows = np.zeros((N, 1), dtype=bool)
        rows[0] = True
        return m.rates(p.correct, rows, counts)[:, 0]

    metric = m.Metric("first", first_row, True, "performance", "accuracy of one row")
    result = score(predictions, metrics={"first": metric}).of("teacher", "hans").metrics["first"]
    assert result.value == 1
    assert np.isnan(result.low)
    assert result.reason.startswith("no interval: undefined in ")


LABEL_METRICS = [metric for metric in METRICS.values() if metric.of_labels]


def test_which_metrics_need_labels_only():
    assert set(METRICS) - {metric.name for metric in LABEL_METRICS} == {"ece"}


@pytest.fixture
def big_panel():
    """Two models of two seeds on 2,000 rows whose groups overlap."""
    rng = np.random.default_rng(0)
    label, members = rng.integers(2, size=2000), rng.random((2000, 2)) < 0.5
    rows = {
        "ids": np.array([f"ex{i:04d}" for i in range(2000)]),
        "label": label,
        "group": np.full(2000, -1),
        "groups": ("a", "b"),
        "members": members,
        "aligned": rng.integers(2, size=2000),
        "breakdowns": {},
    }

    def of(role, seed):
        predicted = np.where(rng.random(2000) < 0.8, label, 1 - label)
        return predict(
            role, seed, (0,) * 4, **rows, logits=rng.random((2000, 2)) + 3 * np.eye(2)[predicted]
        )

    return {role: (of(role, 0), of(role, 1)) for role in ("teacher", "student")}


@pytest.mark.parametrize(
    "metric",
    [metric for metric in LABEL_METRICS if metric is not m.ACC_TRAIN_WEIGHTED],
    ids=lambda metric: metric.name,
)
def test_rows_that_are_alike_may_be_counted_together(big_panel, metric):
    """The plain numbers are those of all rows to the last digit, the spread that of rows."""
    bootstrap = Bootstrap("t", 1000)
    few, counts = bootstrap.cells(big_panel, "hans")
    assert len(first_of(few)) < 300
    ours = resample({"it": metric.evaluate}, few, counts)["it"]
    theirs = resample({"it": metric.evaluate}, big_panel, bootstrap.rows(big_panel, "hans"))["it"]
    for role, predictions in big_panel.items():
        assert ours[role][:, 0] == pytest.approx([metric(p)[0] for p in predictions], abs=1e-12)
        assert ours[role].std(axis=1) == pytest.approx(theirs[role].std(axis=1), rel=0.1)
    change, by_row = (values["student"] - values["teacher"] for values in (ours, theirs))
    assert change.std(axis=1) == pytest.approx(by_row.std(axis=1), rel=0.1)


def test_rows_that_are_all_different_are_drawn_one_by_one(big_panel):
    paired = {
        role: tuple(take(p, np.arange(20)) for p in result) for role, result in big_panel.items()
    }
    few, _ = Bootstrap("t", 10).cells(paired, "hans")
    assert few is paired


def models_of(**starts):
    """A model a role and seed, with the teacher's layers that it started from."""
    return tuple(
        TrainedModel("t", role, seed, role, Path(role), role, "m", {}, start=start)
        for role, start in starts.items()
        for seed in (0, 1, 2)
    )


EVEN = "even layers of teacher"


def test_a_student_is_compared_with_the_control_of_its_own_start(predictions):
    """control_even has 5, 4, 3 of the last group's 10 rows where control has 6, 5, 4."""
    own = [
        predict("control_even", seed, (9, 5, 9, 5 - seed), split=split)
        for seed in (0, 1, 2)
        for split in ("hans", "mnli")
    ]
    roles = dict.fromkeys([*RIGHTS, "control_even"], "")
    models = models_of(**{**roles, "student": EVEN, "control_even": EVEN})
    result = score([*predictions, *own], models=models)
    assert transfer(result, "acc", "contribution").value == pytest.approx((29 - 28) / 40)
    assert {f.other for f in result.flips} == {"teacher", "control_even"}
    plain = score([*predictions, *own], models=models_of(**roles))
    assert transfer(plain, "acc", "contribution").value == pytest.approx((29 - 29) / 40)


def test_a_better_start_is_no_effect_of_distillation(predictions):
    """Where no control and no ERM student starts as the student does, nothing is compared."""
    models = models_of(**{**dict.fromkeys(RIGHTS, ""), "student": EVEN})
    result = score(predictions, models=models)
    for measure, what in (("contribution", "control"), ("retention", "ERM student")):
        expected = transfer(result, "acc", measure)
        assert np.isnan(expected.value)
        assert expected.reason == f"no {what} starts as student does, from {EVEN}"
    assert {f.other for f in result.flips} == {"teacher"}
    assert transfer(result, "acc", "distillability").value == pytest.approx((29 - 33) / 40)


def test_what_is_said_of_a_model_does_not_depend_on_what_is_scored_beside_it(predictions):
    """Every number, bound and minimum; its differences to others are paired all the same."""
    together = score(predictions)
    for role in RIGHTS:
        alone = score([p for p in predictions if p.role == role])
        for split in ("hans", "mnli"):
            assert repr(alone.of(role, split)) == repr(together.of(role, split))
    worst = {role: together.of(role, "hans").metrics["worst_group_acc"] for role in RIGHTS}
    difference = transfer(together, "worst_group_acc", "distillability")
    expected = worst["student"].value - worst["teacher"].value
    assert difference.value == pytest.approx(expected, abs=1e-12)
    assert difference.seeds == pytest.approx(
        np.subtract(worst["student"].seeds, worst["teacher"].seeds), abs=1e-12
    )


def test_what_clusters_cost_is_said_and_in_every_accuracy(predictions):
    """Ten rows of one rank in four groups; ranks are right or wrong together, or nearly."""
    of_rank = {"cluster": np.arange(N) // 4, "clusters": tuple(f"c{i}" for i in range(10))}
    result = score([replace(p, **of_rank) for p in predictions])
    effect = result.of("teacher", "hans").metrics["acc"].design_effect
    assert effect > 1.5
    (_, note) = [note for note in result.notes if "clusters" in note]
    assert "rows of hans come in 10 clusters, which are resampled whole" in note
    assert "design effect" in note
    assert not [note for note in score(predictions).notes if "clusters" in note]
