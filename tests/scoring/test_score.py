"""Scoring: joins, hand-computed transfer measures, pairing, intervals, starts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from four_groups import GROUPS, RIGHTS, N, predict, score, transfer

from harness_plugin.records import TrainedModel


def test_scores_by_hand(scores):
    result = scores.of("teacher", "hans")
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


def test_transfer_by_hand(scores):
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


def test_row_order_does_not_matter(scores, predictions):
    rng = np.random.default_rng(0)

    def shuffled(p):
        order = rng.permutation(len(p))
        columns = ("ids", "logits", "label", "group", "aligned")
        breakdowns = {name: column[order] for name, column in p.breakdowns.items()}
        return replace(
            p, **{name: getattr(p, name)[order] for name in columns}, breakdowns=breakdowns
        )

    other = score([shuffled(p) for p in predictions])
    assert repr(scores.scores) == repr(other.scores)
    assert repr(scores.transfer) == repr(other.transfer)


def test_the_order_of_roles_and_sets_does_not_matter(scores, predictions):
    other = score(predictions[::-1])
    for s in scores.scores:
        assert repr(other.of(s.role, s.split).metrics) == repr(s.metrics)


def test_the_seed_decides_the_resamples(scores, predictions):
    assert repr(scores.transfer) == repr(score(predictions).transfer)
    assert repr(scores.transfer) != repr(score(predictions, seed=1).transfer)


def test_predictions_are_kept_in_order(scores, predictions):
    kept = scores.predictions
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


def test_primary_gap(scores, predictions):
    assert scores.primary == {"mnli": "gap_entailment", "hans": "gap_entailment"}
    yes_no = ("no", "yes")
    images = [replace(p, labels=yes_no, model_labels=yes_no) for p in predictions]
    assert set(score(images).primary.values()) == {"gap_aligned_conflicting"}
    unaligned = [replace(p, aligned=np.full(N, -1)) for p in images]
    assert set(score(unaligned).primary.values()) == {"gap_avg_worst"}


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


def test_retention_is_measured_from_the_erm_student_of_the_erm_teachers_layers():
    """Accuracy: teacher .75, ERM .6; the student .65, ERM students .6 of its own and .625 even."""
    rights = {
        "teacher": (10, 5, 10, 5),
        "student": (10, 3, 10, 3),
        "erm_teacher": (10, 2, 10, 2),
        "erm_student": (10, 2, 10, 2),
        "erm_student_even": (10, 3, 10, 2),
    }
    answers = [predict(role, seed, r) for role, r in rights.items() for seed in (0, 1, 2)]
    own = dict.fromkeys(rights, "")
    even = {"student": EVEN, "erm_student_even": "even layers of erm_teacher"}
    for starts, reference in (({**own, **even}, 0.625), (own, 0.6)):
        result = score(answers, models=models_of(**starts))
        kept = transfer(result, "acc", "retention")
        assert kept.value == pytest.approx((0.65 - reference) / (0.75 - 0.6))
    others = {"student": "even layers of teacher_big", "erm_student_even": even["erm_student_even"]}
    unlike = score(answers, models=models_of(**{**own, **others}))
    assert np.isnan(transfer(unlike, "acc", "retention").value)
    # no ERM student at all: as where all students start from a further teacher
    answers = [p for p in answers if not p.role.startswith("erm_student")]
    models = models_of(**{role: others.get(role, "") for role in rights if "erm_s" not in role})
    reason = transfer(score(answers, models=models), "acc", "retention").reason
    assert reason == "no ERM student starts as student does, from even layers of teacher_big"


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


def test_what_is_said_of_a_model_does_not_depend_on_what_is_scored_beside_it(scores, predictions):
    """Every number, bound and minimum; its differences to others are paired all the same."""
    together = scores
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
