"""Splits: bad rows are named, limits keep every group, fingerprints see every change."""

import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from harness_plugin import HarnessError
from harness_plugin.data.dataset import (
    TaskData,
    check,
    load_data,
    make_split,
    resolve_options,
    stratified,
)
from harness_plugin.data.task import read_task

TOY = Path(__file__).parents[1] / "toy" / "toy.yaml"


def columns(n=6, **changes):
    values = {
        "purpose": "ood",
        "inputs": {"text": [f"text {i}" for i in range(n)]},
        "ids": [str(i) for i in range(n)],
        "label_texts": ["no", "yes"] * (n // 2),
        "labels": ("no", "yes"),
        "group_texts": ["a", "b", "c"] * (n // 3),
        "groups": ("a", "b", "c"),
        "attributes": ["x", "y"] * (n // 2),
        "aligned": [1, 0] * (n // 2),
        "breakdowns": {"kind": ["k", ""] * (n // 2)},
    }
    return {**values, **changes}


def split(n=6, **changes):
    return make_split("test", **columns(n, **changes))


def test_columns_become_a_split():
    made = split()
    assert made.ids.tolist() == ["0", "1", "2", "3", "4", "5"]
    assert made.label.tolist() == [0, 1] * 3
    assert made.group.tolist() == [0, 1, 2] * 2
    assert made.group_counts.tolist() == [2, 2, 2]
    assert made.aligned.tolist() == [1, 0] * 3
    assert made.rows["attribute"][:2] == ["x", "y"]
    assert made.breakdowns == ("kind",)


def test_what_is_not_annotated_is_undefined():
    made = split(group_texts=None, groups=(), attributes=None, aligned=None)
    assert set(made.group.tolist()) == {-1}
    assert set(made.aligned.tolist()) == {-1}
    assert set(made.rows["attribute"]) == {""}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"label_texts": ["no", "maybe"] * 3},
            "data.txt: row 2: unknown label 'maybe'; .* no, yes",
        ),
        ({"group_texts": ["a", "b", "d"] * 2}, "data.txt: row 3: unknown group 'd'; .* a, b, c"),
        ({"ids": ["0", "1", "2", "1", "4", "5"]}, "row 4: id '1' was already used in row 2"),
        ({"label_texts": ["no"] * 5}, "column 'label' has 5 rows, expected 6"),
        ({"inputs": {"text": ["x"]}}, "column 'text' has 1 rows, expected 6"),
        ({"breakdowns": {"kind": ["k"]}}, "column 'kind' has 1 rows"),
        ({"aligned": [1]}, "column 'aligned' has 1 rows"),
        ({"label_texts": ["-", -1, ""] * 2}, "no labelled row .of 6 read"),
    ],
)
def test_a_bad_row_is_named(changes, message):
    with pytest.raises(HarnessError, match=message):
        split(**changes, where="data.txt")


def test_rows_without_a_label_are_dropped_and_counted():
    made = split(label_texts=["no", "-", "yes", -1, "", "no"], ids=["0", "9", "2", "9", "9", "5"])
    assert made.dropped == 3
    assert made.ids.tolist() == ["0", "2", "5"]
    assert made.label.tolist() == [0, 1, 0]
    assert made.rows["text"][:] == ["text 0", "text 2", "text 5"]


def skewed(n=600):
    rng = np.random.default_rng(0)
    groups = rng.choice(["a", "b", "c"], n, p=[0.9, 0.09, 0.01])
    groups[:3] = ["a", "b", "c"]
    return split(n, group_texts=groups.tolist())


@pytest.mark.parametrize("limit", [3, 4, 7, 50, 599])
def test_a_limit_is_exact_and_keeps_every_group(limit):
    whole = skewed()
    kept = stratified(whole, limit, seed=0)
    assert len(kept) == limit
    assert (kept.group_counts > 0).all()
    assert (kept.group_counts <= whole.group_counts).all()
    assert kept.ids.astype(int).tolist() == sorted(kept.ids.astype(int))
    share = whole.group_counts * limit / len(whole)
    if limit >= 50:
        assert np.abs(kept.group_counts - share).max() <= 1


def test_a_limit_is_seeded():
    whole = skewed()
    first, again, other = (stratified(whole, 30, seed).ids.tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_limit_of_all_rows_changes_nothing_and_one_below_the_groups_is_refused():
    whole = skewed()
    assert stratified(whole, 600, 0) is whole
    with pytest.raises(
        HarnessError, match="2 rows cannot hold each of the 3 groups of split 'test'; raise --limit"
    ):
        stratified(whole, 2, 0)


def test_a_split_without_groups_is_limited_by_label():
    made = split(60, group_texts=None, groups=(), label_texts=["no"] * 57 + ["yes"] * 3)
    assert np.bincount(stratified(made, 10, 0).label).tolist() == [9, 1]


def test_rows_of_no_group_are_a_stratum_of_their_own():
    made = split(60, group_texts=["a", ""] * 30, groups=("a",))
    kept = stratified(made, 10, 0)
    assert (kept.group == -1).sum() == 5


CHANGES = {
    "text": {"inputs": {"text": [f"text {i}" for i in range(5)] + ["text 5."]}},
    "label": {"label_texts": ["no", "yes", "no", "yes", "no", "no"]},
    "id": {"ids": ["0", "1", "2", "3", "4", "6"]},
    "group": {"group_texts": ["a", "b", "c", "a", "b", "b"]},
    "attribute": {"attributes": ["x", "y", "x", "y", "x", "x"]},
    "aligned": {"aligned": [1, 0, 1, 0, 1, -1]},
    "breakdown": {"breakdowns": {"kind": ["k", "", "k", "", "k", "k"]}},
    "order of labels": {"labels": ("yes", "no")},
    "names of groups": {"groups": ("a", "b", "c", "d")},
    "rule": {"collapse_rule": "sum"},
    "collapse": {"collapse": {"neutral": "no"}},
    "text moved to the next row": {
        "inputs": {"text": ["text 0t", "ext 1", *[f"text {i}" for i in range(2, 6)]]}
    },
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_fingerprint_sees_a_change_of(what):
    assert split(**CHANGES[what]).fingerprint != split().fingerprint


def test_the_fingerprint_sees_the_order_of_rows_but_not_how_they_are_stored(tmp_path):
    whole = split(12)
    assert whole.select(np.arange(12)).fingerprint == whole.fingerprint
    assert whole.select(np.arange(12)[::-1]).fingerprint != whole.fingerprint
    assert whole.select(np.arange(6)).fingerprint == split(6).fingerprint
    whole.rows.save_to_disk(str(tmp_path / "rows"))
    from dataclasses import replace

    loaded = replace(whole, content=datasets.load_from_disk(str(tmp_path / "rows")))
    assert loaded.fingerprint == whole.fingerprint


def test_the_fingerprint_is_the_same_in_every_process():
    program = (
        "from pathlib import Path; from harness_plugin.data.dataset import load_data;"
        "from harness_plugin.data.task import read_task;"
        f"print(load_data(read_task(Path({str(TOY)!r})), 'embedded').fingerprint)"
    )
    result = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        ).stdout
        for seed in ("1", "2")
    }
    assert result == {load_data(read_task(TOY), "embedded").fingerprint + "\n"}


def images(paths):
    return make_split(
        "faces",
        purpose="ood",
        inputs={"image": [str(path) for path in paths]},
        ids=[str(i) for i in range(len(paths))],
        label_texts=["no"] * len(paths),
        labels=("no",),
        features={"image": datasets.Image()},
    )


def draw(folder, shade):
    folder.mkdir(exist_ok=True)
    path = folder / "one.png"
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(path)
    return path


def test_the_fingerprint_of_an_image_file_is_its_content(tmp_path):
    first = images([draw(tmp_path / "a", 10)]).fingerprint
    assert images([draw(tmp_path / "b", 10)]).fingerprint == first
    assert images([draw(tmp_path / "a", 11)]).fingerprint != first


def test_reading_ids_opens_no_image(tmp_path):
    made = images([tmp_path / "absent.png"])
    assert made.ids.tolist() == ["0"]
    assert made.label.tolist() == [0]


def data(*splits):
    return TaskData("toy", "embedded", {s.name: s for s in splits})


def both(**changes):
    inputs = {"premise": ["p"] * 6, "hypothesis": ["h"] * 6}
    train = make_split("train", **columns(purpose="train", inputs=inputs))
    return train, make_split("test", **columns(**{"inputs": inputs, **changes}))


def test_data_that_cannot_be_scored_is_refused():
    task = read_task(TOY)
    train, test = both()
    check(task, data(train, test))
    with pytest.raises(HarnessError, match="expected one training split, found 0"):
        check(task, data(test))
    with pytest.raises(HarnessError, match="no split to evaluate on"):
        check(task, data(train))
    with pytest.raises(HarnessError, match="split 'test' has no example of group d"):
        check(task, data(*both(groups=("a", "b", "c", "d"))))
    with pytest.raises(HarnessError, match="split 'test' lacks column hypothesis, premise"):
        check(task, data(train, split()))
    with pytest.raises(HarnessError, match=r"collapses onto unknown labels .'maybe'."):
        check(task, data(*both(collapse={"yes": "maybe"})))


def test_limited_data_say_so_and_keep_every_group():
    limited = load_data(read_task(TOY), "embedded", limit=10)
    assert {len(s) for s in limited.splits.values()} == {10}
    assert all((s.group_counts > 0).all() for s in limited.evaluation)
    assert limited.notes == ("limited to 10 rows a split",)


def test_evaluation_starts_in_domain():
    assert [s.purpose for s in load_data(read_task(TOY), "embedded").evaluation] == [
        "in_domain",
        "ood",
    ]


def test_a_source_the_task_lacks_is_refused():
    with pytest.raises(
        HarnessError, match=r"unknown data source of task toy 'hub'.*Known: embedded"
    ):
        load_data(read_task(TOY), "hub")


def test_options_are_filled_in_and_checked():
    task = read_task(TOY)
    assert resolve_options(task, {"rows": 5})["rows"] == 5
    with pytest.raises(HarnessError, match=r"unknown option of task toy 'rwos'. Did you mean rows"):
        resolve_options(task, {"rwos": 5})
