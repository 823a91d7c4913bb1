"""Fairness measures: by hand, against fairlearn and scikit-learn, and where they do not exist."""

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from harness_plugin.errors import HarnessError
from harness_plugin.plugins.registry import load_plugins
from harness_plugin.records import Predictions
from harness_plugin.scoring.metrics import Metric
from harness_plugin.scoring.score import score_task
from harness_plugin_hooks.metrics import FAIRNESS, fairness

METRICS = load_plugins()["metric"].instances(Metric)
GROUPS = ("no/a", "yes/a", "no/b", "yes/b")


def make(label, attribute, chance, role="teacher", seed=0):
    """Predictions with the probability `chance` (N,) of the second label."""
    label, attribute, chance = map(np.asarray, (label, attribute, chance))
    n = len(label)
    group = 2 * (attribute == "b") + label
    logits = np.log(np.column_stack([1 - chance, chance])).astype(np.float32)
    return Predictions(
        task="t",
        split="test",
        role=role,
        model="m",
        seed=seed,
        ids=np.array([f"row{i}" for i in range(n)]),
        logits=logits,
        model_labels=("no", "yes"),
        label=label.astype(np.int64),
        labels=("no", "yes"),
        group=group.astype(np.int64),
        groups=GROUPS,
        aligned=np.full(n, -1),
    )


def value(name, predictions, counts=None):
    return METRICS[name](predictions, counts)[0]


@pytest.fixture
def by_hand():
    """Of a: positives .9 .4, negatives .6 .2; of b: positives .8 .7 .3, negatives .1 .55."""
    label = [1, 1, 0, 0, 1, 1, 1, 0, 0]
    chance = [0.9, 0.4, 0.6, 0.2, 0.8, 0.7, 0.3, 0.1, 0.55]
    return make(label, list("aaaabbbbb"), chance)


@pytest.fixture
def many():
    rng = np.random.default_rng(0)
    label, attribute = rng.integers(0, 2, 400), rng.choice(["a", "b"], 400)
    chance = np.round(rng.uniform(0.02, 0.98, 400), 1).clip(0.02, 0.98)  # with ties
    return make(label, attribute, chance)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("demographic_parity_difference", 3 / 5 - 2 / 4),
        ("demographic_parity_ratio", (2 / 4) / (3 / 5)),
        ("tpr_gap", 2 / 3 - 1 / 2),
        ("fpr_gap", 0.0),
        ("equalized_odds_difference", 2 / 3 - 1 / 2),
        ("subgroup_auc", 3 / 4),  # a: .9 beats both, .4 one of two; b: 5 of 6
        (
            "bpsn_auc",
            3 / 4,
        ),  # a: .8 .7 .3 of b against .6 .2: 5 of 6; b: .9 .4 against .1 .55: 3 of 4
        ("bnsp_auc", 3 / 4),  # the same pairs, the other way round
    ],
)
def test_numbers_by_hand(by_hand, name, expected):
    assert value(name, by_hand) == pytest.approx(expected)


def test_fairlearn_gives_the_same_rates(many):
    fairlearn = pytest.importorskip("fairlearn.metrics")
    sensitive = np.where(many.group >= 2, "b", "a")
    theirs = {
        "demographic_parity_difference": fairlearn.demographic_parity_difference,
        "demographic_parity_ratio": fairlearn.demographic_parity_ratio,
        "equalized_odds_difference": fairlearn.equalized_odds_difference,
        "tpr_gap": fairlearn.true_positive_rate_difference,
        "fpr_gap": fairlearn.false_positive_rate_difference,
    }
    for name, function in theirs.items():
        expected = function(many.label, many.predicted, sensitive_features=sensitive)
        assert value(name, many) == pytest.approx(expected), name


def test_areas_are_those_of_scikit_learn(many):
    positive, b = many.label == 1, many.group >= 2
    chance = many.probabilities[:, 1]

    def of(rows):
        return roc_auc_score(positive[rows], chance[rows])

    assert value("subgroup_auc", many) == pytest.approx(min(of(b), of(~b)))
    crossed = of((b & ~positive) | (~b & positive)), of((b & positive) | (~b & ~positive))
    assert value("bpsn_auc", many) == pytest.approx(min(crossed))  # with two attributes both
    assert value("bnsp_auc", many) == pytest.approx(min(crossed))


@pytest.mark.parametrize("name", sorted(FAIRNESS))
def test_a_row_counted_twice_is_two_rows(many, name):
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 3, len(many))
    rows = np.repeat(np.arange(len(many)), counts)
    chance = many.probabilities[:, 1]
    more = make(many.label[rows], np.where(many.group >= 2, "b", "a")[rows], chance[rows])
    assert value(name, many, counts[None].astype(float)) == pytest.approx(value(name, more))


def test_overlapping_attributes_have_areas_and_no_rates(many):
    """A row may mention both a and b; the background are the rows without."""
    members = np.zeros((len(many), 4), dtype=bool)
    members[np.arange(len(many)), many.group] = True
    members[::5] |= members[::5][:, [2, 3, 0, 1]]
    both = replace(many, members=members, group=np.full(len(many), -1))
    for name in ("demographic_parity_difference", "equalized_odds_difference", "tpr_gap"):
        assert METRICS[name].applies(both) == "the attributes overlap"
    a, positive = members[:, :2].any(axis=1), many.label == 1
    b, chance = members[:, 2:].any(axis=1), many.probabilities[:, 1]

    def of(rows):
        return roc_auc_score(positive[rows], chance[rows])

    assert value("subgroup_auc", both) == pytest.approx(min(of(a), of(b)))
    expected = min(of((x & ~positive) | (~x & positive)) for x in (a, b))
    assert value("bpsn_auc", both) == pytest.approx(expected)


def test_where_they_do_not_exist(by_hand):
    plain = replace(by_hand, groups=("g0", "g1", "g2", "g3"))
    three = replace(by_hand, labels=("no", "yes", "maybe"))
    one = make([0, 1], ["a", "a"], [0.2, 0.7])
    for name in FAIRNESS:
        assert (
            METRICS[name].applies(plain) == "the groups are not label/attribute of two attributes"
        )
        assert METRICS[name].applies(three) == "there are 3 labels, not two"
        assert "two attributes" in METRICS[name].applies(one)
    only = make([0, 1, 0], ["a", "a", "b"], [0.2, 0.7, 0.4])
    assert METRICS["tpr_gap"].applies(only) == "no positive row of b"
    assert METRICS["fpr_gap"].applies(only) == ""
    assert METRICS["equalized_odds_difference"].applies(only) == "no positive row of b"
    assert METRICS["bpsn_auc"].applies(only) == "the rows without a have one label"
    with pytest.raises(HarnessError, match="no positive row of b"):
        METRICS["tpr_gap"](only)
    nothing = make([0, 1, 0, 1], list("aabb"), [0.2, 0.3, 0.1, 0.4])
    assert math.isnan(value("demographic_parity_ratio", nothing))


def test_a_run_gives_them_without_interval_and_says_why(many):
    """Their plain numbers of every seed, no bounds, and no verdict made of them."""
    rng = np.random.default_rng(2)
    predictions = []
    for role in ("teacher", "student"):
        for seed in (0, 1, 2):
            chance = (many.probabilities[:, 1] + rng.normal(0, 0.1, len(many))).clip(0.02, 0.98)
            attribute = np.where(many.group >= 2, "b", "a")
            predictions.append(make(many.label, attribute, chance, role, seed))
    result = score_task(
        predictions,
        task="t",
        source="embedded",
        fingerprint="",
        train_groups=GROUPS,
        train_group_counts=(1, 1, 1, 1),
        purposes={"test": "ood"},
        metrics=METRICS,
        resamples=50,
    )
    for name in FAIRNESS:
        estimate = result.of("student", "test").metrics[name]
        plain = [value(name, p) for p in predictions if p.role == "student"]
        assert estimate.seeds == pytest.approx(plain)
        assert math.isnan(estimate.low)
        assert estimate.reason.startswith("no interval: the l")
        change = result.transfer_of(
            "student", "test", name, "gap_widening" if "AUC" not in name else "distillability"
        )
        assert change is None or math.isnan(change.low)
    assert result.primary == {"test": "gap_avg_worst"}


def test_offers_say_what_the_metrics_do():
    for name, summary in FAIRNESS.items():
        metric = getattr(fairness, name.upper())
        assert (metric.name, metric.summary) == (name, summary)
        assert metric.without_interval
