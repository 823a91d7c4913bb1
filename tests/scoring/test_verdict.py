"""Verdicts: every state at its bounds, notes, what would decide, and error rates by simulation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from harness_plugin.records import Evidence, VarianceComponents, VerdictRule
from harness_plugin.scoring.statistics.intervals import components, sizes
from harness_plugin.scoring.verdict import verdict, verdicts
from tests.helpers.planted import answered, scored

DF = 299.0
RULE = VerdictRule()


def exactly(value, half=1e-9, seeds=5) -> VarianceComponents:
    """A mean with the 95% interval `value` plus or minus `half`, of shared rows alone."""
    rows = (half / stats.t(DF).ppf(0.975)) ** 2
    return VarianceComponents(*map(np.float64, (value, rows, 0.0, 0.0)), seeds, DF)


def evidence(
    student, teacher, *, half=0.001, drop=0.0, drop_half=0.001, erm=0.5, gain=0.2, seeds=5
) -> Evidence:
    """Gaps of student, teacher and ERM teacher, and how far the worst group falls."""
    of = {"seeds": seeds, "half": half}
    return Evidence(
        student="student",
        split="hans",
        gap="gap",
        student_gap=exactly(student, **of),
        teacher_gap=exactly(teacher, **of),
        change=exactly(student - teacher, **of),
        total=exactly(student + teacher, **of),
        drop=None if drop is None else exactly(drop, drop_half, seeds),
        reference_gap=None if erm is None else exactly(erm, **of),
        reference_change=None if erm is None else exactly(teacher - erm, **of),
        reference_total=None if erm is None else exactly(teacher + erm, **of),
        reference_drop=None if erm is None or gain is None else exactly(gain, 0.001, seeds),
        distinct_seeds=seeds,
        noisiest="few",
        noisiest_rows=34,
    )


@pytest.mark.parametrize(
    ("values", "state", "words"),
    [
        (evidence(0.10, 0.10), "kept", "at most +0.1"),
        (evidence(0.20, 0.10), "lost", "at least +9.9"),
        (evidence(0.10, 0.10, drop=0.1), "lost", "worst_group_acc changes by -10.0"),
        (evidence(0.12, 0.10), "undecided", "not shown on either side"),
        (evidence(0.10, 0.10, half=0.05), "undecided", "for the gap"),
        (evidence(0.10, 0.10, drop=0.019, drop_half=0.01), "undecided", "worst group"),
        # a student whose gap has shrunk beside an over-corrected teacher has lost nothing
        (evidence(-0.002, -0.40), "kept", "changes by -39.8"),
        (evidence(0.002, -0.40), "kept", "changes by -39.8"),
        # nothing was gained: neither a smaller gap nor a better worst group
        (evidence(0.10, 0.50, gain=0.0), "nothing_to_keep", "no gain of the teacher over ERM"),
        (evidence(0.90, 0.50, gain=0.0), "nothing_to_keep", "no gain of the teacher over ERM"),
        (evidence(0.50, 0.50, gain=0.1), "kept", "within the margin"),  # the worst group is better
        (evidence(0.2, 0.1, seeds=2), "undecided", "2 seed(s), a verdict needs 3"),
        (evidence(0.10, 0.10, drop=None), "kept", "kept"),  # a set without groups
    ],
)
def test_states(values, state, words):
    result = verdict("t", values, RULE)
    assert (result.state, result.notes) == (state, ())
    assert words in result.sentence
    assert result.sentence.startswith("student on hans: ")


def test_the_bound_that_decides_is_printed_and_is_stricter_than_95():
    """A 95% interval that lies just beyond the margin is not enough: 98.5% is asked for."""
    just = evidence(0.10 + 0.02 + 0.0101, 0.10, half=0.01)
    assert verdict("t", just, RULE).state == "undecided"
    more = evidence(0.10 + 0.02 + 0.0115, 0.10, half=0.01)
    assert verdict("t", more, RULE).state == "lost"
    assert "(98.5% bound, 5 seeds)" in verdict("t", more, RULE).sentence


def test_margin_and_seeds_are_those_of_the_rule():
    values = evidence(0.20, 0.10, seeds=3)
    assert verdict("t", values, VerdictRule(margin=0.12)).state == "kept"
    assert verdict("t", values, VerdictRule(min_seeds=4)).state == "undecided"
    assert verdict("t", replace(values, reason="12 rows"), RULE).sentence.endswith(
        "gap cannot be compared: 12 rows."
    )


def test_notes():
    turned = verdict("t", evidence(-0.40, 0.10), RULE)
    assert (turned.state, turned.notes) == ("lost", ("reversed",))
    assert "from +10.0 to -40.0" in turned.sentence
    alone = verdict("t", evidence(0.10, 0.10, erm=None), RULE)
    assert (alone.state, alone.notes) == ("kept", ("no_reference",))
    assert "no ERM reference" in alone.sentence
    constant = replace(evidence(0.10, 0.10), one_class={"teacher": "yes for every row"})
    assert verdict("t", constant, RULE).notes == ("one_class",)
    assert "Beware: teacher answers yes for every row." in verdict("t", constant, RULE).sentence


def test_undecided_says_what_would_decide():
    rng = np.random.default_rng(0)
    noisy = 0.05 + rng.normal(0, 0.04, (3, 1)) + np.zeros((3, 50))
    teacher = 0.05 + np.zeros((3, 50)) + rng.normal(0, 1e-6, (3, 50))
    gaps = sizes(noisy, teacher, DF)
    values = replace(
        evidence(0, 0),
        student_gap=gaps.new,
        teacher_gap=gaps.old,
        change=gaps.difference,
        total=gaps.total,
    )
    assert "seeds would do" in verdict("t", values, RULE).sentence
    rows = verdict("t", evidence(0.10, 0.10, half=0.05), RULE).sentence
    assert "times the rows would do with 20 seeds, above all of few (34)" in rows
    assert "too near the margin" in verdict("t", evidence(0.12, 0.10, half=0.05), RULE).sentence


CONSTANT = (100, 0, 0, 100)


def constants(role):
    """Three seeds, alike in what they answer and not in how sure they are."""
    predictions = answered(*[CONSTANT] * 3, role=role)
    return [replace(p, logits=(1 + p.seed) * p.logits) for p in predictions]


def test_constant_predictors_keep_nothing():
    """Teacher, its ERM reference and the student answer by the bias alone: nothing was debiased."""
    scores = scored([p for r in ("teacher", "erm_teacher", "student") for p in constants(r)])
    assert {v.state for v in verdicts(scores)} == {"nothing_to_keep"}


def test_equal_predictions_count_as_one_seed():
    roles = ("teacher", "erm_teacher", "student")
    scores = scored([p for r in roles for p in answered(*[CONSTANT] * 3, role=r)])
    for result in verdicts(scores):
        assert result.state == "undecided"
        assert "1 seed(s) (2 more answer as one of them does), a verdict needs 3" in result.sentence


def test_a_teacher_against_its_reference_on_real_rows():
    """Planted rows: ERM 50 of 100 conflicting rows right, teacher 80, students 80 and 50."""
    roles = {"teacher": 80, "erm_teacher": 50, "student_kept": 80, "student_lost": 50}
    rows = {
        role: [(90 + k % 2, n + k % 3, n - k % 3, 90) for k in range(5)]
        for role, n in roles.items()
    }
    scores = scored([p for role, r in rows.items() for p in answered(*r, role=role)], resamples=400)
    states = {v.student: v.state for v in verdicts(scores)}
    assert states == {"student_kept": "kept", "student_lost": "lost"}


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("true", ["at the margin", "nothing gained"])
def test_wrong_verdicts_are_rare(seeds, true):
    """In 1,000 worlds each; the Monte-Carlo error of .025 is .005."""
    rng = np.random.default_rng([seeds, len(true)])
    wrong = {"lost": 0, "kept": 0}
    for _ in range(1000):
        rows = rng.normal(0, 0.02, (1, 81))  # shared by all models, the first is what is seen

        def model(mean, rows=rows):
            number = mean + rng.normal(0, 0.03, (seeds, 1)) + rows
            return number + rng.normal(0, 0.01, (seeds, 1)) + rng.normal(0, 0.01, (seeds, 81))

        erm, teacher = model(0.3), model(0.3 if true == "nothing gained" else 0.1)
        student = model(0.12 if true == "at the margin" else 0.3)
        change, gain = sizes(student, teacher, DF), sizes(teacher, erm, DF)
        result = verdict(
            "t",
            Evidence(
                "student",
                "hans",
                "gap",
                change.new,
                change.old,
                change.difference,
                change.total,
                drop=components(student - teacher, DF),
                reference_gap=gain.old,
                reference_change=gain.difference,
                reference_total=gain.total,
                reference_drop=components(erm - teacher, DF),
                distinct_seeds=seeds,
            ),
            RULE,
        )
        if result.state in wrong:
            wrong[result.state] += 1
    if true == "at the margin":
        assert wrong["lost"] / 1000 <= 0.025 + 3 * 0.005
        assert wrong["kept"] / 1000 <= 0.025 + 3 * 0.005
    else:  # a verdict at all needs a gain that is not there
        assert (wrong["lost"] + wrong["kept"]) / 1000 <= 0.025 + 3 * 0.005
