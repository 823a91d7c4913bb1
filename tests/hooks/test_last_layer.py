"""Methods with a last stage: closed forms, scikit-learn as reference, and the checkpoint."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from harness_plugin import HarnessError
from harness_plugin.models.classifiers import load_trained
from harness_plugin.models.network import last_layer
from harness_plugin.training.trainer import StoredOutputs
from harness_plugin_hooks.methods.bias.inference import EIIL
from harness_plugin_hooks.methods.last_layer import selective
from harness_plugin_hooks.methods.last_layer.afr import (
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


def data(n=200, width=5, labels=2, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(labels, size=n)
    return rng.normal(size=(n, width)) + label[:, None], label


def sgd(rate):
    return lambda layer: torch.optim.SGD(layer, lr=rate)


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


class Labelled:
    """A split, as far as SELF reads it."""

    def __init__(self, label):
        self.label = label

    def __len__(self):
        return len(self.label)


FINAL, EARLY = [[0.99, 0.01], [0.5, 0.5], [0.3, 0.7]], [[0.5, 0.5], [0.999, 0.001], [0.3, 0.7]]


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_self_ranks_by_the_divergence_of_the_early_model_from_the_final_one(monkeypatch, share):
    """KL(early || final) is 1.61, .69 and 0; the other way round .64, 2.76 and 0.

    Of the other half of the validation rows, where it is 4.6, none is chosen: the authors shuffle
    all rows by the seed and choose from the first half (milkshake's heldout_pct .5).
    """
    asked, seen = [], {}
    order = np.arange(6)
    np.random.default_rng(3).shuffle(order)
    chosen_from = np.sort(order[:3])
    label = np.ones(6, np.int64)
    label[chosen_from[:2]] = 0
    split = Labelled(label)
    final, early = np.tile([[1 - 1e-4, 1e-4]], (6, 1)), np.tile([[0.5, 0.5]], (6, 1))
    final[chosen_from], early[chosen_from] = FINAL, EARLY

    class Fake:
        validation, seed, epochs = split, 3, 10.0

        def erm(self, **how):
            asked.append(how)
            return "early"

        def predict(self, trained, where):
            table = early if trained == "early" else final
            return StoredOutputs("", np.log(table.astype(np.float32)), np.eye(6, dtype="f4"))

    def tuned(features, label, old, batches, options):
        seen.update(features=features, label=label, batches=batches, steps=options["steps"])
        return old

    monkeypatch.setattr(selective, "tuned", tuned)
    old = Head(np.zeros((2, 6)), np.zeros(2))
    options = SELF.resolved({"points": 1, "early_stop": share}, "text")
    assert SELF.refit(Fake(), "final", old, options) is old
    assert asked == [{"epochs": 10.0 * share, "snapshot": True}]
    assert seen["features"].argmax(1).tolist() == [chosen_from[0]]
    assert (seen["steps"], len(next(seen["batches"]))) == (500, 16)
    SELF.refit(Fake(), "final", old, {**options, "points": 2})
    assert seen["features"].argmax(1).tolist() == chosen_from[:2].tolist()
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
def test_only_the_last_layer_changes_and_the_checkpoint_loads_anywhere(
    open_context, method, monkeypatch
):
    monkeypatch.setattr(EIIL, "defaults", {"steps": 100, "learning_rate": 0.01})  # of EVaLS
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
