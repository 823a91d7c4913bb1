"""The bias-only model: scored on rows it was not fitted on, never over-confident."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness_plugin import HarnessError
from harness_plugin_hooks.methods.bias.bias_models import FLOOR, floored, folds_of, regression

TOY_FOLDER = Path(__file__).parents[1] / "toy"


def rows(n=200, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    cue = np.where(rng.random(n) < 0.9, label, 1 - label)
    return cue[:, None].astype(float), label


def cross_fitted(features, label, n_labels, seed, folds=5):
    return floored(regression(features, label, n_labels, seed, folds))


def test_probabilities_of_the_cue_are_its_frequencies():
    features, label = rows(5000)
    fitted = np.exp(cross_fitted(features, label, 2, 0))
    assert fitted.sum(axis=1) == pytest.approx(1, abs=1e-6)
    for cue in (0.0, 1.0):
        chosen = features[:, 0] == cue
        assert fitted[chosen, 1].mean() == pytest.approx(label[chosen].mean(), abs=0.01)


def test_a_row_is_scored_without_itself():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 60)
    noise = rng.normal(size=(60, 50))  # in sample, fifty features explain sixty rows
    fitted = cross_fitted(noise, label, 2, 0)
    assert abs((fitted.argmax(1) == label).mean() - 0.5) < 0.25


def test_probabilities_are_clamped_and_a_label_without_rows_has_the_least():
    features = np.array([[-1e3]] * 50 + [[1e3]] * 50)
    label = np.array([0] * 50 + [2] * 50)
    fitted = np.exp(cross_fitted(features, label, 3, 0))
    assert fitted.min() >= FLOOR / (1 + 3 * FLOOR)
    assert fitted.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert fitted[:, 1].max() < 2 * FLOOR
    assert fitted.argmax(1).tolist() == label.tolist()


def test_the_same_seed_gives_the_same_scores():
    features, label = rows()
    assert np.array_equal(cross_fitted(features, label, 2, 1), cross_fitted(features, label, 2, 1))


def test_too_few_rows_of_a_label_are_refused():
    with pytest.raises(
        HarnessError, match=r"fitted on 5 folds \(2 at least\), and a label has only 3"
    ):
        cross_fitted(np.zeros((9, 1)), np.array([0] * 6 + [1] * 3), 2, 0)


def test_the_stage_holds_log_probabilities_in_row_order(open_context):
    ctx = open_context()
    stage = ctx.bias_model()
    record = json.loads((stage.path / "stage.json").read_text())
    assert record["spec"]["settings"]["folds"] == 5
    assert record["features"] == 1
    assert record["accuracy"] == pytest.approx(ctx.data.train.aligned.mean(), abs=0.03)
    stored = np.load(stage.path / "log_probs.npy")
    assert stored.shape == (240, 2)
    sun = np.array([text.startswith("sun") for text in ctx.data.train.rows["hypothesis"]])
    assert (stored.argmax(1) == sun).all()


def test_features_of_another_length_are_refused(open_context, monkeypatch):
    ctx = open_context()
    loader = ctx.task.load_attribute("toy_data:cue_feature")
    monkeypatch.setitem(loader.__globals__, "cue_feature", lambda split: np.zeros((3, 1)))
    with pytest.raises(HarnessError, match=r"bias_features gives shape \(3, 1\) for 240 training"):
        ctx.bias_model()


def test_folds_are_a_partition_with_every_label_spread_evenly():
    label = np.array([0] * 30 + [1] * 10)
    parts = folds_of(label, 5, 0)
    assert sorted(np.concatenate(parts).tolist()) == list(range(40))
    assert [int(label[part].sum()) for part in parts] == [2] * 5


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("input_part", {"epochs": 1.0}),
        ("weak_learner", {"epochs": 1.0, "folds": 3}),
        ("subset", {"rows": 80, "epochs": 1.0}),
    ],
)
def test_network_bias_models_never_score_a_row_they_were_trained_on(open_context, kind, options):
    sets = [f"bias_model={kind}"]
    sets += [f"bias_model_options.{kind}.{name}={value}" for name, value in options.items()]
    ctx = open_context(*sets)
    stage = ctx.bias_model()
    log_probs = np.load(stage.path / "log_probs.npy")
    assert log_probs.shape == (240, 2)
    assert np.exp(log_probs).sum(axis=1) == pytest.approx(1, abs=1e-5)
    trainings = [
        json.loads((folder / "stage.json").read_text())
        for folder in ctx.store.root.glob("model-*")
        if folder.is_dir()
    ]
    assert len(trainings) == {"input_part": 2, "weak_learner": 3, "subset": 2}[kind]
    inputs = ["hypothesis"] if kind == "input_part" else ["premise", "hypothesis"]
    assert all(training["spec"]["inputs"] == inputs for training in trainings)
    # every table that was mixed into the result comes from a model that saw other rows
    again = ctx.bias_model()
    assert again.reused
    assert again.key == stage.key


def test_the_input_part_model_knows_the_cue_and_not_the_other_text(open_context):
    ctx = open_context("bias_model=input_part", "bias_model_options.input_part.epochs=20")
    record = ctx.bias_model().record
    cue = ctx.data.train.aligned.mean()
    assert record["accuracy"] <= cue + 0.02


def test_a_bias_model_that_the_task_cannot_have_is_refused_before_training(open_context):
    with pytest.raises(HarnessError, match=r"bias_model input_part needs two input texts"):
        open_context("bias_model=input_part", "method=poe", task="celeba_bias")
    with pytest.raises(HarnessError, match=r"column 'claim' is no input of task toy"):
        open_context(
            "bias_model=input_part", "bias_model_options.input_part.column=claim"
        ).bias_model()
    with pytest.raises(HarnessError, match="rows must be between 1 and half of the 240"):
        open_context("bias_model=subset").bias_model()


def test_other_features_are_another_stage(tmp_path, open_context):
    """The function that makes them was in no key: an edited one was served the old table."""
    for file in ("toy.yaml", "toy_data.py"):
        shutil.copy(TOY_FOLDER / file, tmp_path / file)
    code = tmp_path / "toy_data.py"
    first = open_context(task=str(tmp_path / "toy.yaml")).bias_model()
    code.write_text(code.read_text() + "\n# a comment\n")
    again = open_context(task=str(tmp_path / "toy.yaml")).bias_model()
    assert (again.key, again.reused) == (first.key, True)
    code.write_text(code.read_text() + "\nSCALE = 2\n")
    assert open_context(task=str(tmp_path / "toy.yaml")).bias_model().key != first.key
