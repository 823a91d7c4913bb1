"""Methods with a last stage: closed forms, scikit-learn as reference, and the checkpoint."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from harness_plugin import HarnessError
from harness_plugin.models.classifiers import load_trained
from harness_plugin.models.network import last_layer
from harness_plugin.training.trainer import StoredOutputs
from harness_plugin_hooks.methods.last_layer import selective
from harness_plugin_hooks.methods.last_layer.afr import (
    AFR,
    GAMMAS,
    PENALTIES,
    afr_weights,
    descents,
    parts_of,
)
from harness_plugin_hooks.methods.last_layer.dfr import (
    DFR,
    STRENGTHS,
    DFRTrain,
    balanced,
    regression,
)
from harness_plugin_hooks.methods.last_layer.refit import Head, Rows
from harness_plugin_hooks.methods.last_layer.selective import (
    SELF,
    divergence,
    label_balanced_batches,
    largest,
)

Z = np.array([[2, 0, -1], [0.5, 1, 0], [-1, 0, 1], [1, 1, 0]])
Y = np.array([0, 1, 2, 0])


def data(n=200, width=5, labels=2, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(labels, size=n)
    return rng.normal(size=(n, width)) + label[:, None], label


def sgd(rate):
    return lambda layer: torch.optim.SGD(layer, lr=rate)


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


@pytest.mark.parametrize("labels", [2, 3])
def test_the_regression_as_a_last_layer_predicts_what_scikit_learn_does(labels):
    features, label = data(labels=labels)
    rng = np.random.default_rng(0)
    head = regression(rows(features, label), labels, 0.1, np.random.default_rng(0))
    solver = "liblinear" if labels == 2 else "saga"
    reference = LogisticRegression(
        C=0.1, l1_ratio=1, solver=solver, random_state=int(rng.integers(2**31)), max_iter=500
    ).fit(features, label)
    logits = torch.from_numpy(features @ head.weight.T + head.bias)
    assert logits.softmax(1).numpy() == pytest.approx(reference.predict_proba(features), abs=1e-6)


def test_a_label_without_rows_is_never_predicted():
    features, label = data()
    head = regression(rows(features, 2 * label), 3, 1.0, np.random.default_rng(0))
    assert set((features @ head.weight.T + head.bias).argmax(1)) == {0, 2}
    with pytest.raises(HarnessError, match="a single label"):
        regression(rows(features, 0 * label), 2, 1.0, np.random.default_rng(0))


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


def worst(predicted, label, group):
    return min((predicted == label)[group == g].mean() for g in np.unique(group))


def planted(n, agree, seed, width=12):
    """A weak signal, a cue that agrees with the label so often, and noise; groups label x cue."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    cue = np.where(rng.random(n) < agree, label, 1 - label)
    features = rng.normal(size=(n, width))
    features[:, 0] += 1.2 * (2 * label - 1)
    features[:, 1] = 2 * (2 * cue - 1) + 0.1 * features[:, 1]
    return Rows(features, label, 2 * label + cue)


def test_dfr_chooses_c_as_the_authors_do():
    """dfr_on_validation_tune: half is fitted, balanced and scaled by itself; half scores."""
    validation = planted(240, 0.8, seed=1)
    result = DFR.choose(None, validation, 2, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    order = rng.permutation(240)
    fit = order[120:][balanced(validation.group[order[120:]], rng)]
    scaler = StandardScaler().fit(validation.features[fit])
    x, held = scaler.transform(validation.features[fit]), order[:120]
    results = []
    for c in (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01):
        state = int(rng.integers(2**31))
        model = LogisticRegression(C=c, l1_ratio=1, solver="liblinear", random_state=state)
        predicted = model.fit(x, validation.label[fit]).predict(
            scaler.transform(validation.features[held])
        )
        results.append(worst(predicted, validation.label[held], validation.group[held]))
    assert result == STRENGTHS[int(np.argmax(results))]
    assert len(set(results)) > 2


def test_dfr_train_chooses_c_by_the_validation_rows():
    """dfr_train_subset_tune. Its own rows are all right at C = 1, which validation is not at."""
    train, validation = planted(60, 0.5, seed=0, width=80), planted(400, 0.5, seed=3, width=80)
    result = DFRTrain.choose(train, validation, 2, np.random.default_rng(2))
    rng = np.random.default_rng(2)
    chosen = balanced(train.group, rng)
    scaler = StandardScaler().fit(train.features)
    x, y = scaler.transform(train.features[chosen]), train.label[chosen]
    results, own = [], []
    for c in STRENGTHS:
        state = int(rng.integers(2**31))
        model = LogisticRegression(C=c, l1_ratio=1, solver="liblinear", random_state=state)
        predicted = model.fit(x, y).predict(scaler.transform(validation.features))
        results.append(worst(predicted, validation.label, validation.group))
        own.append((model.predict(x) == y).mean())
    assert result == STRENGTHS[int(np.argmax(results))]
    assert own[0] == 1.0
    assert result < 1.0


# SELF


def test_divergence_is_the_kl_of_the_softmaxes():
    p, q = np.array([[0.5, 0.5]]), np.array([[0.9, 0.1]])
    expected = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    assert divergence(np.log(p), np.log(q)) == pytest.approx([expected])
    assert divergence(Z, Z + 3) == pytest.approx(np.zeros(4), abs=1e-12)


def test_the_largest_scores_whatever_the_labels():
    score = np.array([0.1, 0.9, 0.5, 0.9, 0.8, 0.2])
    assert largest(score, 3).tolist() == [1, 3, 4]
    assert largest(score, 100).tolist() == list(range(6))
    with pytest.raises(HarnessError, match="points must be at least 1, found 0"):
        largest(score, 0)


def test_batches_draw_every_label_equally_often():
    label = np.array([0] * 30 + [2] * 10)
    batches = label_balanced_batches(label, 50, seed=0)
    drawn = np.concatenate([next(batches) for _ in range(80)])
    assert (label[drawn] == 0).mean() == pytest.approx(0.5, abs=0.03)
    again = label_balanced_batches(label, 50, seed=0)
    assert np.array_equal(drawn[:50], next(again))


FINAL, EARLY = [[0.99, 0.01], [0.5, 0.5], [0.3, 0.7]], [[0.5, 0.5], [0.999, 0.001], [0.3, 0.7]]


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_self_ranks_by_the_divergence_of_the_early_model_from_the_final_one(monkeypatch, share):
    """KL(early || final) is 1.61, .69 and 0; the other way round .64, 2.76 and 0."""
    asked, seen = [], {}
    split = SimpleNamespace(label=np.array([0, 0, 1]))

    class Fake:
        validation, seed, epochs = split, 0, 10.0

        def erm(self, **how):
            asked.append(how)
            return "early"

        def predict(self, trained, where):
            table = EARLY if trained == "early" else FINAL
            return StoredOutputs("", np.log(np.array(table, np.float32)), np.eye(3, 4, dtype="f4"))

    def tuned(features, label, old, batches, options):
        seen.update(features=features, label=label, batches=batches, steps=options["steps"])
        return old

    monkeypatch.setattr(selective, "tuned", tuned)
    old = Head(np.zeros((2, 4)), np.zeros(2))
    options = SELF.resolved({"points": 1, "early_stop": share}, "text")
    assert SELF.refit(Fake(), "final", old, options) is old
    assert asked == [{"epochs": 10.0 * share, "snapshot": True}]
    assert seen["features"].tolist() == [[1, 0, 0, 0]]  # the first row: both have one label
    assert (seen["steps"], len(next(seen["batches"]))) == (500, 16)
    SELF.refit(Fake(), "final", old, {**options, "points": 2})
    assert seen["label"].tolist() == [0, 0]  # the label that has no disagreement is left out


def test_self_steps_down_the_mean_cross_entropy_of_each_batch():
    """Two batches at rate .5 from zero weights, momentum .9 and decay 1e-4, worked by hand."""
    x, y = np.array([[1.0], [2.0]], np.float32), np.array([0, 1])
    options = {"steps": 2, "optimizer": "sgd", "learning_rate": 0.5}
    batches = iter([np.array([0, 1]), np.array([0]), np.array([1])])
    result = selective.tuned(x, y, Head(np.zeros((2, 1)), np.zeros(2)), batches, options)
    g = np.array([0.5 * (-0.5 * 1 + 0.5 * 2), 0.0])  # of label 0: d CE = p - 1 and p, p = .5
    v, b = -0.5 * g[0], 0.0
    p0 = 1 / (1 + math.exp(-2 * v))  # logits v and -v
    momentum = 0.9 * g[0] + (p0 - 1) + 1e-4 * v
    assert result.weight[:, 0] == pytest.approx([v - 0.5 * momentum, -(v - 0.5 * momentum)])
    assert result.bias == pytest.approx([b - 0.5 * (p0 - 1), b + 0.5 * (p0 - 1)])


def test_self_tunes_with_the_authors_optimisers():
    layer = [torch.zeros(2, requires_grad=True)]
    for modality, kind in (("image", torch.optim.SGD), ("text", torch.optim.AdamW)):
        made = selective.optimizer_of(layer, SELF.resolved({}, modality))
        assert type(made) is kind
        assert made.defaults["weight_decay"] == 1e-4
        assert made.defaults.get("momentum", 0.9) == 0.9


# together


SMALL = ("teacher.epochs=1", "validation_fraction=0.25")


@pytest.mark.parametrize("method", ["dfr", "dfr_train", "afr", "self", "evals"])
def test_only_the_last_layer_changes_and_the_checkpoint_loads_anywhere(open_context, method):
    ctx = open_context(*SMALL, "method_options.evals.epochs=2")
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
    for method in ("dfr", "dfr_train", "afr", "self", "evals"):
        with pytest.raises(HarnessError, match=r"needs .*validation split \(or `validation_frac"):
            open_context(f"method={method}")
    with pytest.raises(HarnessError, match="disagreement must be early_stop or dropout"):
        open_context(*SMALL, "method=self", "method_options.self.disagreement=none")


def test_self_with_dropout_needs_no_second_training(open_context):
    ctx = open_context(*SMALL, "method_options.self.disagreement=dropout")
    ctx.trained("teacher", ctx.settings.teacher, "self", 0)
    assert len([f for f in ctx.store.root.glob("model-*") if f.is_dir()]) == 2


def test_afr_keeps_the_layer_that_is_best_in_the_worst_validation_group(open_context):
    """Steps that would wreck the layer leave it as good on validation as ERM's was."""
    wild = ("gamma=10000.0", "learning_rate=5.0", "steps=60")
    ctx = open_context(*SMALL, *(f"method_options.afr.{one}" for one in wild))
    model = ctx.trained("teacher", ctx.settings.teacher, "afr", 0)
    split = ctx.data.validation
    (base,) = [
        folder
        for folder in ctx.store.root.glob("model-*")
        if folder.is_dir() and folder != model.path
    ]
    accuracy = {}
    for name, folder in (("erm", base), ("afr", model.path)):
        net = load_trained(str(folder), "text", attention="eager").eval()
        rows = ctx.encoded(split, ctx.settings.teacher)
        with torch.no_grad():
            predicted = net(**rows.batch(np.arange(len(split)))).logits.argmax(1).numpy()
        accuracy[name] = worst(predicted, split.label, split.group)
    assert accuracy["afr"] >= accuracy["erm"]
