"""Methods with a last stage: closed forms, scikit-learn as reference, and the checkpoint."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from harness_plugin import HarnessError
from harness_plugin.models.classifiers import load_trained
from harness_plugin.models.network import last_layer
from harness_plugin_hooks.methods.last_layer import (
    Head,
    afr_weights,
    balanced,
    descend,
    divergence,
    most_of_each_label,
    parts_of,
    regression,
)

Z = np.array([[2, 0, -1], [0.5, 1, 0], [-1, 0, 1], [1, 1, 0]])
Y = np.array([0, 1, 2, 0])


def data(n=200, width=5, labels=2, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(labels, size=n)
    return rng.normal(size=(n, width)) + label[:, None], label


def test_afr_weights_are_those_of_the_paper():
    """gamma 2 and beta 1: the published table has no label weights, so each label's are undone."""
    weights = afr_weights(Z, Y, 2.0) * np.bincount(Y)[Y]
    expected = [0.148905, 0.292345, 0.212813, 0.345937]
    assert weights / weights.sum() == pytest.approx(expected, abs=1e-6)


def test_afr_with_gamma_0_has_label_weights_only():
    assert afr_weights(Z, Y, 0.0) == pytest.approx([1 / 6, 1 / 3, 1 / 3, 1 / 6])


def test_a_huge_penalty_keeps_the_last_layer():
    features, label = data()
    old = Head(np.ones((2, 5)), np.zeros(2))
    options = {"weights": np.full(200, 1 / 200), "steps": 50}
    kept = descend(
        features, label, old, penalty=1e3, optimizer=lambda p: torch.optim.SGD(p, 1e-4), **options
    )
    free = descend(
        features, label, old, penalty=0.0, optimizer=lambda p: torch.optim.SGD(p, 0.5), **options
    )
    assert np.abs(kept.weight - old.weight).max() < 1e-3
    assert np.abs(free.weight - old.weight).max() > 0.1


def test_descent_reaches_the_optimum_of_a_convex_problem():
    features, label = data(seed=1)
    old = Head(np.zeros((2, 5)), np.zeros(2))
    found = descend(
        features,
        label,
        old,
        weights=np.full(200, 1 / 200),
        penalty=0.0,
        steps=3000,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.5),
    )
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(features, label)
    difference = found.weight[1] - found.weight[0]
    assert difference == pytest.approx(reference.coef_[0], abs=0.01)


@pytest.mark.parametrize("labels", [2, 3])
def test_the_regression_as_a_last_layer_predicts_what_scikit_learn_does(labels):
    features, label = data(labels=labels)
    rng = np.random.default_rng(0)
    head = regression(features, label, labels, 0.1, np.random.default_rng(0))
    solver = "liblinear" if labels == 2 else "saga"
    reference = LogisticRegression(
        C=0.1, l1_ratio=1, solver=solver, random_state=int(rng.integers(2**31)), max_iter=500
    ).fit(features, label)
    logits = torch.from_numpy(features @ head.weight.T + head.bias)
    assert logits.softmax(1).numpy() == pytest.approx(reference.predict_proba(features), abs=1e-6)


def test_a_label_without_rows_is_never_predicted():
    features, label = data()
    head = regression(features, label * 2, 3, 1.0, np.random.default_rng(0))
    assert set((features @ head.weight.T + head.bias).argmax(1)) == {0, 2}
    with pytest.raises(HarnessError, match="a single label"):
        regression(features, np.zeros(200, int), 2, 1.0, np.random.default_rng(0))


def test_balanced_draws_equally_many_of_every_group_that_occurs():
    group = np.array([0] * 50 + [2] * 5 + [3] * 20)
    chosen = balanced(group, np.random.default_rng(0))
    assert np.bincount(group[chosen]).tolist() == [5, 0, 5, 5]
    assert len(set(chosen.tolist())) == 15


def test_parts_are_disjoint_and_seeded():
    first, held = parts_of(100, 0.2, 0)
    assert (len(first), len(held)) == (80, 20)
    assert sorted([*first, *held]) == list(range(100))
    assert np.array_equal(held, parts_of(100, 0.2, 0)[1])
    assert not np.array_equal(held, parts_of(100, 0.2, 1)[1])
    with pytest.raises(HarnessError, match="held_out must leave rows"):
        parts_of(100, 0.001, 0)


def test_divergence_is_the_kl_of_the_softmaxes():
    p, q = np.array([[0.5, 0.5]]), np.array([[0.9, 0.1]])
    expected = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    assert divergence(np.log(p), np.log(q)) == pytest.approx([expected])
    assert divergence(Z, Z + 3) == pytest.approx(np.zeros(4), abs=1e-12)


def test_most_of_each_label_is_balanced_and_takes_the_largest():
    score = np.array([0.1, 0.9, 0.5, 0.3, 0.8, 0.2])
    label = np.array([0, 0, 0, 1, 1, 1])
    assert most_of_each_label(score, label, 4).tolist() == [1, 2, 3, 4]
    with pytest.raises(HarnessError, match="1 points are fewer than the 2 labels"):
        most_of_each_label(score, label, 1)


SMALL = ("teacher.epochs=1", "validation_fraction=0.25")


@pytest.mark.parametrize("method", ["dfr", "dfr_train", "afr", "self"])
def test_only_the_last_layer_changes_and_the_checkpoint_loads_anywhere(open_context, method):
    ctx = open_context(*SMALL)
    base = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    model = ctx.trained("teacher", ctx.settings.teacher, method, 0)
    after = load_trained(str(model.path), "text", attention="eager")
    before = load_trained(str(base.path), "text", attention="eager")
    assert not torch.equal(last_layer(after).weight, last_layer(before).weight)
    if method != "afr":  # AFR's first stage sees fewer rows
        for name, value in before.bert.state_dict().items():
            assert torch.equal(value, after.bert.state_dict()[name]), name
    assert model.updates == base.updates - (3 if method == "afr" else 0)
    assert ctx.trained("teacher", ctx.settings.teacher, method, 0).reused
    logits = np.load(ctx.logits(model, ctx.data.evaluation[0]).path / "logits.npy")
    assert np.isfinite(logits).all()


def test_afr_trains_on_its_share_of_the_rows(open_context):
    ctx = open_context(*SMALL)
    ctx.trained("teacher", ctx.settings.teacher, "afr", 0)
    specs = [
        json.loads((folder / "stage.json").read_text())["spec"]
        for folder in ctx.store.root.glob("model-*")
        if folder.is_dir()
    ]
    assert [bool(spec.get("rows")) for spec in specs if "rows" in spec] == [True]


def test_methods_that_need_a_validation_split_are_refused_without_one(open_context):
    for method in ("dfr", "self"):
        with pytest.raises(HarnessError, match=r"needs .*validation split \(or `validation_frac"):
            open_context(f"method={method}")
    ctx = open_context(*SMALL, "method_options.self.disagreement=none")
    with pytest.raises(HarnessError, match="disagreement must be early_stop or dropout"):
        ctx.trained("teacher", ctx.settings.teacher, "self", 0)


def test_self_with_dropout_needs_no_second_training(open_context):
    ctx = open_context(*SMALL, "method_options.self.disagreement=dropout")
    ctx.trained("teacher", ctx.settings.teacher, "self", 0)
    assert len([f for f in ctx.store.root.glob("model-*") if f.is_dir()]) == 2
