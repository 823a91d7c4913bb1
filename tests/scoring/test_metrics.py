"""Metrics: hand-computed values, independent references, absent groups and labels."""

from dataclasses import replace

import numpy as np
import pytest
from four_groups import METRICS
from sklearn.metrics import accuracy_score, f1_score

from harness_plugin.errors import HarnessError
from harness_plugin.plugins.registry import collect
from harness_plugin.records import Predictions
from harness_plugin.scoring import metrics as m
from harness_plugin_hooks import metrics as offered

ALL = list(METRICS.values())
NLI = ("contradiction", "entailment", "neutral")
HANS = ("entailment", "non-entailment")
COLLAPSE = {
    "entailment": "entailment",
    "neutral": "non-entailment",
    "contradiction": "non-entailment",
}


def make(label, predicted, group, *, labels=("no", "yes"), groups=None, aligned=None, **more):
    """Predictions whose predicted labels are `predicted`, with a logit margin of 1."""
    n = len(label)
    groups = tuple(f"g{i}" for i in range(max(group) + 1)) if groups is None else groups
    fields = {
        "task": "t",
        "split": "test",
        "role": "teacher",
        "model": "m",
        "seed": 0,
        "ids": np.array([f"ex{i}" for i in range(n)]),
        "logits": np.eye(len(labels), dtype=np.float32)[list(predicted)],
        "model_labels": labels,
        "label": np.array(label),
        "labels": labels,
        "group": np.array(group),
        "groups": groups,
        "aligned": np.full(n, -1) if aligned is None else np.array(aligned),
    }
    return Predictions(**(fields | more))


@pytest.fixture
def eight() -> Predictions:
    """Eight rows; accuracy 5/8, groups g0 2/2, g1 2/4, g2 1/2."""
    return make(
        label=[0, 0, 1, 1, 0, 1, 1, 0],
        predicted=[0, 0, 1, 0, 0, 0, 1, 1],
        group=[0, 0, 1, 1, 1, 1, 2, 2],
        aligned=[1, 1, 1, 0, 1, 0, 0, -1],
        train_groups={"g0": 6, "g1": 3, "g2": 1},
    )


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (m.ACC, 5 / 8),
        (m.F1, 2 * 2 / (4 + 3)),  # "yes": 2 hits, 4 gold, 3 predicted
        (m.WORST_GROUP_ACC, 0.5),
        (m.ACC_TRAIN_WEIGHTED, 0.6 * 1 + 0.3 * 0.5 + 0.1 * 0.5),
        (m.GAP_ALIGNED_CONFLICTING, 4 / 4 - 1 / 3),
        (m.GAP_AVG_WORST, 5 / 8 - 1 / 2),
    ],
    ids=lambda value: value.name if isinstance(value, m.Metric) else "",
)
def test_hand_computed(eight, metric, expected):
    assert metric(eight) == pytest.approx([expected])


def test_group_accuracies_are_by_id(eight):
    assert m.group_accuracies(eight, np.ones((1, 8))) == pytest.approx(np.array([[1, 0.5, 0.5]]))


def test_counts_are_row_multiplicities(eight):
    """Counting a row k times is the same as having it k times."""
    rng = np.random.default_rng(0)
    rows = np.sort(np.concatenate([np.arange(8), rng.integers(8, size=20)]))
    counts = np.bincount(rows, minlength=8)[None].astype(np.float64)
    repeated = replace(
        eight,
        **{name: getattr(eight, name)[rows] for name in ("logits", "label", "group", "aligned")},
        ids=np.array([str(i) for i in range(len(rows))]),
    )
    for metric in ALL:
        if not metric.applies(eight):
            np.testing.assert_allclose(metric(eight, counts), metric(repeated), atol=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_accuracy_and_f1_agree_with_scikit_learn(classes):
    rng = np.random.default_rng(classes)
    label, predicted = rng.integers(classes, size=(2, 400))
    labels = tuple(f"class{i}" for i in range(classes))
    p = make(label, predicted, [0] * 400, labels=labels)
    weights = rng.integers(1, 4, size=(6, 400)).astype(np.float64)
    average = "binary" if classes == 2 else "macro"
    for w, acc, f1 in zip(weights, m.ACC(p, weights), m.F1(p, weights), strict=True):
        assert acc == pytest.approx(accuracy_score(label, predicted, sample_weight=w))
        assert f1 == pytest.approx(f1_score(label, predicted, sample_weight=w, average=average))


def test_positive_label():
    assert m.positive_label(("dark_hair", "blond_hair")) == 1
    assert m.positive_label(("entailment", "non-entailment")) == 0
    assert m.positive_label(("non-entailment", "entailment")) == 1


def test_gap_entailment_and_collapse_rules():
    """(.3, .4, .3) is entailment by argmax, non-entailment by sum."""
    probabilities = np.array([[0.3, 0.4, 0.3], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3], [0.6, 0.3, 0.1]])
    p = make(
        label=[0, 0, 1, 1],
        predicted=[0] * 4,
        group=[0, 0, 1, 1],
        labels=HANS,
        logits=np.log(probabilities).astype(np.float32),
        model_labels=NLI,
        collapse=COLLAPSE,
    )
    summed = replace(p, collapse_rule="sum")
    assert p.predicted.tolist() == [0, 0, 0, 1]
    assert summed.predicted.tolist() == [1, 0, 1, 1]
    assert m.GAP_ENTAILMENT(p) == pytest.approx([1 - 0.5])
    assert m.GAP_ENTAILMENT(summed) == pytest.approx([0.5 - 1])
    assert m.ACC(p) == m.ACC(summed) == pytest.approx([0.75])
    with pytest.raises(HarnessError, match=r"'mean' is not one of argmax, sum, restrict"):
        _ = replace(p, collapse_rule="mean").predicted


def test_restricted_to_the_labels_of_the_set():
    """The likeliest of three labels is left out where the set has only the other two."""
    probabilities = np.array([[0.3, 0.2, 0.5], [0.1, 0.15, 0.75], [0.8, 0.1, 0.1]])
    p = make(
        label=[0, 1, 1],
        predicted=[0] * 3,
        group=[0, 0, 1],
        labels=("yes", "no"),
        logits=np.log(probabilities).astype(np.float32),
        model_labels=("yes", "No", "unknown"),
        collapse_rule="restrict",
    )
    assert p.targets.tolist() == [0, 1, -1]
    assert p.predicted.tolist() == [0, 1, 0]
    np.testing.assert_allclose(p.probabilities, [[0.6, 0.4], [0.4, 0.6], [8 / 9, 1 / 9]], 1e-6)
    # a model sure of the label that is left out still chooses, and its probabilities sum to one
    sure = replace(p, logits=np.array([[0, 1, 2000]] * 3, np.float32))
    np.testing.assert_allclose(sure.probabilities.sum(axis=1), 1)
    assert sure.predicted.tolist() == [1, 1, 1]
    with pytest.raises(HarnessError, match=r"predicts label unknown, but set"):
        _ = replace(p, collapse_rule="argmax").targets


def test_a_set_whose_labels_a_model_lacks_cannot_restrict_it():
    """HANS: (.45, .3, .25) was non-entailment, by rule "sum" without a word."""
    p = make(
        label=[0],
        predicted=[0],
        group=[0],
        labels=HANS,
        logits=np.log([[0.3, 0.45, 0.25]]).astype(np.float32),
        model_labels=NLI,
        collapse=COLLAPSE,
        collapse_rule="restrict",
    )
    lacks = r"predicts no label non-entailment: collapse by 'argmax' or 'sum'"
    with pytest.raises(HarnessError, match=lacks):
        _ = p.predicted
    two = replace(p, model_labels=HANS, logits=p.logits[:, 1:])
    assert two.predicted.tolist() == [0]


def test_ece_by_hand():
    """Two rows of confidence .9, both right; .58 wrong and .55 right fall into one bin."""
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.58, 0.42], [0.45, 0.55]])
    p = make([0, 1, 1, 1], [0] * 4, [0] * 4, logits=np.log(probabilities).astype(np.float32))
    expected = abs((1 - 0.9) + (1 - 0.9)) / 4 + abs((0 - 0.58) + (1 - 0.55)) / 4
    assert m.ECE(p) == pytest.approx([expected], abs=1e-7)


def test_ece_agrees_with_a_plain_loop():
    rng = np.random.default_rng(3)
    p = make(
        rng.integers(3, size=500),
        [0] * 500,
        [0] * 500,
        labels=NLI,
        logits=rng.normal(0, 2, size=(500, 3)).astype(np.float32),
    )
    confidence = p.probabilities.max(axis=1)
    expected = 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            difference = p.correct[inside].mean() - confidence[inside].mean()
            expected += inside.mean() * abs(difference)
    assert m.ECE(p) == pytest.approx([expected])


def test_absent_group_keeps_its_place():
    """Ids 0 and 2 with 1 missing: nothing moves into the gap, nothing becomes 0."""
    p = make([0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 2, 2], groups=("a", "b", "c"))
    accuracies = m.group_accuracies(p, np.ones((1, 4)))[0]
    assert accuracies[[0, 2]].tolist() == [0.5, 1.0]
    assert np.isnan(accuracies[1])
    for metric in (m.WORST_GROUP_ACC, m.GAP_AVG_WORST, m.ACC_TRAIN_WEIGHTED):
        assert metric.applies(p) == "no row of group b"
        with pytest.raises(HarnessError, match="no row of group b"):
            metric(p)
    assert np.isnan(m.worst_group_accuracy(p, np.ones((1, 4)))).all()


def test_one_group_is_the_average():
    p = make([0, 0, 1, 1], [0, 1, 1, 1], [0] * 4, train_groups={"g0": 5})
    assert m.WORST_GROUP_ACC(p) == m.ACC(p) == m.ACC_TRAIN_WEIGHTED(p) == pytest.approx([0.75])
    assert m.GAP_AVG_WORST(p) == pytest.approx([0.0])


def test_rows_of_no_group_count_for_accuracy_only():
    p = make([0, 0, 1, 1], [0, 1, 1, 0], [0, -1, 0, -1])
    assert m.ACC(p) == pytest.approx([0.5])
    assert m.WORST_GROUP_ACC(p) == pytest.approx([1.0])


def test_reasons_where_a_metric_does_not_apply(eight):
    no_groups = replace(eight, groups=(), group=np.full(8, -1))
    assert m.WORST_GROUP_ACC.applies(no_groups) == "the set has no groups"
    other = replace(eight, train_groups={"x": 1, "y": 1})
    assert m.ACC_TRAIN_WEIGHTED.applies(other) == "the training set has other groups"
    untold = replace(eight, train_groups=None)
    assert m.ACC_TRAIN_WEIGHTED.applies(untold) == "the training set has no groups"
    assert m.GAP_ENTAILMENT.applies(eight) == "the labels are not entailment and non-entailment"
    all_aligned = replace(eight, aligned=np.ones(8, dtype=np.int64))
    assert m.GAP_ALIGNED_CONFLICTING.applies(all_aligned) == "no bias-conflicting row"
    assert m.F1.applies(replace(eight, label=np.zeros(8, dtype=np.int64))) == "no row of label yes"
    one_sided = make([1, 1], [0, 1], [0, 0], labels=HANS)
    assert m.GAP_ENTAILMENT.applies(one_sided) == "no row of label entailment"


def test_train_weights_are_matched_by_name(eight):
    turned = replace(eight, train_groups={"g2": 1, "g1": 3, "g0": 6})
    assert m.ACC_TRAIN_WEIGHTED(turned) == m.ACC_TRAIN_WEIGHTED(eight)


def test_a_metric_of_another_shape_is_refused(eight):
    bad = m.Metric("bad", lambda p, c: np.ones(3), True, "performance", "")
    expected = r"metric 'bad' on set 'test' gave shape \(3,\); expected \(1,\)"
    with pytest.raises(HarnessError, match=expected):
        bad(eight)
    endless = m.Metric("endless", lambda p, c: np.full(len(c), np.inf), True, "performance", "")
    with pytest.raises(HarnessError, match="'endless' on set 'test' is infinite"):
        endless(eight)


def test_float32_counts_give_the_same_numbers(eight):
    counts = np.random.default_rng(0).integers(1, 5, size=(50, 8)).astype(np.float64)
    for metric in ALL:
        if not metric.applies(eight):
            slim = metric(eight, counts.astype(np.float32))
            np.testing.assert_allclose(slim, metric(eight, counts), atol=1e-6)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_values_stay_in_bounds(metric):
    rng = np.random.default_rng(0)
    low, high = metric.bounds
    for _ in range(20):
        p = make(
            rng.integers(2, size=60),
            rng.integers(2, size=60),
            np.arange(60) % 3,
            labels=HANS,
            aligned=rng.integers(2, size=60),
            train_groups={"g0": 1, "g1": 2, "g2": 3},
        )
        value = metric(p)[0]
        assert low <= value <= high


def test_registered_names_are_the_metrics(manager):
    manager.register(offered, name="metrics")
    registry = collect(manager)["metric"]
    loaded = {offer.name: offer.load() for offer in registry}
    fairness = {name: loaded.pop(name) for name in offered.FAIRNESS}
    assert {metric.name: metric for metric in ALL} == loaded
    offered_as = {offer.name: offer.summary for offer in registry}
    assert offered_as == {x.name: x.summary for x in (*ALL, *fairness.values())}


def test_what_each_metric_is():
    """higher is better, kind, bounds, within breakdowns, against the set in domain, of labels."""
    unit, signed = (0.0, 1.0), (-1.0, 1.0)
    result = {
        metric.name: (
            metric.higher_is_better,
            metric.kind,
            metric.bounds,
            metric.within,
            metric.against_in_domain,
            metric.of_labels,
        )
        for metric in ALL
    }
    assert result == {
        "acc": (True, "performance", unit, True, False, True),
        "f1": (True, "performance", unit, False, False, True),
        "worst_group_acc": (True, "performance", unit, False, False, True),
        "acc_train_weighted": (True, "performance", unit, False, False, True),
        "gap_id_ood": (False, "gap", signed, False, True, True),
        "gap_aligned_conflicting": (False, "gap", signed, True, False, True),
        "gap_avg_worst": (False, "gap", signed, False, False, True),
        "gap_entailment": (False, "gap", signed, True, False, True),
        "ece": (False, "calibration", unit, False, False, False),
    }


def test_the_cell_of_all_rows_is_one(eight):
    assert m.all_rows(eight).tolist() == [[True]] * 8


def test_a_group_of_one_row_has_an_accuracy():
    predictions = make(label=[0, 1, 1], predicted=[0, 1, 0], group=[0, 0, 1])
    assert m.WORST_GROUP_ACC.function(predictions, np.ones((1, 3))).tolist() == [0.0]
    assert m.rates(np.array([True]), np.ones((1, 1), bool), np.ones((1, 1))).tolist() == [[1.0]]


def test_the_lowest_bin_of_confidences_is_one_of_its_own():
    """Of 20 labels the surest may have a probability of 1/20, which lies in (0, 1/15]."""
    labels = tuple(f"l{i}" for i in range(20))
    shares = np.full((2, 20), 1 / 20)
    shares[1] = (1 - 0.1) / 19
    shares[1, 3] = 0.1  # in (1/15, 2/15]
    predictions = make(
        label=[0, 0], predicted=[0, 3], group=[0, 0], labels=labels, logits=np.log(shares)
    )
    # right with confidence .05, wrong with .1: apart .95 and .1, in one bin .85
    assert m.ECE.function(predictions, np.ones((1, 2)))[0] == pytest.approx((0.95 + 0.1) / 2)


def test_a_minimum_over_groups_needs_one_with_rows_enough(eight):
    every = replace(eight, left_out=("g0", "g1", "g2"))
    assert "no group has rows enough" in m.WORST_GROUP_ACC.applies(every)
    assert m.WORST_GROUP_ACC.applies(replace(eight, left_out=("g0", "g1"))) == ""
