"""Hard pairs of SNLI and MultiNLI: judged by a model, released, and broken files of them."""

import numpy as np
import pytest
from nli_copies import (
    GLUE,
    MANY,
    PAIRS,
    E,
    load,
    records,
    rows_of,
    write_multinli,
    write_snli,
)
from releases import write_json, write_tab

from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.text import hard, tables
from harness_plugin_tasks._shared.text.cues import NLI_LABELS
from harness_plugin_tasks._shared.text.hypothesis_only import features
from harness_plugin_tasks.mnli_hard import released as mnli_hard
from harness_plugin_tasks.snli_hard import released as snli_hard


def test_auto_calls_hard_what_the_hypothesis_does_not_give_away(tmp_path):
    write_multinli(tmp_path, MANY)
    data = load("mnli_hard", tmp_path, hard="auto")
    assert rows_of(data) == {"train": 36, "id": 36, "hard": 1, "id_mismatched": 36} | {
        "hard_mismatched": 1
    }
    whole, subset = data.splits["id"], data.splits["hard"]
    easy = [f"{label}/auto_easy" for label in NLI_LABELS]
    assert whole.groups == (easy[0], f"{E}/auto_hard", *easy[1:])
    assert list(np.flatnonzero(whole.aligned == 0)) == [0]
    assert (subset.purpose, subset.groups) == ("ood", (f"{E}/auto_hard",))
    assert subset.column("difficulty").tolist() == ["auto_hard"]
    assert not data.train.groups
    (note,) = [note for note in data.notes if note.startswith("id: auto")]
    assert "cross-fitted on 10 folds, is right on 0.972 of the pairs; the other 1 of 36" in note


def test_hypothesis_only_features_are_those_of_held_out_rows(tmp_path):
    train = load("mnli_hard", write_multinli(tmp_path, MANY), hard="auto").train
    result = features(train)
    assert result.shape == (36, 3)
    np.testing.assert_allclose(np.exp(result).sum(axis=1), 1)
    # columns are the labels in the order of the split; row 0 says what contradictions say
    expected = train.label.copy()
    expected[0] = 2
    np.testing.assert_array_equal(result.argmax(axis=1), expected)


def test_snli_is_judged_by_a_model_of_its_development_set(tmp_path):
    write_snli(tmp_path, MANY)
    data = load("snli_hard", tmp_path, hard="auto")
    assert rows_of(data) == {"train": 36, "validation": 36, "id": 36, "hard": 1}
    assert any("fitted on" in note and "snli_1.0_dev.txt" in note for note in data.notes)


def test_too_few_rows_to_judge(tmp_path):
    write_multinli(tmp_path)
    with pytest.raises(HarnessError, match="10 folds, but a label has only 2 rows"):
        load("mnli_hard", tmp_path, hard="auto")


def test_the_released_hard_pairs_of_snli(tmp_path):
    write_snli(tmp_path)
    write_json(tmp_path / "snli_1.0" / "snli_1.0_test_hard.jsonl", records("t", PAIRS[1:3]))
    data = load("snli_hard", tmp_path)
    whole = data.splits["id"]
    np.testing.assert_array_equal(whole.aligned, [1, 0, 0, 1, 1, 1])
    assert whole.column("difficulty").tolist() == ["easy", "hard", "hard", "easy", "easy", "easy"]
    assert f"{E}/hard" in whole.groups
    assert list(data.splits["hard"].ids) == ["snli_1.0_test_hard:t0", "snli_1.0_test_hard:t1"]
    notes = [note for note in data.notes if "test_hard" in note]
    assert "has 2 rows, expected 3,261" in notes[0]
    assert f"expected {snli_hard.HARD_MD5}" in notes[1]
    assert "2 of 6 pairs are among the 2 of" in notes[2]


def write_aligned(folder, pairs):
    folder.mkdir(parents=True)
    for name, values in zip(mnli_hard.ALIGNED_FILES, zip(*pairs, strict=True), strict=True):
        (folder / name).write_text("\n".join(values) + "\n")
    return folder


def test_both_layouts_of_the_hard_pairs_of_multinli(tmp_path):
    write_multinli(tmp_path)
    write_tab(tmp_path / "dev_matched_hard.tsv", GLUE, records("m", PAIRS[:1]))
    write_aligned(tmp_path / "hard" / "MNLIMismatchedHardWithHardTest", PAIRS[4:6])
    data = load("mnli_hard", tmp_path)
    assert rows_of(data) == {"train": 6, "id": 6, "hard": 1, "id_mismatched": 6} | {
        "hard_mismatched": 2
    }
    assert list(data.splits["hard_mismatched"].ids) == [
        f"MNLIMismatchedHardWithHardTest:00000{i}" for i in (0, 1)
    ]
    np.testing.assert_array_equal(data.splits["id_mismatched"].aligned, [1, 1, 1, 1, 0, 0])


def test_a_hard_set_of_other_pairs_stands_alone(tmp_path):
    write_multinli(tmp_path)
    other = [("x", "y", E)]
    for part in ("matched", "mismatched"):
        write_tab(tmp_path / f"dev_{part}_hard.tsv", GLUE, records("m", other))
    data = load("mnli_hard", tmp_path)
    assert data.splits["id"].groups == ()
    assert len(data.splits["hard"]) == 1
    assert any("0 of 6 pairs are among the 1 of" in note for note in data.notes)


def test_broken_hard_sets(tmp_path):
    write_multinli(tmp_path)
    with pytest.raises(HarnessError, match=r"none of dev_matched_hard.tsv, MNLIMatchedHard.*auto"):
        load("mnli_hard", tmp_path)
    folder = write_aligned(tmp_path / "MNLIMatchedHardWithHardTest", PAIRS[:3])
    (folder / "s2.test").write_text("one\n\nthree\n")
    with pytest.raises(HarnessError, match=r"s2.test:2: no text, although"):
        load("mnli_hard", tmp_path)
    (folder / "s2.test").write_text("one\ntwo\nthree\n")
    (folder / "labels.test").write_text("entailment\nneutral\n1\n")
    with pytest.raises(HarnessError, match=r"HardTest: row 3: unknown label '1'"):
        load("mnli_hard", tmp_path)
    (folder / "labels.test").unlink()
    with pytest.raises(HarnessError, match=r"labels.test: no such file"):
        load("mnli_hard", tmp_path)


def test_sizes_of_the_real_hard_subsets(real_data):
    dev, test = (
        hard.labelled(tables.read_nli(real_data / "snli" / f"snli_1.0_{part}.jsonl"))
        for part in ("dev", "test")
    )
    judged = hard.by_model(test, [dev])
    # 3,993 with scikit-learn 1.9; which words a version keeps and how it stops moves the number
    assert sum(judged.is_hard) == pytest.approx(4_051, rel=0.03)
    assert len(judged.hard) == sum(judged.is_hard)
    assert len(test) == 9_824
