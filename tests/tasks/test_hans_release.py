"""The HANS task on real data: every layout of the releases, and the files themselves."""

import math
import time
from collections import Counter

import numpy as np
import pytest
from hans_copies import (
    GLUE_HEADER,
    GROUP_OF_PAIR,
    GROUPS,
    HANS_ROWS,
    PAIRS,
    TASK,
    hub_nli,
    load,
    records,
    request,
    write_glue,
    write_hans,
    write_hub_parquet,
    write_hub_saved,
    write_multinli_jsonl,
    write_multinli_txt,
    write_snli,
)
from releases import write_json, write_tab

from harness_plugin.data.dataset import load_data
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.text import splits, tables
from harness_plugin_tasks._shared.text.cues import NLI_LABELS
from harness_plugin_tasks._shared.text.features import overlap_features, pair_features
from harness_plugin_tasks.hans import evaluation, released
from harness_plugin_tasks.hans.tables import read_hans

# ---- layouts


@pytest.mark.parametrize(
    ("write", "prefix", "mismatched"),
    [
        (write_multinli_jsonl, "multinli_1.0_train:r", True),
        (write_multinli_txt, "multinli_1.0_train:r", False),
        (write_glue, "MNLI/train:r", True),
        (write_snli, "snli_1.0_train:n", False),
        (write_hub_parquet, "multinli_1.0_train:", True),
        (write_hub_saved, "multinli_1.0_train:", True),
    ],
)
def test_every_layout_gives_the_same_splits(tmp_path, write, prefix, mismatched):
    write(tmp_path)
    if write not in (write_hub_parquet, write_hub_saved):
        write_hans(tmp_path)
    data = load(tmp_path)
    roles = {split.name: split.purpose for split in data.splits.values()}
    expected = {"train": "train", "id": "in_domain", "hans": "ood"}
    assert roles == expected | ({"id_mismatched": "in_domain"} if mismatched else {})
    for name in {*roles} - {"hans"}:
        split = data.splits[name]
        assert (len(split), split.dropped) == (7, 1)
        assert split.labels == ("entailment", "neutral", "contradiction")
        assert split.groups == GROUPS
        np.testing.assert_array_equal(split.label, [0, 0, 1, 1, 2, 2, 2])
        np.testing.assert_array_equal(split.group, GROUP_OF_PAIR)
        # overlap points to entailment, no overlap away from it
        np.testing.assert_array_equal(split.aligned, [1, 0, 0, 1, 1, 0, 1])
        assert split.rows["premise"][1] == 'He said "no more soup.'
        assert split.rows["hypothesis"][:] == [hypothesis for _, hypothesis, _ in PAIRS[:-1]]
    assert data.train.ids[3].startswith(prefix)
    assert data.train.ids[3].removeprefix(prefix).rstrip("e") == "3"
    hans = data.splits["hans"]
    assert list(hans.ids) == [f"ex{i}" for i in range(6)]
    assert hans.groups == evaluation.HANS_GROUPS
    np.testing.assert_array_equal(hans.group, range(6))
    np.testing.assert_array_equal(hans.aligned, [1, 0] * 3)
    assert hans.breakdowns == ("heuristic", "subcase")
    assert list(hans.column("subcase")) == [row[4] for row in HANS_ROWS]
    assert hans.collapse == {
        "entailment": "entailment",
        "neutral": "non-entailment",
        "contradiction": "non-entailment",
    }
    assert hans.collapse_rule == "argmax"
    assert any(note.endswith("has 6 rows, expected 30,000") for note in data.notes)


def test_hans_as_json_is_hans_as_text(tmp_path):
    texts = load_hans(write_hans(tmp_path, "txt"))
    assert texts == load_hans(write_hans(tmp_path, "jsonl"))


def load_hans(file):
    return read_hans(file).columns


def test_two_data_sets_are_not_mixed_unasked(tmp_path):
    write_hans(tmp_path)
    write_multinli_jsonl(tmp_path)
    write_snli(tmp_path)
    data = load(tmp_path)
    assert all(name.startswith("multinli_1.0_train:") for name in data.train.ids)
    assert data.notes[0].startswith(
        "trained on multinli_1.0_train.jsonl; snli_1.0_train.txt is there as well"
    )
    assert (
        "variant: "
        + str(tmp_path / "multinli_1.0" / "multinli_1.0_train.jsonl")
        + (" has 7 rows, expected 392,702")
        in data.notes
    )


def test_the_sum_rule_is_an_option(tmp_path):
    write_hans(tmp_path)
    write_snli(tmp_path)
    assert load(tmp_path, collapse="sum").splits["hans"].collapse_rule == "sum"
    with pytest.raises(HarnessError, match=r"unknown value of hans\.collapse 'mean'"):
        load(tmp_path, collapse="mean")


def test_ids_are_row_numbers_where_pair_ids_are_missing_or_repeated(tmp_path):
    rows = records()
    for row in rows[:2]:
        row["pairID"] = "same"
    repeated = tables.read_nli(write_json(tmp_path / "a.jsonl", rows))
    assert repeated.columns["id"][:2] == ["a:000000", "a:000001"]
    bare = [{k: row[k] for k in ("gold_label", "sentence1", "sentence2")} for row in rows]
    assert tables.read_nli(write_json(tmp_path / "b.jsonl", bare)).columns["id"][7] == "b:000007"


def test_windows_line_ends_blank_lines_and_odd_separators_inside_text(tmp_path):
    file = tmp_path / "x.tsv"
    # a lone carriage return and a line separator end no line
    file.write_bytes(
        "sentence1\tsentence2\tgold_label\r\n\r\na\rb\tc\u2028d\tneutral\r\n \n".encode()
    )
    assert tables.read_nli(file).columns == {
        "premise": ["a\rb"],
        "hypothesis": ["c\u2028d"],
        "label": ["neutral"],
        "id": ["x:000000"],
    }


def test_a_cell_without_rows_is_no_group_and_is_noted(tmp_path):
    write_hans(tmp_path)
    write_snli(tmp_path)
    few = [pair for pair in PAIRS if pair[1] != "Dog barked, no?"]
    write_json(tmp_path / "few.jsonl", records(pairs=few))
    data = load(tmp_path, in_domain_files=["few.jsonl"])
    assert data.splits["id"].groups == tuple(g for g in GROUPS if g != "contradiction/overlap")
    assert data.train.groups == GROUPS
    assert "id: no row of contradiction/overlap; left out of its groups" in data.notes


# ---- choosing files


def test_files_by_name(tmp_path):
    write_hans(tmp_path)
    write_json(tmp_path / "a" / "mine.jsonl", records("a"))
    write_tab(tmp_path / "b" / "mine.tsv", GLUE_HEADER, records("b"))
    hub_nli().to_parquet(tmp_path / "test.parquet")
    data = load(
        tmp_path, train_files=["a/mine.jsonl", "b/mine.tsv"], in_domain_files="test.parquet"
    )
    assert list(data.train.ids) == [
        *(f"mine:a{i}" for i in range(7)),
        *(f"mine#2:b{i}" for i in range(7)),
    ]
    assert list(data.splits["id"].ids) == [f"test:{i:06d}" for i in range(7)]
    assert data.train.dropped == 2
    assert len(data.notes) == 1  # of HANS


def test_a_holdout_is_seeded_and_keeps_premises_together(tmp_path):
    write_hans(tmp_path)
    pairs = [(f"Premise {i // 3}.", f"Hypothesis {i}.", NLI_LABELS[i % 3]) for i in range(60)]
    write_json(tmp_path / "x.jsonl", records("x", pairs))
    write_json(tmp_path / "y.jsonl", records("y"))
    options = {"train_files": ["y.jsonl"], "holdout_file": "x.jsonl", "holdout_fraction": 0.25}
    data, again = load(tmp_path, **options), load(tmp_path, **options)
    other = load_data(TASK, "path", path=tmp_path, options=options, seed=1)
    held, train = set(data.splits["id"].ids), set(data.train.ids)
    # 5 of 20 premises with 3 pairs each; 7 labelled rows of y
    assert (len(held), len(train)) == (15, 45 + 7)
    assert held | train == {f"x:x{i}" for i in range(60)} | {f"y:y{i}" for i in range(7)}
    assert not set(data.splits["id"].rows["premise"]) & set(data.train.rows["premise"])
    assert data.fingerprint == again.fingerprint
    assert held != set(other.splits["id"].ids)
    assert data.notes[0].startswith("id: 15 of the 60 pairs of x.jsonl, drawn by premise")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_files": ["a"]}, "train_files also needs hans.in_domain_files or hans.holdout"),
        ({"in_domain_files": ["a"], "holdout_file": "b"}, "are both given; drop one"),
        (
            {"train_files": [1], "holdout_file": "b"},
            r"train_files must be a list of files, .*\[1\]",
        ),
        ({"train_files": ["a"], "in_domain_files": ["a"]}, "a is named twice"),
        ({"train_files": ["a"], "holdout_file": "a"}, "a is named twice"),
        ({"holdout_file": "a", "holdout_fraction": 1.5}, "must be between 0 and 1: 1.5"),
        ({"holdout_file": "a", "holdout_fraction": "half"}, "expected a number, found 'half'"),
        ({"train_files": ["no.jsonl"], "holdout_file": "b"}, r"no\.jsonl: no such file"),
        ({"train_files": ["x.csv"], "holdout_file": "b"}, r"x\.csv: cannot read \.csv; expected"),
        ({"holdout_file": "one.jsonl"}, "0.2 of its 1 premises leaves nothing to train on"),
        ({"train_file": ["a"]}, "Did you mean train_files"),
    ],
)
def test_options_that_cannot_work(tmp_path, options, message):
    write_hans(tmp_path)
    write_snli(tmp_path)
    (tmp_path / "x.csv").touch()
    write_json(tmp_path / "one.jsonl", records(pairs=PAIRS[:1]))
    with pytest.raises(HarnessError, match=message) as error:
        load(tmp_path, **options)
    assert "\n" not in str(error.value)


# ---- the bias-only view


def test_overlap_features_by_hand(tmp_path):
    pairs = [
        # 7 words and 4: contiguous, all in the premise
        ("The doctor near the actor danced today.", "the actor danced today", "neutral"),
        # 4 and 3: all there, in another order
        ("The judge saw us.", "us, the judge!", "neutral"),
        # 3 and 4: the and cat of 4 words
        ("The cat slept .", "The cat's cat dreams .", "neutral"),
        # "art" is in "party", but it is no word of it
        ("a party began", "art began", "neutral"),
        ("a b", "", "neutral"),
    ]
    write_json(tmp_path / "x.jsonl", records(pairs=pairs))
    table = tables.read_nli(tmp_path / "x.jsonl")
    features = overlap_features(splits.joined("train", "train", [table]))
    assert features.dtype == np.float64
    np.testing.assert_allclose(
        features,
        [
            [1, 1, 1, math.log(3)],
            [0, 1, 1, 0],
            [0, 0, 0.5, 0],
            [0, 0, 0.5, 0],
            [1, 1, 1, math.log(2)],
        ],
    )


def test_features_of_word_lists():
    assert pair_features(["a", "b", "a"], ["b", "a"]) == (1, 1, 1, 0)
    assert pair_features([], ["a"]) == (0, 0, 0, 0)


# ---- the released files themselves


MIXED = {
    "train_files": ["snli/snli_1.0_dev.jsonl", "snli/snli_1.0_test.jsonl"],
    "holdout_file": "multinli_1.0/multinli_1.0_dev_matched.jsonl",
}


@pytest.fixture(scope="module")
def mixed(real_data):
    return load_data(TASK, "path", path=real_data, options=MIXED)


def test_the_real_mixture(mixed):
    train, held, hans = mixed.splits.values()
    # SNLI without its "-" rows, and MNLI dev-matched, none of whose rows was fused at a quote
    assert train.dropped == 158 + 176
    assert len(train) + len(held) == 9_842 + 9_824 + 9_815
    assert 0.19 < len(held) / 9_815 < 0.21
    labels = np.bincount(train.label) + np.bincount(held.label)
    np.testing.assert_array_equal(
        labels, [3_329 + 3_368 + 3_479, 3_235 + 3_219 + 3_123, 3_278 + 3_237 + 3_213]
    )
    assert train.groups == GROUPS
    # what makes overlap a cue: mostly entailment where there is overlap
    assert train.group_counts[0] > 2 * (train.group_counts[2] + train.group_counts[4])
    assert len(mixed.notes) == 1
    assert not any("variant" in note for note in mixed.notes)
    assert hans.dropped == 0


def test_real_hans(mixed):
    hans = mixed.splits["hans"]
    assert len(hans) == 30_000
    np.testing.assert_array_equal(hans.group_counts, [5_000] * 6)
    subcases = Counter(hans.column("subcase").tolist())
    assert set(subcases.values()) == {1_000}
    assert len(subcases) == 30
    assert list(hans.ids) == [f"ex{i}" for i in range(30_000)]
    # every HANS pair overlaps, which is the point
    assert set(hans.column("attribute").tolist()) == {"overlap"}
    np.testing.assert_array_equal(hans.aligned, 1 - hans.label)


def test_real_features_are_quick_and_constant_on_hans(mixed):
    split = mixed.train.select(range(16_000))
    start = time.perf_counter()
    features = overlap_features(split)
    assert time.perf_counter() - start < 3  # 0.4 s on one free core
    assert features.shape == (16_000, 4)
    assert np.isfinite(features).all()
    cue = split.column("attribute") == "overlap"
    np.testing.assert_array_equal(features[:, 1] == 1, cue)
    assert (features[:, 1] >= features[:, 0]).all()
    hans = overlap_features(mixed.splits["hans"].select(range(0, 30_000, 10)))
    assert (hans[:, 1:3] == 1).all()


def test_the_real_files_one_by_one(real_data):
    multinli = tables.read_nli(real_data / "multinli_1.0" / "multinli_1.0_dev_matched.jsonl")
    assert Counter(multinli.columns["label"]) == {
        "entailment": 3_479,
        "neutral": 3_123,
        "contradiction": 3_213,
    }
    for part, missing in (("dev", 158), ("test", 176)):
        snli = tables.read_nli(real_data / "snli" / f"snli_1.0_{part}.jsonl")
        assert len(snli) == 10_000
        assert snli.labelled == 10_000 - missing
        assert tables.row_variants([snli], splits.RELEASED_ROWS) == []


@pytest.mark.parametrize(
    ("folder", "rows", "dropped", "in_domain"),
    [
        ("multi_nli/multinli_1.0", 5, 0, {"id": 5, "id_mismatched": 5}),
        ("snli/snli_1.0", 3, 0, {"id": 2}),
        ("glue_mnli/MNLI", 3, 0, {"id": 2, "id_mismatched": 2}),
    ],
)
def test_fixtures_of_the_releases(real_data, tmp_path, folder, rows, dropped, in_domain):
    source = real_data / "fixtures" / folder
    (tmp_path / source.name).symlink_to(source, target_is_directory=True)
    (tmp_path / "hans").symlink_to(real_data / "fixtures" / "hans", target_is_directory=True)
    # four rows of HANS are too few to score, so `load_data` would refuse them
    data = released.from_folder(request(tmp_path))
    assert (len(data.train) + data.train.dropped, data.train.dropped) == (rows, dropped)
    got = {s.name: len(s) + s.dropped for s in data.evaluation if s.purpose == "in_domain"}
    assert got == in_domain
    assert list(data.splits["hans"].ids) == ["ex0", "ex1", "ex2", "ex3"]
    assert all(
        text.strip() for column in ("premise", "hypothesis") for text in data.train.rows[column]
    )


def test_fixture_text_and_json_of_multinli_agree(real_data):
    folder = real_data / "fixtures" / "multi_nli" / "multinli_1.0"
    for part in ("train", "dev_matched", "dev_mismatched"):
        texts = tables.read_nli(folder / f"multinli_1.0_{part}.txt").columns
        lines = tables.read_nli(folder / f"multinli_1.0_{part}.jsonl").columns
        for name, values in texts.items():
            shared = [value for value in values if value in lines[name]]
            assert shared, f"{part}: no {name} of the .txt is in the .jsonl"
