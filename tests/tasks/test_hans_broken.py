"""The HANS task on broken copies and on the hub's schemas: what is wrong, and where."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from hans_copies import (
    GLUE_HEADER,
    GROUP_OF_PAIR,
    HANS_HEADER,
    PAIRS,
    TASK,
    hans_records,
    hub_hans,
    hub_multinli,
    load,
    records,
    write_hans,
    write_hub_saved,
    write_multinli_jsonl,
    write_snli,
)
from releases import edit, hub_rows, write_parquet, write_tab

from harness_plugin.data.dataset import load_data
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.text import tables
from harness_plugin_tasks._shared.text.cues import NLI_LABELS
from harness_plugin_tasks.hans import released

# ---- broken copies


MULTI, SNLI = "multinli_1.0/multinli_1.0_train.jsonl", "snli_1.0/snli_1.0_train.txt"
HANS = "hans/heuristics_evaluation_set.txt"
BROKEN = {
    "no hans": (
        lambda d: (d / HANS).unlink(),
        r"found none of heuristics_evaluation_set\.txt, heuristics_evaluation_set\.jsonl \(looked",
    ),
    "no training": (
        lambda d: [(d / name).unlink() for name in (MULTI, SNLI)],
        r"none of multinli_1\.0_train\.jsonl, .*MNLI/train\.tsv, snli_1\.0_train\..*hub copy",
    ),
    "no in-domain": (
        lambda d: (d / "multinli_1.0" / "multinli_1.0_dev_matched.jsonl").unlink(),
        r"dev_matched\.jsonl, .*dev_matched\.txt .*the in-domain set of multinli_1\.0_train\.jsonl",
    ),
    "twice": (
        lambda d: (d / "copy").mkdir() or (d / "copy" / Path(MULTI).name).touch(),
        r"multinli_1\.0_train\.jsonl is there twice",
    ),
    "empty": (
        lambda d: (d / HANS).write_text("\n"),
        r"evaluation_set\.txt: is empty: no header",
    ),
    "no rows": (
        lambda d: (d / HANS).write_text("\t".join(HANS_HEADER) + "\n"),
        r"evaluation_set\.txt: is empty: no rows",
    ),
    "empty json": (lambda d: (d / MULTI).write_text(""), r"train\.jsonl: is empty: no rows"),
    "no column": (
        lambda d: edit(d / HANS, b"heuristic", b"heuristics"),
        r"txt: no column heuristic \(found gold_label, .*heuristics, subcase, template\)",
    ),
    "no columns": (
        lambda d: edit(d / HANS, b"sentence1\tsentence2\t", b"a\tb\t"),
        r"no column sentence1 or premise, sentence2 or hypothesis",
    ),
    "no key": (
        lambda d: edit(d / MULTI, b'"sentence2": "Birds', b'"text": "Birds'),
        r"train\.jsonl:3: no column sentence2 or hypothesis \(found gold_label, sentence1, text",
    ),
    "null": (
        lambda d: edit(d / MULTI, b'"Birds fly."', b"null"),
        r"train\.jsonl:3: sentence2 is None; expected text",
    ),
    "unknown label": (
        lambda d: edit(d / HANS, b"\nnon-entailment", b"\nneutral"),
        r"evaluation_set\.txt: row 2: unknown label 'neutral'; expected entailment, non-entailment",
    ),
    "hub number as label": (
        lambda d: edit(d / MULTI, b'"gold_label": "neutral"', b'"gold_label": 1'),
        r"train\.jsonl: row 3: unknown label '1'; expected entailment, neutral, contradiction",
    ),
    "unknown heuristic": (
        lambda d: edit(d / HANS, b"\tconstituent", b"\tconstituents"),
        r"evaluation_set\.txt: row 5: unknown group 'constituents/entailment'",
    ),
    "id twice": (
        lambda d: edit(d / HANS, b"ex3", b"ex2"),
        r"evaluation_set\.txt: row 4: id 'ex2' was already used in row 3",
    ),
    "broken json": (
        lambda d: edit(d / MULTI, b'"neutral"', b'"neutral'),
        r"train\.jsonl:3: not a line of JSON: Expecting ',' delimiter at character",
    ),
    "json list": (
        lambda d: (d / MULTI).write_text('["entailment"]\n'),
        r"train\.jsonl:1: list, expected an object",
    ),
    "not utf-8": (
        lambda d: edit(d / HANS, b"nurse", b"nurs\xe9"),
        r"evaluation_set\.txt:4: byte 24 of the line is not UTF-8",
    ),
    "short row": (
        lambda d: edit(d / HANS, b"\tex3\tsubsequence", b""),
        r"evaluation_set\.txt:5: 9 of 11 fields; at least 10 are needed to reach subcase",
    ),
    "tab in a sentence": (
        lambda d: edit(d / HANS, b"the nurse", b"the\tnurse"),
        r"evaluation_set\.txt:4: 12 fields, but the header names 11; is there a tab inside",
    ),
    "hans of one group": (
        lambda d: write_tab(d / HANS, HANS_HEADER, hans_records()[:1]),
        "split 'hans' has no example of group lexical_overlap/non-entailment",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_releases_name_file_and_row(tmp_path, case):
    write_multinli_jsonl(tmp_path)
    write_snli(tmp_path)
    write_hans(tmp_path)
    load(tmp_path)
    damage, message = BROKEN[case]
    damage(tmp_path)
    with pytest.raises(HarnessError, match=message) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_short_row_may_lack_its_label_but_no_sentence(tmp_path):
    rows = [row | {"index": str(i)} for i, row in enumerate(records())]
    file = write_tab(tmp_path / "train.tsv", GLUE_HEADER, rows)
    edit(file, b"\tBirds fly.\tneutral\tneutral", b"\tBirds fly.")
    table = tables.read_nli(file)
    assert (len(table), table.labelled) == (8, 6)
    edit(file, b"\tBirds fly.", b"")
    with pytest.raises(HarnessError, match=r"tsv:4: 9 of 12 fields; .* needed to reach sentence2"):
        tables.read_nli(file)


def test_no_folder(tmp_path):
    with pytest.raises(HarnessError, match=r"nowhere is not a directory; give --data PATH"):
        load(tmp_path / "nowhere")


def test_two_hub_copies_are_refused(tmp_path):
    write_hub_saved(tmp_path)
    hub_multinli().save_to_disk(tmp_path / "second")
    with pytest.raises(HarnessError, match="hub copies in both mnli/ and second/"):
        load(tmp_path)


# ---- the hub


@pytest.fixture
def local_hub(tmp_path, monkeypatch):
    """The constants of the hub source point at directories of the hub's layout."""

    def use(multinli=None, hans=None):
        folders = write_parquet(tmp_path / "m", multinli or hub_multinli()), tmp_path / "h"
        write_parquet(folders[1], hans or hub_hans(), "plain_text/{}/0000.parquet")
        multinli = released.MULTINLI._replace(repository=str(folders[0]))
        monkeypatch.setattr(released, "MULTINLI", multinli)
        monkeypatch.setattr(released, "HANS_REPOSITORY", str(folders[1]))

    return use


def test_hub_schema(local_hub):
    local_hub()
    data = load_data(TASK, "hub")
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 7,
        "id": 7,
        "id_mismatched": 7,
        "hans": 6,
    }
    assert data.source == "hub"
    assert list(data.train.ids) == [f"multinli_1.0_train:{i}e" for i in range(7)]
    np.testing.assert_array_equal(data.train.group, GROUP_OF_PAIR)
    assert list(data.splits["hans"].ids) == [f"ex{i}" for i in range(6)]
    assert sum(note.startswith("variant: ") for note in data.notes) == 4


def test_hub_labels_go_by_name_not_by_number():
    premises, hypotheses, labels = map(list, zip(*PAIRS, strict=True))
    columns = {"premise": premises, "hypothesis": hypotheses, "label": labels}
    for names in (NLI_LABELS, ("contradiction", "entailment", "neutral")):
        rows = hub_rows(names, columns)
        texts = tables.nli_from_hub(rows, "x", "here").columns["label"]
        assert texts == [*labels[:-1], "-1"]


@pytest.mark.parametrize(
    ("multinli", "hans", "message"),
    [
        (None, lambda d: d.remove_columns("heuristic"), "'validation': no column heuristic"),
        (None, lambda d: d.rename_column("label", "labels"), "no column gold_label or label"),
        (None, lambda d: datasets.DatasetDict(train=d["train"]), "no split validation .found tr"),
        (lambda d: d.remove_columns("premise"), None, "'train': no column sentence1 or premise"),
        (
            lambda d: datasets.DatasetDict(train=d["train"]),
            None,
            r"no split validation_matched \(found train\)",
        ),
        (
            lambda d: d.cast_column("label", datasets.Value("int64")),
            None,
            r"'train': labels are Value\('int64'\) without names; sources number them differently",
        ),
        (
            lambda d: d.cast_column("label", datasets.ClassLabel(names=["yes", "neutral", "no"])),
            None,
            "'train': row 1: unknown label 'yes'; expected entailment",
        ),
    ],
)
def test_other_hub_schemas_are_refused(local_hub, multinli, hans, message):
    local_hub(multinli and multinli(hub_multinli()), hans and hans(hub_hans()))
    with pytest.raises(HarnessError, match=message):
        load_data(TASK, "hub")


@pytest.mark.parametrize("column", ["premise", "label"])
def test_a_null_in_a_hub_column_is_refused(column):
    columns = {"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": ["neutral", "neutral"]}
    columns[column][1] = None
    with pytest.raises(HarnessError, match=f"here: row 2: {column} is null"):
        tables.nli_from_hub(with_label_names(columns), "x", "here")


def with_label_names(columns):
    rows = datasets.Dataset.from_dict(columns)
    return rows.cast_column("label", datasets.ClassLabel(names=list(NLI_LABELS)))
