"""NLI tasks on real layouts: counts, groups, hub schemas, and every broken file."""

from collections import Counter

import datasets
import numpy as np
import pytest
from nli_copies import (
    GROUPS,
    MANY,
    MULTINLI_SPLITS,
    NAMES,
    PAIRS,
    SNLI_SPLITS,
    TASKS,
    C,
    E,
    N,
    load,
    nli_rows,
    rows_of,
    write_copy,
    write_glue,
    write_multinli,
)

from harness_plugin.data.dataset import load_data
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.text import cues, tables
from harness_plugin_tasks._shared.text.cues import NEGATION_CUE, NLI_LABELS
from harness_plugin_tasks._shared.text.features import surface_features
from harness_plugin_tasks._shared.text.splits import cue_split
from harness_plugin_tasks.mnli_hard import released as mnli_hard
from harness_plugin_tasks.mnli_negation import released as mnli_negation
from harness_plugin_tasks.snli_hard import released as snli_hard

# ---- the cue


def test_the_tokeniser_is_that_of_the_published_groups():
    assert cues.tokens("Don't  say\tno!") == ["dont", "", "say\tno"]
    result = [cues.negation("", text) for text in ("NO.", "n.o", "know nothing", "not", "nobody's")]
    assert result == ["negation", "negation", "negation", "no_negation", "no_negation"]


@pytest.mark.parametrize(
    ("value", "label", "points"),
    [("negation", C, 1), ("negation", N, 0), ("no_negation", C, 0), ("no_negation", E, 1)],
)
def test_negation_points_to_contradiction(value, label, points):
    assert NEGATION_CUE.points_to(value, label) == points


def test_surface_features_by_hand():
    columns = {"premise": ["a b c"], "hypothesis": ["no a"], "label": [E], "id": ["0"]}
    split = cue_split("x", purpose="train", table=tables.Table("x", "x", columns), cue=NEGATION_CUE)
    expected = [[0, 0, 0.5, 0, 1, np.log(4), np.log(3)]]
    np.testing.assert_allclose(surface_features(split), expected)


# ---- mnli_negation


LAYOUTS = ("jsonl", "glue", "parquet", "parquet of GLUE", "saved", "the folder itself")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_negation_in_every_layout(tmp_path, layout):
    if layout == "jsonl":
        write_multinli(tmp_path)
    elif layout == "glue":
        write_glue(tmp_path)
    elif layout == "parquet":
        write_copy(tmp_path / "copy", MULTINLI_SPLITS)
    elif layout == "parquet of GLUE":
        # names from which `datasets` alone would make one split of matched and mismatched
        write_copy(tmp_path / "mnli", MULTINLI_SPLITS, "{}-00000-of-00001.parquet")
    else:
        folder = tmp_path if layout == "the folder itself" else tmp_path / "copy"
        loaded = datasets.DatasetDict({name: nli_rows() for name in MULTINLI_SPLITS})
        loaded.save_to_disk(folder)
    data = load("mnli_negation", tmp_path)
    assert rows_of(data) == {"train": 6, "id": 6, "id_mismatched": 6}
    for split in data.splits.values():
        assert split.groups == GROUPS
        np.testing.assert_array_equal(split.group, range(6))
        np.testing.assert_array_equal(split.aligned, [0, 1, 0, 1, 1, 0])
        assert split.dropped == 1
        assert split.rows["premise"][1] == 'He said "no more soup.'
    assert {note.split(" has ")[1] for note in data.notes} == {
        "6 rows, expected 392,702",
        "6 rows, expected 9,815",
        "6 rows, expected 9,832",
    }


def test_real_negation_groups(real_data):
    part = "multinli_1.0/multinli_1.0_dev_matched.jsonl"
    options = {"train_files": ["snli/snli_1.0_dev.jsonl"], "in_domain_files": [part]}
    data = load("mnli_negation", real_data, **options)
    result = dict(zip(data.splits["id"].groups, data.splits["id"].group_counts, strict=True))
    assert result == mnli_negation.DEV_MATCHED_GROUPS
    assert result["contradiction/negation"] == 504
    # SNLI dev: 158 rows without a gold label; the cells of the published tokeniser
    assert data.train.dropped == 158
    snli = dict(zip(data.train.groups, data.train.group_counts.tolist(), strict=True))
    assert snli == {
        f"{E}/negation": 2,
        f"{E}/no_negation": 3_327,
        f"{N}/negation": 5,
        f"{N}/no_negation": 3_230,
        f"{C}/negation": 100,
        f"{C}/no_negation": 3_178,
    }
    assert data.notes == ()
    shifted = data.splits["id"].select([0, *range(len(data.splits["id"]) - 1)])
    assert all(note.startswith("variant: id has") for note in mnli_negation.group_variants(shifted))


ENTRY = {C: 0, E: 1, N: 2}


def write_random(root, parts="001122" * 3, keep_index=True, pairs=PAIRS):
    lines = [",gold_label,sentence2_has_negation,split"]
    parts = iter(parts)
    for row, (_, hypothesis, label) in enumerate([*pairs] * 3):
        if label != "-":
            index = row if keep_index else len(lines) - 1
            cue = int(cues.negation("", hypothesis) == "negation")
            lines.append(f"{index},{ENTRY[label]},{cue},{next(parts)}")
    file = root / "dataset_metadata" / "multinli" / "metadata_random.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    return file


def test_the_random_split_counts_rows_without_a_label(tmp_path):
    write_random(write_multinli(tmp_path))
    data = load("mnli_negation", tmp_path, split="random")
    roles = {name: split.purpose for name, split in data.splits.items()}
    assert roles == {"train": "train", "validation": "validation", "id": "in_domain"}
    # in each release the first two labelled rows train, the next two validate, the rest tests
    stems = [f"multinli_1.0_{part}" for part in ("train", "dev_matched", "dev_mismatched")]
    for name, rows in (("train", (0, 1)), ("validation", (2, 3)), ("id", (4, 5))):
        expected = [f"{stem}:{stem[-4]}{row}" for stem in stems for row in rows]
        assert list(data.splits[name].ids) == expected
    assert data.splits["id"].groups == (f"{C}/negation", f"{C}/no_negation")


def test_the_random_split_of_copies_without_unlabelled_rows(tmp_path):
    write_random(write_multinli(tmp_path / "a"))
    full = load("mnli_negation", tmp_path / "a", split="random")
    # the released index has gaps where a row had no label; the copy has no such rows
    write_random(write_multinli(tmp_path / "b", PAIRS[:-1]))
    copy = load("mnli_negation", tmp_path / "b", split="random")
    for name in full.splits:
        assert copy.splits[name].rows["premise"][:] == full.splits[name].rows["premise"][:]


BROKEN_SPLITS = {
    "\n1,1,0,0": ("\n1,1,1,0", r"csv:3: sentence2_has_negation is negation, but the data have no_"),
    "\n3,2,0,1": ("\n3,0,0,1", r"csv:5: gold_label is contradiction, but the data have neutral"),
    "\n4,0,1,2": ("\n4,0,1,3", r"csv:6: split is '3'; expected 0, 1, 2"),
    "\n5,0,0,2": ("\n4,0,0,2", r"csv:7: index 4 was already used in line 6"),
    "\n2,2,1,1": ("\nx,2,1,1", r"csv:4: index 'x' is not a row number"),
    "\n7,1,1,0": ("\n6,1,1,0", r"csv:8: index is 6, but the data have 7 there"),
    "\n19,0,0,2": ("", r"17 rows, but .* have 18 with a label"),
    "gold_label,": ("label,", r"csv:1: no column gold_label; found , label, sentence2_has"),
}


@pytest.mark.parametrize("old", BROKEN_SPLITS)
def test_a_split_file_about_other_rows_is_refused(tmp_path, old):
    file = write_random(write_multinli(tmp_path))
    new, message = BROKEN_SPLITS[old]
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(HarnessError, match=message):
        load("mnli_negation", tmp_path, split="random")


def test_the_random_split_needs_its_file_and_all_of_multinli(tmp_path):
    write_multinli(tmp_path)
    with pytest.raises(HarnessError, match=r"found none of metadata_random\.csv"):
        load("mnli_negation", tmp_path, split="random")
    with pytest.raises(HarnessError, match="no such file; the hub has no random split"):
        load_data(TASKS["mnli_negation"], "hub", options={"split": "random"})
    with pytest.raises(HarnessError, match="drop train_files"):
        load("mnli_negation", tmp_path, split="random", holdout_file="a")
    (tmp_path / "multinli_1.0" / "multinli_1.0_dev_mismatched.jsonl").unlink()
    write_random(tmp_path)
    with pytest.raises(HarnessError, match="needs MultiNLI's mismatched"):
        load("mnli_negation", tmp_path, split="random")


# ---- the hub


@pytest.fixture
def local_hub(tmp_path, monkeypatch):
    """The pinned repositories are directories of the hub's layout."""

    def use(names=NLI_LABELS):
        folder = write_copy(tmp_path / "m", MULTINLI_SPLITS, names=names)
        multinli = mnli_negation.MULTINLI._replace(repository=str(folder))
        for module in (mnli_negation, mnli_hard):
            monkeypatch.setattr(module, "MULTINLI", multinli)
        layout = "plain_text/{}-00000-of-00001.parquet"
        folder = write_copy(tmp_path / "s", SNLI_SPLITS, layout, pairs=MANY, names=names)
        monkeypatch.setattr(snli_hard, "SNLI", snli_hard.SNLI._replace(repository=str(folder)))

    return use


@pytest.mark.parametrize("names", [NLI_LABELS, (C, E, N)])
def test_hub_labels_go_by_name(local_hub, names):
    local_hub(names)
    data = load_data(TASKS["mnli_negation"], "hub")
    assert rows_of(data) == {"train": 6, "id": 6, "id_mismatched": 6}
    np.testing.assert_array_equal(data.train.label, [0, 0, 1, 1, 2, 2])
    data = load_data(TASKS["snli_hard"], "hub", options={"hard": "auto"})
    assert data.splits["validation"].purpose == "validation"
    assert Counter(data.splits["id"].label.tolist()) == {0: 12, 1: 12, 2: 12}


@pytest.mark.parametrize("name", ["mnli_hard", "snli_hard"])
def test_the_hub_has_no_hard_subset(name):
    with pytest.raises(HarnessError, match=f"set {name}.hard=auto"):
        load_data(TASKS[name], "hub")


@pytest.mark.parametrize("name", [name for name in NAMES if "hub" in TASKS[name].sources])
def test_pinned_revisions_are_commits(name):
    # offline the hub is refused at once, naming repository and commit
    options = {"hard": "auto"} if name.endswith("hard") else {}
    with pytest.raises(HarnessError, match=r"cannot be reached .*revision [0-9a-f]{40}"):
        load_data(TASKS[name], "hub", options=options)


# ---- broken releases


FILE = "multinli_1.0/multinli_1.0_train.jsonl"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"entailment"', b'"entailed"', r"train\.jsonl: row 1: unknown label 'entailed'"),
        (b"Ana reads.", b"An\xe1 reads.", r"train\.jsonl:4: byte \d+ of the line is not UTF-8"),
        (b'"sentence2": "He', b'"text": "He', r"train\.jsonl:2: no column sentence2"),
        (b'often.", "pairID": "r6"}', b"oft", r"train\.jsonl:7: not a line of JSON"),
    ],
)
def test_damage_names_file_and_row(tmp_path, old, new, message):
    file = write_multinli(tmp_path) / FILE
    text = file.read_bytes()
    assert old in text
    file.write_bytes(text.replace(old, new, 1))
    with pytest.raises(HarnessError, match=message) as error:
        load("mnli_negation", tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["mnli_hard", "mnli_negation", "snli_hard"])
def test_an_empty_folder_says_what_was_looked_for(tmp_path, name):
    with pytest.raises(HarnessError, match=rf"found none of .*_1\.0_train\.jsonl.*{name}\.train_f"):
        load(name, tmp_path)
    with pytest.raises(HarnessError, match=rf"{name}: .*nowhere is not a directory"):
        load(name, tmp_path / "nowhere")


def test_a_copy_of_another_corpus_is_named(tmp_path):
    write_copy(tmp_path / "snli", SNLI_SPLITS)
    with pytest.raises(HarnessError, match=r"no split validation_matched \(found test, train"):
        load("mnli_negation", tmp_path)


# ---- real rows in the layouts of the releases


@pytest.mark.parametrize(
    ("folder", "name", "rows"),
    [
        ("multi_nli", "mnli_negation", {"train": 5, "id": 5, "id_mismatched": 5}),
        ("glue_mnli", "mnli_negation", {"train": 3, "id": 2, "id_mismatched": 2}),
    ],
)
def test_fixtures(real_data, folder, name, rows):
    data = load(name, real_data / "fixtures" / folder)
    assert {k: len(s) + s.dropped for k, s in data.splits.items()} == rows


def test_snli_fixture(real_data):
    folder = real_data / "fixtures" / "snli" / "snli_1.0"
    rows = [len(tables.read_nli(folder / f"snli_1.0_{part}.txt")) for part in SNLI_FILES]
    assert rows == [3, 2, 1]


SNLI_FILES = ("train", "dev", "test")
