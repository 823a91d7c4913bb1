"""The bias-only model: scored on rows it was not fitted on, never over-confident."""

import json

import numpy as np
import pytest

from harness_plugin import HarnessError
from harness_plugin.bias import FLOOR, FOLDS, cross_fitted


def rows(n=200, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    cue = np.where(rng.random(n) < 0.9, label, 1 - label)
    return cue[:, None].astype(float), label


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
        HarnessError, match="fitted on 5 folds, but a label has only 3 training rows"
    ):
        cross_fitted(np.zeros((9, 1)), np.array([0] * 6 + [1] * 3), 2, 0)


def test_the_stage_holds_log_probabilities_in_row_order(open_shop):
    shop = open_shop()
    record = json.loads((shop.bias.path / "stage.json").read_text())
    assert (record["folds"], record["features"]) == (FOLDS, 1)
    assert record["accuracy"] == pytest.approx(shop.data.train.aligned.mean(), abs=0.03)
    stored = np.load(shop.bias.path / "log_probs.npy")
    assert stored.shape == (240, 2)
    sun = np.array([text.startswith("sun") for text in shop.data.train.rows["hypothesis"]])
    assert (stored.argmax(1) == sun).all()


def test_features_of_another_length_are_refused(open_shop, monkeypatch):
    shop = open_shop()
    loader = shop.task.load_attribute("toy_data:cue_feature")
    monkeypatch.setitem(loader.__globals__, "cue_feature", lambda split: np.zeros((3, 1)))
    with pytest.raises(HarnessError, match=r"bias_features gives shape \(3, 1\) for 240 training"):
        shop.bias  # noqa: B018
