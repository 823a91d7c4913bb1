"""FEVER and FEVER-Symmetric as released: every layout, broken copies, and the files themselves."""

from collections import Counter

import datasets
import numpy as np
import pytest
from cues import best_from_claims
from evaluation_files import evaluates_without
from releases import pairs_of, purposes, write_json, write_parquet

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin.errors import HarnessError
from harness_plugin_tasks.fever_symmetric import claims, released

TASK = read_task(resource_path("harness_plugin_tasks.fever_symmetric:fever_symmetric.yaml"))
SUPPORTS, REFUTES, NEITHER = claims.LABELS
DEV_FILE = "symmetric_v0.2/fever_symmetric_dev.jsonl"


# ---- small copies of the releases, in our words


ROWS = [
    ("Ana sang.", "Ana was on stage.", SUPPORTS),
    ("Ana sang.", "Ana did not perform.", REFUTES),
    ("Bo slept.", "Bo was awake.", REFUTES),
    ("Bo slept.", "Bo likes tea.", NEITHER),
    ("Cy ran.", "Cy failed to be slow.", SUPPORTS),
]
QUARTET = [
    ("It is red.", "It is red.", SUPPORTS),
    ("It is blue.", "It is red.", REFUTES),
    ("It is red.", "It is not red.", REFUTES),
    ("It is blue.", "It is not red.", SUPPORTS),
]


def fever_rows(label_key="gold_label", **more):
    return [
        {"id": i, "claim": claim, "evidence": evidence, label_key: label, **more}
        for i, (evidence, claim, label) in enumerate(ROWS)
    ]


def write_symmetric(root):
    first = [
        {"id": f"{i}", "label": label, "claim": claim, "evidence_sentence": evidence}
        for i, (evidence, claim, label) in enumerate(QUARTET)
    ]
    second = [
        {
            "id": f"{i}",
            "claim": claim,
            "evidence": evidence,
            "sentence1": evidence,
            "sentence2": claim,
            "gold_label": label,
            "label": label,
            "evid": [[evidence, 1.0]],
        }
        for i, (evidence, claim, label) in enumerate(QUARTET)
    ]
    write_json(root / "symmetric_v0.1" / "fever_symmetric_full.jsonl", first)
    write_json(root / "symmetric_v0.2" / "fever_symmetric_test.jsonl", second)


def write_fever(root):
    write_json(root / "fever" / "fever.train.jsonl", fever_rows(weight=0.5))
    write_json(root / "fever" / "fever.dev.jsonl", fever_rows("label"))


def hub_rows(prefix=""):
    columns = {
        "claim": [prefix + claim for _, claim, _ in ROWS],
        "label": [label for *_, label in ROWS],
        # two sentences of one page
        "evidence": [[["Page", "0", sentence], ["Page", "3", "More."]] for sentence, *_ in ROWS],
        "id": [1, 1, 2, 3, 4],
        "verifiable": ["VERIFIABLE"] * 5,
        "original_id": [1, 1, 2, 3, 4],
    }
    text = datasets.Value("string")
    features = {
        "claim": text,
        "label": text,
        "evidence": datasets.List(datasets.List(text)),
        "id": datasets.Value("int32"),
        "verifiable": text,
        "original_id": datasets.Value("int32"),
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def hub_copy():
    names = ("train", "validation", "test")
    return datasets.DatasetDict({name: hub_rows(name) for name in names})


def write_copy(root):
    write_parquet(root / "gold", hub_copy())


def write_saved(root):
    hub_copy().save_to_disk(root / "gold")


def load(path, **options):
    return load_data(TASK, "path", path=path, options=options)


def test_processed_fever_and_both_versions_of_the_test(tmp_path):
    write_fever(tmp_path)
    write_symmetric(tmp_path)
    data = load(tmp_path)
    assert purposes(data) == {
        "train": "train",
        "id": "in_domain",
        "symmetric_v1_full": "ood",
        "symmetric_v2_test": "ood",
    }
    for name in ("train", "id"):
        split = data.splits[name]
        assert pairs_of(split) == [(evidence, claim) for evidence, claim, _ in ROWS]
        assert split.label.tolist() == [0, 1, 1, 2, 0]
        assert split.aligned.tolist() == [1, 1, 0, 1, 0]
        assert list(split.ids) == [
            f"fever.{'train' if name == 'train' else 'dev'}:{i}" for i in range(5)
        ]
        # no row of NOT ENOUGH INFO has a phrase, so that there is no such group
        assert len(split.groups) == 5
    one, two = data.splits["symmetric_v1_full"], data.splits["symmetric_v2_test"]
    assert pairs_of(one) == pairs_of(two) == [(evidence, claim) for evidence, claim, _ in QUARTET]
    assert one.label.tolist() == two.label.tolist() == [0, 1, 1, 0]
    assert (one.collapse_rule, two.labels) == ("restrict", (SUPPORTS, REFUTES))
    assert best_from_claims(one) == 0.5
    assert [note.split(" has ")[1] for note in data.notes] == [
        "4 rows, expected 956",
        "4 rows, expected 712",
    ]
    both = load(tmp_path, two_way=True, tests=["symmetric_v2_test"])
    assert both.train.label.tolist() == [0, 1, 1, 0]
    assert both.train.labels == (SUPPORTS, REFUTES)
    assert {*both.splits} == {"train", "id", "symmetric_v2_test"}


@pytest.mark.parametrize("write", [write_copy, write_saved])
def test_hub_copies(tmp_path, write):
    write(tmp_path)
    write_symmetric(tmp_path)
    data = load(tmp_path)
    assert purposes(data) == {
        "train": "train",
        "validation": "validation",
        "id": "in_domain",
        "symmetric_v1_full": "ood",
        "symmetric_v2_test": "ood",
    }
    assert data.train.rows["premise"][0] == "Ana sang. More."
    assert data.train.rows["hypothesis"][0] == "trainAna was on stage."
    assert data.splits["id"].ids[1] == "fever_gold_test:000001"
    assert data.train.label.tolist() == [0, 1, 1, 2, 0]


def test_the_hub_needs_a_folder_with_the_test(tmp_path, monkeypatch):
    with pytest.raises(HarnessError, match=r"--set fever_symmetric\.symmetric=DIR"):
        load_data(TASK, "hub")
    write_symmetric(tmp_path)
    options = {"symmetric": str(tmp_path)}
    with pytest.raises(HarnessError, match=r"hub cannot be reached .*fever_gold_evidence"):
        load_data(TASK, "hub", options=options)
    write_copy(tmp_path)
    monkeypatch.setattr(released, "REPOSITORY", str(tmp_path / "gold"))
    data = load_data(TASK, "hub", options=options)
    assert (len(data.train), len(data.evaluation)) == (5, 3)


def test_named_files_are_not_tested_on_and_share_nothing_with_a_test(tmp_path):
    write_symmetric(tmp_path)
    records = [
        {"id": "a", "claim": "It is red.", "evidence": "It glows.", "gold_label": SUPPORTS},
        {"id": "b", "claim": "It is old.", "evidence": "It is blue.", "gold_label": REFUTES},
        {"id": "c", "claim": "It is old.", "evidence": "It was made today.", "label": REFUTES},
        {"id": "d", "claim": "It is new.", "evidence": "It was made today.", "label": SUPPORTS},
    ]
    write_json(tmp_path / "mine.jsonl", records)
    write_json(tmp_path / "held.jsonl", fever_rows())
    data = load(tmp_path, train_files="mine.jsonl", in_domain_files=["held.jsonl"])
    assert list(data.train.ids) == ["mine:c", "mine:d"]
    assert len(data.splits["id"]) == 5
    assert data.notes[0] == ("train: 2 of 4 rows left out, whose claim or evidence is in a test")
    trained = load(
        tmp_path,
        train_files=["symmetric_v0.2/fever_symmetric_test.jsonl", "mine.jsonl"],
        symmetric=str(write_other(tmp_path)),
    )
    assert [split.name for split in trained.evaluation] == ["symmetric_v1_generated"]
    assert len(trained.train) == 8


def write_other(root):
    records = [
        {"id": "1", "claim": "Far.", "evidence_sentence": "It is far.", "label": SUPPORTS},
        {"id": "2", "claim": "Not far.", "evidence_sentence": "It is far.", "label": REFUTES},
    ]
    return write_json(root / "more" / "fever_symmetric_generated.jsonl", records).parent


TRAIN, TEST = "fever/fever.train.jsonl", "symmetric_v0.2/fever_symmetric_test.jsonl"


def replace(file, old, new):
    def damage(root):
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new, 1))

    return damage


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (lambda d: (d / TRAIN).unlink(), {}, r"none of fever\.train\.jsonl .* hub copy"),
        (
            lambda d: [file.unlink() for file in d.glob("symmetric*/*")],
            {},
            r"found none of fever_symmetric_generated\.jsonl, .*_test\.jsonl",
        ),
        (replace(TRAIN, '"SUPPORTS"', '"SUPPORT"'), {}, r"row 1: unknown label 'SUPPORT'"),
        (replace(TEST, '"REFUTES"', '"NOT ENOUGH INFO"'), {}, "unknown label 'NOT ENOUGH INFO'"),
        (replace(TRAIN, '"claim"', '"klaim"'), {}, r"jsonl:1: no column claim or sentence2"),
        (replace(TRAIN, "Bo slept.", "Bo\\"), {}, r"jsonl:3: not a line of JSON"),
        (replace(TRAIN, '"Bo slept."', "[[1]]"), {}, r"jsonl:3: evidence is \[\[1\]\]; expected"),
        (lambda d: None, {"tests": ["v2"]}, r"unknown value of fever_symmetric\.tests 'v2'"),
        (
            lambda d: None,
            {"tests": ["symmetric_v2_dev"]},
            r"_dev\.jsonl .*, asked for as symmetric_v2_dev",
        ),
        (lambda d: None, {"train_files": ["no.jsonl"]}, r"no\.jsonl: no such file"),
        (lambda d: None, {"train_files": [1]}, r"train_files must be a list of files: \[1\]"),
        (
            lambda d: write_json(d / "leaked.jsonl", [{**fever_rows()[0], "claim": "It is red."}]),
            {"train_files": ["leaked.jsonl"]},
            "every row shares its claim or evidence with a test",
        ),
    ],
)
def test_broken_copies(tmp_path, damage, options, message):
    write_fever(tmp_path)
    write_symmetric(tmp_path)
    damage(tmp_path)
    with pytest.raises(HarnessError, match=message) as error:
        load(tmp_path, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        ("text", "row 1: evidence is 'text'; expected a list"),
        ([["page", "sentence"]], "row 1: evidence is .* expected a list of"),
    ],
)
def test_evidence_of_another_form_is_refused(evidence, message):
    rows = datasets.Dataset.from_dict({"claim": ["a"], "label": [SUPPORTS], "evidence": [evidence]})
    with pytest.raises(HarnessError, match=message):
        released.gold_table(rows, "x", "here")


def test_rows_without_evidence_are_noted(tmp_path):
    write_symmetric(tmp_path)
    rows = fever_rows()
    rows[3]["evidence"] = ""
    write_json(tmp_path / "fever.train.jsonl", rows)
    notes = load(tmp_path).notes
    assert notes[0].endswith("1 rows without evidence; models see the claim alone there")


# ---- the released files themselves


def test_real_symmetric_files(real_data):
    root = real_data / "fever_symmetric"
    tables = released.symmetric_tables(root, (), ())
    counts = {name: Counter(table.columns["label"]) for name, table in tables.items()}
    assert counts == {
        "symmetric_v1_generated": {SUPPORTS: 379, REFUTES: 338},
        "symmetric_v1_full": {SUPPORTS: 478, REFUTES: 478},
        "symmetric_v2_dev": {SUPPORTS: 354, REFUTES: 354},
        "symmetric_v2_test": {SUPPORTS: 356, REFUTES: 356},
    }
    splits = {
        name: claims.symmetric_split(name, table, released.quadruples(table))
        for name, table in tables.items()
    }
    for name, split in splits.items():
        sizes = Counter(Counter(split.clusters[0].tolist()).values())
        size = 3 if name == "symmetric_v1_generated" else 4
        assert sizes == {size: len(split) // size}
    # the oracle: whatever a model reads off the claim alone, it is right in exactly half
    for name in ("symmetric_v1_full", "symmetric_v2_dev", "symmetric_v2_test"):
        assert best_from_claims(splits[name]) == 0.5
        assert splits[name].aligned.mean() == 0.5
        claim_only = np.array([len(claim) % 2 for claim in splits[name].rows["hypothesis"]])
        assert (claim_only == splits[name].label).mean() == 0.5
    assert best_from_claims(splits["symmetric_v1_generated"]) == pytest.approx(0.667, abs=5e-4)
    assert splits["symmetric_v2_test"].ids[0].startswith("fever_symmetric_test:")
    for name, table in tables.items():
        assert len(table) == released.SYMMETRIC[name][1]


def test_real_versions_leak_into_each_other(real_data):
    root = real_data / "fever_symmetric"
    dev = released.read_fever(root / DEV_FILE)
    first = released.read_fever(root / "symmetric_v0.1" / "fever_symmetric_full.jsonl")
    assert len({*dev.columns["hypothesis"]} & {*first.columns["hypothesis"]}) == 236
    options = {"train_files": [DEV_FILE], "two_way": True}
    data = load(root, **options)
    assert {*data.splits} == {"train", *released.SYMMETRIC} - {"symmetric_v2_dev"}
    trained = {text for pair in pairs_of(data.train) for text in pair}
    for split in data.evaluation:
        assert not trained & {text for pair in pairs_of(split) for text in pair}
    only = load(root, tests=["symmetric_v2_test"], **options)
    assert len(data.train) < len(only.train) == 637
    assert only.notes == ("train: 71 of 708 rows left out, whose claim or evidence is in a test",)


def test_a_copy_without_training_pairs_is_enough_to_evaluate(tmp_path):
    write_symmetric(tmp_path)
    write_copy(tmp_path)
    data = evaluates_without(TASK, tmp_path, ["gold/data/train-*", "gold/data/validation-*"])
    assert "id" in data.splits


def test_what_was_trained_on_is_no_test_in_an_evaluation_either(tmp_path):
    write_symmetric(tmp_path)
    options = {"train_files": ["symmetric_v0.1/fever_symmetric_full.jsonl"]}
    data = load_data(TASK, "path", path=tmp_path, options=options, training=False)
    assert [*data.splits] == ["symmetric_v2_test"]
