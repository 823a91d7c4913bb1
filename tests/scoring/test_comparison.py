"""The gate's decisions on planted answers: oracles in closed form, and everything it refuses."""

import math
from dataclasses import replace

import numpy as np
import pytest
from planted import EVEN, METRICS, answered

from harness_plugin import HarnessError
from harness_plugin.records import Estimate
from harness_plugin.scoring.comparison import (
    Change,
    Evaluated,
    changes,
    flips_in,
    pair,
)
from harness_plugin.scoring.gate import (
    PRIMARY_GAP,
    Gate,
    Thresholds,
    check,
    compare,
    default_thresholds,
    read_thresholds,
)
from harness_plugin.scoring.metrics import ACC, GAP_ALIGNED_CONFLICTING
from harness_plugin.scoring.statistics.significance import over_seeds

ROLES = {"balanced": "ood", "in_domain": "in_domain"}


def side(*seeds, numbers=None, **more):
    """A side whose models get these rows right, one tuple a seed."""
    known = {k: more.pop(k) for k in list(more) if k in Evaluated.__dataclass_fields__}
    predictions = answered(*seeds, **more)
    if numbers:
        predictions = [replace(p, seed=numbers[p.seed]) for p in predictions]
    fields = {
        "where": "somewhere",
        "task": "faces",
        "role": "student",
        "source": "embedded",
        "digests": dict.fromkeys(ROLES, "f"),
        "collapse_rule": "argmax",
        "purposes": ROLES,
        "primary": {"balanced": "gap_aligned_conflicting"},
        "predictions": tuple(predictions),
    }
    return Evaluated(**(fields | known))


def decide(baseline, candidate, *gates, **more):
    thresholds = Thresholds(
        gates=[Gate(**gate) for gate in gates], resamples=more.pop("resamples", 400), **more
    )
    return compare(baseline, candidate, thresholds, METRICS)


THREE = (EVEN, (91, 79, 80, 90), (90, 81, 79, 91))
DROPPED = ((90, 50, 80, 90), (91, 49, 80, 90), (90, 51, 79, 91))


def test_the_same_answers_have_changed_by_nothing():
    result = decide(side(*THREE), side(*THREE), {"metric": "worst_group_acc", "max_drop": 0})
    for done in result.checks:
        assert (done.change.value, done.change.low, done.change.high) == (0, 0, 0)
    assert {g.flips.p for flips in result.flips for g in flips.groups} == {1.0}
    assert result.state == "pass"


def test_a_drop_is_a_regression_and_names_its_group():
    result = decide(
        side(*THREE),
        side(*DROPPED),
        {"metric": "worst_group_acc", "max_drop": 0.02, "split": "balanced"},
        {"metric": PRIMARY_GAP, "max_increase": 0.02},
        {"metric": "acc", "max_drop": 0.02, "split": "in_domain"},
    )
    states = {done.name: done.state for done in result.checks}
    assert states == {
        "in_domain/acc": "pass",
        "balanced/worst_group_acc": "regressed",
        "balanced/gap_aligned_conflicting": "regressed",
    }
    assert result.state == "regressed"
    assert result.notes == ("primary_gap is not checked on in_domain: no gap is defined there",)
    (gap,) = [d.change for d in result.checks if d.metric.name == "gap_aligned_conflicting"]
    # mean over seeds of the rows lost in one of two groups of bias-conflicting rows
    assert gap.value == pytest.approx((30 + 30 + 30) / 3 / 200)
    (against,) = [g for g in result.flips[1].groups if g.group == "a-against"]
    assert (against.flips.lost, against.flips.repaired) == (0.3, 0)
    assert against.candidate == pytest.approx(0.5)
    assert against.flips.p == pytest.approx(12 * 2 * 0.5**30)  # Holm: 4 groups x 3 seeds


def test_a_gain_is_no_regression():
    result = decide(side(*DROPPED), side(*THREE), {"metric": "worst_group_acc", "max_drop": 0.0})
    assert result.state == "pass"
    assert min(done.change.value for done in result.checks) == pytest.approx(
        -0.33, abs=0.01
    )  # tied groups, corrected


def test_gap_id_ood_and_groups_can_be_gated():
    gates = [
        {"metric": "gap_id_ood", "max_increase": 0.02},
        {"metric": "acc", "max_drop": 0.02, "split": "balanced", "subset": "group=b-against"},
        {"metric": "acc", "max_drop": 0.02, "split": "balanced", "subset": "light=day"},
    ]
    result = decide(side(*THREE), side(*DROPPED), *gates)
    states = {done.name: done.state for done in result.checks}
    assert states == {
        "balanced/gap_id_ood": "regressed",
        "balanced/group=b-against/acc": "pass",
        "balanced/light=day/acc": "regressed",
    }
    assert "gap_id_ood is not checked on in_domain: it is not defined there" in result.notes
    day = result.checks[-1].change
    assert day.baseline.n == 200


def test_the_interval_adds_rows_that_all_seeds_share_to_that_of_seeds():
    """Three seeds: Student's t over them and z over the rows that all lose; squares add up."""
    base = [(90, 80, 80, 90)] * 3
    new = [(90, 80 - k, 80, 90) for k in (2, 10, 18)]
    table = pair(side(*base), side(*new))
    result = changes(table, ROLES, {"acc": ACC}, task="faces", resamples=400)
    change = result["balanced"][""]["acc"]
    t = over_seeds([2 / 400, 10 / 400, 18 / 400])
    assert change.value == pytest.approx(0.025)
    # two seeds' losses agree in 2 (twice) or 10 of 100 rows; a share of 400 in all
    common = ((2 + 2 + 10) / 3 - 100 * (0.02 * 0.1 + 0.02 * 0.18 + 0.1 * 0.18) / 3) / 400**2
    half = math.hypot(t.high - t.mean, 1.984 * math.sqrt(common * 100 / 99))
    assert change.low == pytest.approx(0.025 - half, abs=0.002)
    assert change.high == pytest.approx(0.025 + half, abs=0.002)
    se = math.sqrt(  # rows that 1, 2 or 3 of the models lose, among the 100 of their group
        (8 * (1 / 3) ** 2 + 8 * (2 / 3) ** 2 + 2 - 100 * 0.1**2) / 400**2
    )
    assert change.examples == pytest.approx((0.025 - 1.96 * se, 0.025 + 1.96 * se), abs=0.002)


def test_one_model_is_compared_with_every_seed():
    one, three = side((95, 80, 80, 95), role="teacher"), side(*THREE)
    result = decide(one, three, {"metric": "acc", "max_drop": 0.5}, min_seeds=3)
    assert result.pairs == 3
    assert [done.state for done in result.checks] == ["pass", "pass"]
    assert result.checks[1].change.baseline.seeds == pytest.approx((0.875,) * 3)


def test_seeds_are_paired_by_number_not_by_order():
    base = side(EVEN, (50, 80, 80, 90), numbers=(7, 3))
    new = side((50, 80, 80, 90), EVEN, numbers=(3, 7))
    result = decide(base, new, {"metric": "acc", "max_drop": 0.0}, min_seeds=2)
    assert result.state == "pass"
    assert result.checks[1].change.high == 0


def change(low, high, examples=(0.0, 0.0), *, seeds=3, value=None, before=0.1, now=0.1, sd=0.01):
    value = (low + high) / 2 if value is None else value
    base = Estimate(before, before, before, seeds=(before,) * seeds, n=80)
    new = Estimate(now, now, now, seeds=(now,) * seeds, n=80)
    return Change(base, new, value, low, high, examples, replace(over_seeds([value]), sd=sd))


@pytest.mark.parametrize(
    ("result", "state", "message"),
    [
        (
            change(0.021, 0.051),
            "regressed",
            "worse by 3.6 points in size (95% interval of the change for the worse +2.1 to +5.1, ",
        ),
        (change(-0.051, -0.021), "pass", "is better by 3.6 points"),
        (change(0.02, 0.05), "undecided", "on both sides of the limit of 2 points"),
        (change(-0.01, 0.02), "pass", "within the limit of 2 points"),
        (change(-0.03, 0.03, (-0.01, 0.01)), "undecided", "too few seeds, 5 would let"),
        (change(-0.03, 0.03, sd=0.5), "undecided", "too few seeds, and 1,000 would not do"),
        (change(-0.03, 0.03, (-0.03, 0.03)), "undecided", "too few examples (80)"),
        (change(0.2, 0.3, seeds=2), "undecided", "too few seeds, a verdict needs 3"),
        (change(0.2, 0.3, now=-0.35), "regressed", "turned over from +10.0 to -35.0"),
        (change(-0.2, -0.1, now=-0.05), "pass", "within"),
    ],
)
def test_the_three_states(result, state, message):
    gate = Gate(metric="gap_aligned_conflicting", max_increase=0.02)
    seeds = len(result.baseline.seeds)
    done = check(gate, GAP_ALIGNED_CONFLICTING, "balanced", result, seeds, min_seeds=3)
    assert done.state == state
    assert message in done.sentence


def test_a_number_without_an_interval_is_undecided():
    gone = replace(change(0, 0), low=math.nan, high=math.nan, reason="no interval: undefined in 3")
    done = check(Gate(metric="acc", max_drop=0.1), ACC, "balanced", gone, 3, min_seeds=1)
    assert done.state == "undecided"
    assert (
        done.sentence
        == "is better by 0.0 points (no interval, 3 seed(s)): no interval: undefined in 3."
    )


def test_seeds_needed_lets_an_unchanged_candidate_pass():
    """At the number it names, about 80% of t intervals of no change stay below the limit."""
    done = check(
        Gate(metric="acc", max_drop=0.02),
        ACC,
        "balanced",
        change(-0.1, 0.1, sd=0.02),
        3,
        min_seeds=3,
    )
    rng = np.random.default_rng(0)
    drawn = rng.normal(0, 0.02, (4000, done.seeds_needed))
    passed = [over_seeds(row).high <= 0.02 for row in drawn]
    assert np.mean(passed) == pytest.approx(0.8, abs=0.05)


def test_the_groups_of_a_comparison_are_the_flips_of_its_models():
    """Of 100 rows a group 9 are lost in one and 1 in another: the p-values by hand."""
    base, new = side((90, 80, 80, 90), numbers=(0,)), side((90, 71, 79, 90), numbers=(0,))
    _, result = flips_in(pair(base, new))  # in domain first
    groups = {g.group: g for g in result.groups}
    assert result.split == "balanced"
    assert groups[""].flips.p == pytest.approx(2 * 0.5**10)
    assert groups["a-against"].flips.p == pytest.approx(4 * 2 * 0.5**9)
    assert groups["b-against"].flips.p == 1.0
    assert [name for name, group in groups.items() if group.worst] == ["a-against", "b-against"]
    assert groups["a-against"].bounds[0] < 0.71 < groups["a-against"].bounds[1]
    assert (groups["a-against"].baseline, groups["a-against"].candidate) == (0.8, 0.71)
    assert result.sentence == (
        "candidate on balanced: 2.5% of answers differ from baseline's; 2.5% right to wrong, 0.0% "
        "wrong to right; 90% of the lost ones in a-against, which has 25% of the rows."
    )


def test_a_comparison_has_the_yardstick_of_seeds():
    """Baselines differ on 10 rows, candidates on 20, of 400."""
    base = side((90, 80, 80, 90), (90, 70, 80, 90))
    new = side((90, 80, 80, 90), (90, 80, 60, 90))
    _, result = flips_in(pair(base, new))  # in domain first
    assert result.groups[0].flips.expected == pytest.approx((10 + 20) / 2 / 400)
    assert "(3.8% between seeds)" in result.sentence


@pytest.mark.parametrize(
    ("base", "new", "seeds"),
    [
        ((EVEN, THREE[1], THREE[2]), (EVEN,) * 3, 1),
        ((EVEN,) * 3, THREE, 3),  # a teacher that is one checkpoint is compared with three students
        ((EVEN,), THREE, 3),
        (THREE, (EVEN,), 3),
        (THREE, (THREE[0], THREE[1], THREE[1]), 2),
    ],
)
def test_candidates_that_answer_alike_are_one_seed(base, new, seeds):
    result = compare(side(*base), side(*new), default_thresholds(known=METRICS), METRICS)
    assert result.distinct_seeds == seeds
    few = [done.state for done in result.checks if "too few seeds" in done.sentence]
    assert (len(few) == len(result.checks)) == (seeds < 3)
    if seeds < 3:
        assert f"({seeds} different), a verdict needs 3" in result.checks[0].sentence
        assert result.state == "undecided"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"source": "path"}, "embedded data, .* path data"),
        ({"digests": {"balanced": "f", "in_domain": "g"}}, "rows of set 'in_domain': those of "),
        ({"collapse_rule": "sum"}, "collapse rule: argmax in .*, sum in"),
        ({"task": "hans"}, "task: faces in .*, hans in"),
        ({"purposes": {"balanced": "ood"}}, "evaluation sets: balanced, in_domain in"),
        ({"numbers": (0, 1, 5)}, "seeds: 0, 1, 2 in .*, 0, 1, 5 in .*--seeds"),
        ({"rows": 90}, r"candidate seed 0 has 360 rows and baseline seed 0 400"),
        ({"aligned": np.ones(400, dtype=int)}, "the same ids but other labels, groups"),
    ],
)
def test_what_cannot_be_compared_is_refused(more, message):
    with pytest.raises(HarnessError, match=message):
        pair(side(*THREE), side(*THREE, **more))


def test_hub_and_local_copies_of_the_same_rows_are_compared():
    assert pair(side(EVEN, source="hub"), side(EVEN, source="path"))


def test_confidences_are_not_compared_with_labels():
    silent = side(*THREE, labels_only=True)
    with pytest.raises(HarnessError, match="a model gave labels without probabilities"):
        decide(side(*THREE), silent, {"metric": "ece", "max_increase": 0.1})


def test_overlapping_groups_and_none():
    members = np.stack([np.arange(400) % 2 == 0, np.arange(400) < 100, np.zeros(400, bool)], axis=1)
    more = {"group": np.full(400, -1), "groups": ("even", "first", "empty"), "members": members}
    _, flips = flips_in(pair(side(EVEN, **more), side((70, 80, 80, 90), **more)))
    result = {g.group: (g.flips.n, g.flips.lost) for g in flips.groups}
    assert result == {"": (400, 0.05), "even": (200, 0.05), "first": (100, 0.2)}

    more = {"group": np.full(400, -1), "groups": ()}
    without = side(EVEN, **more, primary={})
    assert [[g.group for g in f.groups] for f in flips_in(pair(without, without))] == [[""]] * 2
    result = compare(without, without, default_thresholds(known=METRICS, min_seeds=1), METRICS)
    assert {done.metric.name for done in result.checks} == {"acc"}
    assert "worst_group_acc is not checked on balanced: the set has no groups" in result.notes
    with pytest.raises(HarnessError, match=r"checks nothing: worst_group_acc .* has no groups"):
        decide(without, without, {"metric": "worst_group_acc", "max_drop": 0})


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"metric": "wurst_group_acc", "max_drop": 0}, "Did you mean worst_group_acc"),
        ({"metric": "acc", "max_drop": 0, "split": "balancd"}, "unknown evaluation set"),
        ({"metric": "acc", "max_increase": 0}, "expected max_drop, found max_increase"),
        ({"metric": PRIMARY_GAP, "max_drop": 0}, "expected max_increase, found max_drop"),
        ({"metric": "acc", "max_drop": 0, "subset": "light=dusk"}, "checks nothing.*light=dusk"),
        (
            {"metric": "acc", "max_drop": 0, "split": "balanced", "subset": "group=a"},
            "unknown subset of 'balanced'.*group=a-fits",
        ),
        (
            {"metric": "ece", "max_increase": 0, "split": "balanced", "subset": "light=day"},
            "checks nothing.*not defined within light=day",
        ),
        ({"metric": "acc", "max_drop": 0, "task": "hans"}, "no gate checks anything"),
    ],
)
def test_a_gate_that_checks_nothing_is_an_error(gate, message):
    with pytest.raises(HarnessError, match=message):
        decide(side(*THREE), side(*THREE), gate)


def test_thresholds_are_read_from_yaml(tmp_path):
    file = tmp_path / "gate.yaml"
    file.write_text(
        "min_seeds: 5\ngates:\n- {metric: acc, max_drop: 1e-2}\n"
        "- {metric: primary_gap, max_increase: 0.03, task: faces, split: balanced}\n"
    )
    result = read_thresholds(file, resamples=200)
    assert (result.min_seeds, result.resamples) == (5, 200)
    assert [gate.limit for gate in result.gates] == [0.01, 0.03]
    assert read_thresholds(file, min_seeds=1).min_seeds == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gates: []", "gates: "),
        ("gates: [{metric: acc}]", "gates.0: .*either max_drop or max_increase"),
        ("gates: [{metric: acc, max_drop: 0, max_increase: 0}]", "either"),
        ("gates: [{metric: acc, max_drop: 2}]", "gates.0.max_drop: .*less than 1"),
        ("gates: [{metric: acc, max_dorp: 0}]", "gates.0.max_dorp: Extra"),
        ("gates: [{metric: acc, max_drop: 0}]\nresamples: 3", "resamples"),
        ("- a", "must be a YAML mapping"),
        ("a: [", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_a_bad_thresholds_file_is_named(tmp_path, text, message):
    (tmp_path / "gate.yaml").write_text(text)
    with pytest.raises(HarnessError, match=rf"gate.yaml(:\d)?: .*{message}"):
        read_thresholds(tmp_path / "gate.yaml")


def test_a_missing_thresholds_file_is_named(tmp_path):
    with pytest.raises(HarnessError, match=r"gate.yaml: cannot be read: No such file"):
        read_thresholds(tmp_path / "gate.yaml")


def test_default_limits():
    result = default_thresholds(known=METRICS, max_gap_increase=0.05)
    assert [(g.metric, g.max_drop, g.max_increase) for g in result.gates] == [
        ("acc", 0.02, None),
        ("worst_group_acc", 0.02, None),
        (PRIMARY_GAP, None, 0.05),
    ]
    result = default_thresholds(["ece"], known=METRICS, max_drop=0.1, min_seeds=1)
    assert [(g.metric, g.limit) for g in result.gates] == [("ece", 0.02), (PRIMARY_GAP, 0.02)]
    with pytest.raises(HarnessError, match="unknown metric 'wga'"):
        default_thresholds(["wga"], known=METRICS)
    with pytest.raises(HarnessError, match=r"max_drop: .*greater than or equal to 0"):
        default_thresholds(known=METRICS, max_drop=-1)
