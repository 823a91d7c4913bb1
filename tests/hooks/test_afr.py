"""AFR: weights, descent and search, by hand and against independent solvers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from harness_plugin.training.trainer import StoredOutputs
from harness_plugin_hooks.methods.last_layer.afr import (
    AFR,
    GAMMAS,
    PENALTIES,
    afr_weights,
    descents,
)
from harness_plugin_hooks.methods.last_layer.refit import Head, Rows

Z = np.array([[2, 0, -1], [0.5, 1, 0], [-1, 0, 1], [1, 1, 0]])
Y = np.array([0, 1, 2, 0])


def data(n=200, width=5, labels=2, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(labels, size=n)
    return rng.normal(size=(n, width)) + label[:, None], label


# AFR


def test_afr_weights_are_those_of_the_paper():
    """gamma 2 and beta 1: the published table has no label weights, so each label's are undone."""
    weights = afr_weights(Z, Y, 2.0) * np.bincount(Y)[Y]
    expected = [0.148905, 0.292345, 0.212813, 0.345937]
    assert weights / weights.sum() == pytest.approx(expected, abs=1e-6)


def test_afr_with_gamma_0_has_label_weights_only():
    assert afr_weights(Z, Y, 0.0) == pytest.approx([1 / 6, 1 / 3, 1 / 3, 1 / 6])


def test_afr_weights_of_the_largest_gamma_that_the_authors_search():
    """exp(-100,000 p) is 0 in every row: the row with the smallest p has all the weight."""
    assert afr_weights(Z, Y, 1e5) == pytest.approx([0, 0, 0, 1])


def paths(features, label, old, **options):
    """The layer before step `steps` + 1 of a single path."""
    layers = []

    def score(weight, bias):
        layers.append(Head(weight[0], bias[0]))
        return np.array([len(layers)], float)  # the last one counts

    settings = {"weights": np.full(len(label), 1 / len(label)), "penalties": [0.0]}
    settings |= {"learning_rate": 0.5, "steps": 50, **options}
    settings["steps"] += 1
    result, _ = descents(features, label, old, score=score, **settings)
    assert np.array_equal(result.weight, layers[-1].weight)
    return result


def test_the_penalty_holds_weight_and_bias():
    """One row at x = 0, labels 2: b = (t, -t) with 1 - sigmoid(2 t) = 2 penalty t."""
    old = Head(np.zeros((2, 3)), np.zeros(2))
    nothing = np.zeros((1, 3))
    result = paths(nothing, np.array([0]), old, penalties=[0.5], learning_rate=0.1, steps=2000)
    t = 0.3
    for _ in range(200):  # the fixed point, by damped iteration
        t = 0.5 * t + 0.5 * (1 - 1 / (1 + np.exp(-2 * t)))
    assert result.bias == pytest.approx([t, -t], abs=1e-6)
    assert t == pytest.approx(0.3374, abs=1e-4)


@pytest.mark.parametrize("penalty", [0.7, 0.0])
def test_the_descent_is_the_authors_step(penalty):
    """take_step of their utils/supervised_utils.py with the gradient norm cut at 1."""
    features, label = data(n=40, width=3, labels=3)
    features = 4 * features
    rng = np.random.default_rng(1)
    old = Head(rng.normal(size=(3, 3)), rng.normal(size=3))
    weights = rng.dirichlet(np.ones(40))
    result = paths(
        features,
        label,
        old,
        weights=weights,
        penalties=[penalty],
        learning_rate=0.05,
        steps=30,
    )
    layer = torch.nn.Linear(3, 3).double()
    start = [torch.from_numpy(value) for value in old]
    layer.weight.data, layer.bias.data = (value.clone() for value in start)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    cut = 0
    for _ in range(30):
        optimizer.zero_grad()
        log_p = layer(torch.from_numpy(features)).log_softmax(1)
        loss = -(torch.from_numpy(weights) * log_p[torch.arange(40), label]).sum()
        loss = loss + penalty * ((layer.weight - start[0]) ** 2).sum()
        loss = loss + penalty * ((layer.bias - start[1]) ** 2).sum()
        loss.backward()
        norm = sum(p.grad.square().sum() for p in layer.parameters()).sqrt()
        cut += float(norm) > 1
        for p in layer.parameters():
            p.grad *= min(1.0, 1 / float(norm + 1e-6))
        optimizer.step()
    assert 0 < cut < 30  # both sides of the cut are seen
    assert result.weight == pytest.approx(layer.weight.detach().numpy(), abs=1e-12)
    assert result.bias == pytest.approx(layer.bias.detach().numpy(), abs=1e-12)


def test_the_layer_kept_is_the_first_with_the_best_score_before_a_step():
    features, label = data()
    old = Head(np.zeros((2, 5)), np.zeros(2))
    layers, scores = [], [[0.2, 0.1], [0.6, 0.3], [0.7, 0.9], [0.9, 0.9], [0.1, 0.8]]

    def score(weight, bias):
        layers.append(weight)
        return np.array(scores[len(layers) - 1])

    options = {"weights": np.full(200, 1 / 200), "learning_rate": 0.5}
    kept, best = descents(
        features, label, old, penalties=[0.0, 1.0], steps=5, score=score, **options
    )
    assert len(layers) == 5
    assert best == 0.9
    assert np.array_equal(layers[0][0], old.weight)
    assert np.array_equal(kept.weight, layers[3][0])  # the first penalty has it too, though later
    assert np.abs(kept.weight - paths(features, label, old, steps=3).weight).max() < 1e-15


def test_paths_of_many_penalties_are_those_of_each():
    features, label = data()
    old = Head(np.ones((2, 5)), np.zeros(2))
    last = {}

    def score(weight, bias):
        last["layers"] = weight
        return np.zeros(len(weight))

    options = {"weights": np.full(200, 1 / 200), "learning_rate": 0.01}
    descents(features, label, old, penalties=[0.0, 2.0, 50.0], steps=31, score=score, **options)
    for together, penalty in zip(last["layers"], [0.0, 2.0, 50.0], strict=True):
        alone = paths(features, label, old, penalties=[penalty], learning_rate=0.01, steps=30)
        assert together == pytest.approx(alone.weight, abs=1e-14)


def test_rows_without_a_share_of_the_weight_do_not_count():
    features, label = data(n=60)
    rows = afr_weights(np.column_stack([-features[:, 0], features[:, 0]]), label, 1e5)
    old = Head(np.ones((2, 5)), np.zeros(2))
    few = rows > 0
    assert 0 < few.sum() < 10
    whole = paths(features, label, old, weights=rows)
    assert np.array_equal(
        whole.weight, paths(features[few], label[few], old, weights=rows[few]).weight
    )


def test_a_huge_penalty_keeps_the_last_layer():
    features, label = data()
    old = Head(np.ones((2, 5)), np.zeros(2))
    kept = paths(features, label, old, penalties=[1e3], learning_rate=1e-4)
    free = paths(features, label, old)
    assert np.abs(kept.weight - old.weight).max() < 1e-3
    assert np.abs(free.weight - old.weight).max() > 0.1


def test_descent_reaches_the_optimum_of_a_convex_problem():
    features, label = data(seed=1)
    old = Head(np.zeros((2, 5)), np.zeros(2))
    result = paths(features, label, old, learning_rate=1.0, steps=1000)
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(features, label)
    difference = result.weight[1] - result.weight[0]
    assert difference == pytest.approx(reference.coef_[0], abs=0.01)


def test_the_worst_groups_of_many_layers_are_those_of_each():
    features, label = data(n=60, labels=3)
    rng = np.random.default_rng(2)
    weight, bias = rng.normal(size=(4, 3, 5)), rng.normal(size=(4, 3))
    split = Rows(features, label, rng.integers(4, size=60) * 2)
    result = split.worst_groups(weight, bias)
    for one, w, b in zip(result, weight, bias, strict=True):
        right = (features @ w.T + b).argmax(1) == label
        assert one == min(right[split.group == g].mean() for g in range(0, 8, 2))
    assert split.worst_group(Head(weight[1], bias[1])) == result[1]


def test_the_grid_is_that_of_the_authors_notebook():
    assert pytest.approx([100, 215.443, 464.159, 1000], abs=1e-3) == GAMMAS[:4]
    assert (len(GAMMAS), GAMMAS[-1]) == (10, pytest.approx(1e5))
    assert PENALTIES[:4] == [0, 2, 4, 6]
    assert (len(PENALTIES), PENALTIES[-1]) == (26, 50)


def afr_trainer():
    """A trainer with 80 training rows and 40 of validation, in two groups; features 3."""
    rng = np.random.default_rng(5)

    class Split(list):
        """Row numbers, with labels and groups."""

    train, validation = Split(range(80)), Split(range(40))
    for part in (train, validation):
        part.label, part.group = rng.integers(2, size=(2, len(part)))
    outputs = {
        len(s): StoredOutputs("", rng.normal(size=(len(s), 2)), rng.normal(size=(len(s), 3)))
        for s in (train, validation)
    }
    return SimpleNamespace(
        train=train,
        validation=validation,
        seed=0,
        predict=lambda stage, s=None: outputs[len(s or train)],
    )


def test_gamma_and_penalty_are_searched_unless_they_are_set():
    """The best of ten single runs by gamma, each over the 26 penalties, is what a search keeps."""
    trainer = afr_trainer()
    old = Head(np.zeros((2, 3)), np.zeros(2))
    options = {"steps": 20, "learning_rate": 0.1}
    searched = AFR.refit(trainer, None, old, AFR.resolved(options, "text"))
    known = Rows(
        trainer.predict(None, trainer.validation).features,
        trainer.validation.label,
        trainer.validation.group,
    )
    single = [
        AFR.refit(trainer, None, old, AFR.resolved({**options, "gamma": g, "penalty": p}, "text"))
        for g in GAMMAS
        for p in PENALTIES
    ]
    scores = [known.worst_group(head) for head in single]
    assert 0 < int(np.argmax(scores)) < 259
    best = single[int(np.argmax(scores))]
    assert searched.weight == pytest.approx(best.weight, abs=1e-12)
    assert searched.bias == pytest.approx(best.bias, abs=1e-12)


# DFR


def rows(features, label, group=None):
    return Rows(features, label, label if group is None else group)
