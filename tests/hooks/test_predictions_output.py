"""predictions_*.csv: nothing is lost on the way out and back, and what does not fit is named."""

from dataclasses import replace

import numpy as np
import pytest

from harness_plugin.errors import HarnessError
from harness_plugin.records import Predictions
from harness_plugin.scoring import metrics as m
from harness_plugin.scoring.files.prediction_tables import (
    answers_on,
    csv_parts,
    from_csv,
    rows_sha256,
    set_of,
)
from harness_plugin.scoring.score import score_task

N = 12


def predict(role: str, seed: int = 0, **more) -> Predictions:
    """Random answers on twelve rows of two groups and one without, in no order."""
    rng = np.random.default_rng([seed, len(role)])
    fields = {
        "task": "t",
        "split": "test",
        "role": role,
        "model": f"{role}-{seed}",
        "seed": seed,
        "ids": np.array([f"id {(7 * i) % N}" for i in range(N)]),
        "logits": rng.standard_cauchy((N, 3)).astype(np.float32),
        "model_labels": ("yes", "no", 'per"haps,'),
        "label": np.arange(N) % 2,
        "labels": ("yes", "no"),
        "group": np.arange(N) % 3 - 1,
        "groups": ("a", "b, or not"),
        "aligned": np.arange(N) % 3 - 1,
        "breakdowns": {"kind": np.array(["", "x"] * (N // 2))},
        "collapse": {"yes": "yes", "no": "no", 'per"haps,': "no"},
        "collapse_rule": "sum",
    }
    return Predictions(**(fields | more))


def scored(*predictions: Predictions):
    return score_task(
        predictions,
        task="t",
        source="path",
        fingerprint="f",
        train_groups=("a", "b, or not"),
        train_group_counts=[3, 1],
        purposes={"test": "ood"},
        metrics={"acc": m.ACC, "ece": m.ECE},
        collapse_rule="sum",
        resamples=50,
    )


def there_and_back(scores) -> list[Predictions]:
    known = set_of(scores, "test")
    text = "".join(csv_parts(known, answers_on(scores, "test")))
    names = {(p.role, p.seed): p.model for p in scores.predictions}
    return from_csv(text, known, "t", names, "file")


OVERLAPPING = {"group": np.full(N, -1), "members": np.arange(2 * N).reshape(N, 2) % 3 == 0}
with np.errstate(divide="ignore"):
    LABELS_ONLY = {
        "logits": np.log(np.eye(3, dtype=np.float32)[np.arange(N) % 3]),
        "labels_only": True,
    }


CLUSTERED = {"cluster": np.arange(N) % 4 - 1, "clusters": ("a", "b, too", "c")}


@pytest.mark.parametrize(
    "more", [{}, OVERLAPPING, CLUSTERED], ids=["groups", "overlapping", "clusters"]
)
@pytest.mark.parametrize("answers", [{}, LABELS_ONLY], ids=["logits", "labels"])
def test_what_is_read_back_is_what_was_written(more, answers):
    models = [(role, seed) for role in ("teacher", "student") for seed in (0, 1)]
    scores = scored(*(predict(role, seed, **more, **answers) for role, seed in models))
    back = there_and_back(scores)
    again = scored(*back)
    assert repr(again.scores) == repr(scores.scores)
    assert repr(again.transfer) == repr(scores.transfer)
    for p, q in zip(scores.predictions, back, strict=True):
        order = np.argsort(p.ids)
        assert p.logits[order].tobytes() == q.logits.tobytes()
        assert q.logits.dtype == np.float32
        for name in ("ids", "label", "group", "aligned", "membership"):
            np.testing.assert_array_equal(getattr(p, name)[order], getattr(q, name))
        np.testing.assert_array_equal(p.breakdowns["kind"][order], q.breakdowns["kind"])
        for name in ("role", "seed", "model", "labels", "model_labels", "groups", "collapse"):
            assert getattr(p, name) == getattr(q, name)
        assert q.train_groups == {"a": 3, "b, or not": 1}


def test_nine_digits_hold_every_float32():
    bits = np.random.default_rng(0).integers(0, 2**32, 3 * 4000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)][: 3 * 3900].reshape(-1, 3)
    n = len(values)
    rows = {
        "ids": np.array([f"{i:05}" for i in range(n)]),
        "label": np.arange(n) % 2,
        "group": np.arange(n) % 2,
        "aligned": np.zeros(n, dtype=int),
        "breakdowns": {},
    }
    p = predict("student", logits=values, **rows)
    scores = replace(scored(predict("student")), predictions=(p,))
    known = set_of(scores, "test")
    (back,) = from_csv("".join(csv_parts(known, [p])), known, "t", {("student", 0): "m"}, "file")
    assert back.logits.tobytes() == values.tobytes()


def test_the_hash_of_the_rows_is_about_the_rows_alone():
    first = predict("teacher")
    same = rows_sha256(first)
    assert rows_sha256(predict("student", 1)) == same
    for change in (
        {"label": 1 - first.label},
        {"group": first.group[::-1]},
        {"aligned": np.zeros(N, dtype=int)},
        {"breakdowns": {"kind": np.array(["x"] * N)}},
        {"breakdowns": {}},
        {"groups": ("a", "c")},
        OVERLAPPING,
    ):
        assert rows_sha256(predict("teacher", **change)) != same


@pytest.fixture
def file():
    scores = scored(predict("student"))
    known = set_of(scores, "test")
    return known, "".join(csv_parts(known, answers_on(scores, "test"))).splitlines()


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (0, 0, "ID", "file: expected the columns id, label, .*found ID, label"),
        (2, 0, "id 0", "file: 1 ids are doubled"),
        (
            1,
            0,
            "i" * 300,
            "file: an id, a bias type or a cluster has 300 characters, expected",
        ),
        (1, 0, "i" * 200_000, "file: is no CSV file .field larger than field limit"),
        (3, 1, "maybe", "file: row 3: label is 'maybe', expected one of 'yes', 'no'"),
        (3, 2, "c", "file: row 3: group is 'c', expected one of '', 'a', 'b, or not'"),
        (3, 3, "2", "file: row 3: aligned is '2', expected one of '', '0', '1'"),
        (4, 5, "nan", "student seed 0: 1 rows hold what is no logit, first row 4: nan, "),
        (4, 5, "inf", "student seed 0: 1 rows hold what is no logit"),
        (4, 5, "-inf", "student seed 0: 1 rows hold what is no logit"),
        (4, 5, "1e39", "student seed 0: 1 rows hold what is no logit"),
        (4, 5, "one", "student seed 0: could not convert string to float: 'one'"),
        (4, 5, "1,1", "file: row 4: expected 8 cells, found 9"),
        (4, 5, '"', "file: is no CSV file"),
    ],
)
def test_what_does_not_fit_is_named(file, row, column, value, message):
    import csv

    known, lines = file
    table = list(csv.reader(lines))
    table[row][column] = value
    text = "\n".join(
        ",".join(cell if cell == value else '"' + cell.replace('"', '""') + '"' for cell in line)
        for line in table
    )
    with pytest.raises(HarnessError, match=message):
        from_csv(text, known, "t", {("student", 0): "m"}, "file")


def test_missing_rows_are_counted(file):
    known, lines = file
    with pytest.raises(HarnessError, match="file: expected 12 rows, found 11"):
        from_csv("\n".join(lines[:-1]), known, "t", {("student", 0): "m"}, "file")


def test_a_row_needs_a_label(file):
    known, lines = file
    known = known.model_copy(
        update={"answers": [known.answers[0].model_copy(update={"labels_only": True})]}
    )
    lines[1] = ",".join([*lines[1].split(",")[:5], "-inf", "-inf", "-inf"])
    with pytest.raises(HarnessError, match="1 rows hold what is no logit"):
        from_csv("\n".join(lines), known, "t", {("student", 0): "m"}, "file")
