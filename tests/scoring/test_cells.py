"""Rows that are alike are counted together: the numbers are those of all rows."""

from dataclasses import replace

import numpy as np
import pytest
from four_groups import METRICS, predict

from harness_plugin.scoring import metrics as m
from harness_plugin.scoring.bootstrap import Bootstrap, by_kind, by_row, resample
from harness_plugin.scoring.pairing import first_of, take

LABEL_METRICS = [metric for metric in METRICS.values() if metric.of_labels]


def test_which_metrics_need_labels_only():
    assert set(METRICS) - {metric.name for metric in LABEL_METRICS} == {"ece"}


@pytest.fixture
def big_panel():
    """Two models of two seeds on 2,000 rows whose groups overlap."""
    rng = np.random.default_rng(0)
    label, members = rng.integers(2, size=2000), rng.random((2000, 2)) < 0.5
    rows = {
        "ids": np.array([f"ex{i:04d}" for i in range(2000)]),
        "label": label,
        "group": np.full(2000, -1),
        "groups": ("a", "b"),
        "members": members,
        "aligned": rng.integers(2, size=2000),
        "breakdowns": {},
    }

    def of(role, seed):
        predicted = np.where(rng.random(2000) < 0.8, label, 1 - label)
        return predict(
            role, seed, (0,) * 4, **rows, logits=rng.random((2000, 2)) + 3 * np.eye(2)[predicted]
        )

    return {role: (of(role, 0), of(role, 1)) for role in ("teacher", "student")}


@pytest.mark.parametrize(
    "metric",
    [metric for metric in LABEL_METRICS if metric is not m.ACC_TRAIN_WEIGHTED],
    ids=lambda metric: metric.name,
)
def test_rows_that_are_alike_may_be_counted_together(big_panel, metric):
    """The plain numbers are those of all rows to the last digit, the spread that of rows."""
    bootstrap = Bootstrap("t", 1000)
    few, counts = bootstrap.cells(big_panel, "hans")
    assert len(first_of(few)) < 300
    ours = resample(by_kind({metric.name: metric.evaluate}), few, counts)[metric.name]
    theirs = resample(by_row([metric]), big_panel, bootstrap.rows(big_panel, "hans"))[metric.name]
    for role, predictions in big_panel.items():
        assert ours[role][:, 0] == pytest.approx([metric(p)[0] for p in predictions], abs=1e-12)
        assert ours[role].std(axis=1) == pytest.approx(theirs[role].std(axis=1), rel=0.1)
    change, expected = (values["student"] - values["teacher"] for values in (ours, theirs))
    assert change.std(axis=1) == pytest.approx(expected.std(axis=1), rel=0.1)


def test_rows_that_are_all_different_are_drawn_one_by_one(big_panel):
    paired = {
        role: tuple(take(p, np.arange(20)) for p in result) for role, result in big_panel.items()
    }
    few, _ = Bootstrap("t", 10).cells(paired, "hans")
    assert few is paired


@pytest.mark.parametrize("most", [64, 3], ids=["summed by kind", "too many kinds"])
def test_a_models_kinds_give_the_numbers_of_its_rows(big_panel, monkeypatch, most):
    """Whole numbers are summed exactly, so that not a bit differs."""
    monkeypatch.setattr("harness_plugin.scoring.bootstrap.MOST_KINDS", most)
    bootstrap = Bootstrap("t", 200)
    metrics = [metric for metric in LABEL_METRICS if metric is not m.ACC_TRAIN_WEIGHTED]
    drawn = [
        resample(evaluate, big_panel, bootstrap.rows(big_panel, "hans"))
        for evaluate in (by_kind({x.name: x.evaluate for x in metrics}), by_row(metrics))
    ]
    assert drawn[0].keys() == drawn[1].keys() == {metric.name for metric in metrics}
    for name in drawn[0]:
        for role in big_panel:
            assert drawn[0][name][role].shape == (2, 201)
            assert drawn[0][name][role].tobytes() == drawn[1][name][role].tobytes()


def test_what_is_made_of_rows_is_made_once_however_many_chunks_of_resamples(big_panel, monkeypatch):
    monkeypatch.setattr("harness_plugin.scoring.statistics.resampling.CELLS", 1)
    bootstrap, made = Bootstrap("t", 200), []

    def prepared(predictions):
        made.append(predictions)
        return m.calibration_of(predictions)

    counts = list(bootstrap.rows(big_panel, "hans"))
    assert [len(chunk) for chunk in counts] == [1, *[16] * 12, 8]  # all ones, then the resamples
    ece = resample(by_row([replace(m.ECE, prepared=prepared)]), big_panel, iter(counts))["ece"]
    assert made == [p for role in big_panel for p in big_panel[role]]
    for role, predictions in big_panel.items():
        direct = [m.ECE(p, np.concatenate(counts)) for p in predictions]
        assert ece[role] == pytest.approx(np.array(direct), abs=1e-6)  # summed in float32


def test_a_report_prepares_a_metric_once_for_each_model_and_set(
    finished_report, tmp_path, monkeypatch
):
    """Whatever the number of chunks: what is made in each of them grows with the square of rows."""
    monkeypatch.setattr("harness_plugin.scoring.statistics.resampling.CELLS", 1)
    prepared = []

    def calibration_of(predictions):
        prepared.append((predictions.role, predictions.seed, predictions.split))
        return calibration(predictions)

    calibration = m.calibration_of
    monkeypatch.setattr(m, "ECE", replace(m.ECE, prepared=calibration_of))
    (scores,) = finished_report(tmp_path, {"teacher": 0.9, "student": 0.8}).tasks
    assert len(prepared) == len(set(prepared)) == 2 * 3 * 2  # roles, seeds, sets
    assert {score.role for score in scores.scores} == {"teacher", "student"}
