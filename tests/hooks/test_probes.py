"""Linear probes: balanced rows, cross-fitting as scikit-learn does it, planted features, a run."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from harness_plugin.cli.main import main
from harness_plugin.data.dataset import TaskData, make_split
from harness_plugin_hooks.analyses.probes.compute import (
    Crossed,
    Curve,
    Probes,
    crossed,
    crossed_rows,
    resampled_rows,
)
from harness_plugin_hooks.analyses.probes.options import ProbeOptions

CELLS = {("a", "x"): 40, ("a", "y"): 12, ("b", "x"): 15, ("b", "y"): 60, ("a", "z"): 30}
"""Label, attribute -> rows; z never occurs with b."""


def split_of(cells, name="made", attributes=True):
    rows = [pair for pair, count in cells.items() for _ in range(count)]
    return make_split(
        name,
        purpose="ood",
        inputs={"text": ["…"] * len(rows)},
        ids=[str(i) for i in range(len(rows))],
        label_texts=[label for label, _ in rows],
        labels=("a", "b", "never"),
        attributes=[value for _, value in rows] if attributes else None,
    )


@pytest.fixture(scope="module")
def rows():
    result = crossed(split_of(CELLS), ProbeOptions(folds=4))
    assert isinstance(result, Crossed)
    return result


def test_every_label_is_as_frequent_with_every_attribute_value(rows):
    assert rows.names == {"label": ("a", "b"), "attribute": ("x", "y")}
    assert rows.left_out == ("z",)
    assert np.unique(rows.cell, return_counts=True)[1].tolist() == [12] * 4
    assert len(set(rows.rows.tolist())) == 48
    attribute = rows.split.column("attribute")[rows.rows]
    assert attribute.tolist() == [rows.names["attribute"][v] for v in rows.attribute]
    label = rows.split.label[rows.rows]
    assert label.tolist() == rows.label.tolist()
    for fold in range(4):  # every fold is balanced as well
        assert np.unique(rows.cell[rows.fold == fold], return_counts=True)[1].tolist() == [3] * 4
    few = crossed(split_of(CELLS), ProbeOptions(folds=4, rows=24))
    assert len(few.rows) == 24


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (split_of(CELLS, attributes=False), "does not say the attribute"),
        (split_of({("a", "x"): 30, ("b", "y"): 30}), "cannot be told apart"),
        (split_of({("a", "x"): 30, ("a", "y"): 30}), "cannot be told apart"),
    ],
)
def test_where_nothing_can_be_balanced_the_reason_is_said(split, message):
    data = TaskData("made", "path", {"made": split})
    result, notes = crossed_rows(data, ProbeOptions())
    assert result is None
    assert message in notes[0]


def test_the_set_with_most_rows_of_the_rarest_combination_is_taken():
    large = split_of({pair: 50 for pair in CELLS}, "large")
    data = TaskData("made", "path", {"made": split_of(CELLS), "large": large})
    result, notes = crossed_rows(data, ProbeOptions())
    assert result.split.name == "large"
    assert notes == ["left out, because they do not occur with every label: z"]
    assert crossed_rows(data, ProbeOptions(split="made"))[0].split.name == "made"


def test_cross_fitting_is_that_of_scikit_learn(rows):
    rng = np.random.default_rng(0)
    features = rng.normal(3, 5, (48, 6)) + 4 * rows.label[:, None] * [1, 0, 0, 0, 0, 0]
    options = ProbeOptions(folds=4)
    result = Probes(rows, options).judged(features, rows.label)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=options.strength))
    theirs = cross_val_predict(pipeline, features, rows.label, cv=PredefinedSplit(rows.fold))
    assert result.tolist() == (theirs == rows.label).tolist()


def test_what_was_planted_is_found_and_nothing_else(rows):
    """Layer 1 holds the label, layer 2 both, layer 0 neither; a constant layer gives chance."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(3, 48, 4))
    label, attribute = 9.0 * rows.label[:, None], 9.0 * rows.attribute[:, None]
    layers = [noise[0], np.hstack([noise[1], label]), np.hstack([noise[2], label, attribute])]
    layers.append(np.ones((48, 4)))
    options = ProbeOptions(folds=4, resamples=200)
    shuffles = {t: [rng.permutation(48) for _ in range(4)] for t in ("label", "attribute")}
    probes = Probes(rows, options, shuffles)
    counts = resampled_rows(rows.cell, options, rng)
    curves = {}
    for target in ("label", "attribute"):
        correct, shuffled = probes.of(layers, target)
        curves[target] = Curve(
            role="student",
            seeds=(0,),
            target=target,
            layers=("0", "1", "2", "constant"),
            depths=(0, 0.5, 1, 1),
            chance=rows.chance(target),
            correct=correct[None],
            values=correct[None] @ counts.T / 48,
            null_values=shuffled.mean(axis=0)[None] @ counts.T / 48,
        )
    assert curves["label"].decodable == (False, True, True, False)
    assert curves["attribute"].decodable == (False, False, True, False)
    values = [e.value for e in curves["label"].estimates]
    assert values[1] == values[2] == 1
    assert values[3] == 0.5
    null = np.array([e.value for e in curves["label"].null])
    assert np.abs(null - 0.5).max() < 0.15


def curve_of(right, role="student"):
    """A curve of one layer; `right` (S, N) says where each seed's probe is."""
    n = right.shape[1]
    cells = np.arange(n) % 4
    counts = resampled_rows(cells, ProbeOptions(resamples=2000), np.random.default_rng(0))
    return Curve(
        role=role,
        seeds=tuple(range(len(right))),
        target="label",
        layers=("head",),
        depths=(1,),
        chance=0.5,
        correct=right[:, None],
        values=right[:, None] @ counts.T / n,
        null_values=None,
    )


def test_an_accuracy_counts_rows_once_and_seeds_by_students_t():
    """One seed: sqrt(p (1 - p) / n). Five that differ by far more than rows: Student's t."""
    one = np.tile([True, True, True, False, True], 80)[None]
    (result,) = curve_of(one).estimates
    assert result.interval_of == "rows"
    assert result.high - 0.8 == pytest.approx(1.966 * np.sqrt(0.16 / 400), rel=0.05)
    accuracies = np.array([0.55, 0.7, 0.6, 0.9, 0.75])
    five = np.arange(400) < 400 * accuracies[:, None]
    order = np.random.default_rng(0).permutation(400)
    (result,) = curve_of(five[:, order]).estimates
    half = stats.t.ppf(0.975, 4) * accuracies.std(ddof=1) / np.sqrt(5)
    assert result.interval_of == "seeds and rows"
    assert result.high - result.value == pytest.approx(half, rel=0.05)
    assert result.high - result.value > half  # the rows that all seeds share are counted too


def test_two_seeds_have_no_interval_and_show_nothing():
    two = curve_of(np.random.default_rng(0).random((2, 400)) < 0.8)
    assert "two seeds" in two.estimates[0].reason
    assert two.decodable == (False,)
    assert (two.minus(two, 0).low, two.minus(two, 0).high) == (0, 0)  # 0, whatever the seeds


def test_rows_are_drawn_within_their_cell(rows):
    counts = resampled_rows(rows.cell, ProbeOptions(resamples=100), np.random.default_rng(0))
    assert (counts[0] == 1).all()
    for cell in range(4):
        assert (counts[:, rows.cell == cell].sum(axis=1) == 12).all()


def test_a_run_is_probed(run_folder, capsys):
    words = ["analyze", str(run_folder), "--probes", "--resamples", "100"]
    words += ["--probe_folds", "3"]
    assert main(words) == 0
    assert "label (negative / positive) read off each layer" in capsys.readouterr().out
    (file,) = run_folder.glob("analysis_*.json")
    record = json.loads(file.read_text())
    probes = record["probes"]
    assert probes["split"] == "swapped"  # half of its rows are conflicting, of the other few
    assert {(c["role"], c["target"]) for c in probes["curves"]} == {
        (role, target)
        for role in ("teacher", "student", "control")
        for target in ("label", "attribute")
    }
    (table,) = run_folder.glob("analysis_*_probes.parquet")
    rows = pq.read_table(table).to_pylist()
    assert len(rows) == 2 * probes["rows"]
    for curve in probes["curves"]:
        mine = [row for row in rows if row["target"] == curve["target"]]
        columns = ("layers", "value", "low", "high", "reason")
        for layer, value, low, high, reason in zip(*(curve[c] for c in columns), strict=True):
            correct = [row[f"{curve['role']}/0/{layer}"] for row in mine]
            assert np.mean(correct) == pytest.approx(value)
            assert low <= value <= high if low else "answered alike" in reason
    student = next(d for d in probes["differences"] if d["what"] == "student - teacher")
    ours, theirs = (
        next(c for c in probes["curves"] if (c["role"], c["target"]) == (role, "label"))["value"][
            -1
        ]
        for role in ("student", "teacher")
    )
    assert student["layers"][0]["value"] == pytest.approx(ours - theirs)
