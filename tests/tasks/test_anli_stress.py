"""ANLI and the stress tests: layouts, rounds, categories, and every broken file."""

from collections import Counter

import numpy as np
import pytest
from evaluation_files import evaluates_without
from nli_copies import (
    GROUPS,
    PAIRS,
    TASKS,
    C,
    E,
    N,
    load,
    records,
    rows_of,
    write_copy,
    write_multinli,
    write_snli,
)
from releases import write_json

from harness_plugin.config.merge import task_settings
from harness_plugin.data.dataset import load_data
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.text import hard, tables
from harness_plugin_tasks._shared.text.cues import NLI_LABELS
from harness_plugin_tasks.anli import released as anli
from harness_plugin_tasks.nli_stress import categories

# ---- anli

PARTS = ("train", "dev", "test")
ROUNDS = (1, 2, 3)


def write_anli(root):
    for number in ROUNDS:
        for part in PARTS:
            rows = [
                {"uid": f"{part}{i}", "context": p, "hypothesis": h, "label": y[0], "reason": ""}
                for i, (p, h, y) in enumerate(PAIRS[:-1][: number + 3])
            ]
            write_json(root / "anli_v1.0" / f"R{number}" / f"{part}.jsonl", rows)
    return root


def write_anli_copy(root, names=NLI_LABELS):
    for number in ROUNDS:
        pairs = PAIRS[:-1][: number + 3]
        uids = [f"u{i}" for i in range(len(pairs))]
        splits = [f"{part}_r{number}" for part in PARTS]
        layout = "plain_text/{}-00000-of-00001.parquet"
        more = {"uid": uids, "reason": [""] * len(uids)}
        write_copy(root, splits, layout, pairs=pairs, names=names, **more)
    return root


@pytest.mark.parametrize("write", [write_anli, write_anli_copy])
def test_anli_trained_on_its_rounds(tmp_path, write):
    data = load("anli", write(tmp_path))
    tests = {"test_r1": 4, "test_r2": 5, "test_r3": 6}
    assert rows_of(data) == {"train": 15, "validation": 15} | tests
    roles = {split.purpose for name, split in data.splits.items() if name in tests}
    assert roles == {"in_domain"}
    assert Counter(data.train.column("round").tolist()) == {"r1": 4, "r2": 5, "r3": 6}
    np.testing.assert_array_equal(data.splits["test_r3"].label, [0, 0, 1, 1, 2, 2])
    assert all(split.groups == () for split in data.splits.values())
    assert data.train.ids[4].startswith("R2/train:")
    assert len([note for note in data.notes if note.startswith("variant: ")]) == 9
    assert load("anli", tmp_path, rounds=[3]).train.column("round").tolist() == ["r3"] * 6


def test_anli_out_of_domain(tmp_path):
    write_snli(write_multinli(write_anli(tmp_path)))
    data = load("anli", tmp_path, train="mnli")
    assert rows_of(data)["id_mismatched"] == 6
    assert data.splits["test_r1"].purpose == "ood"
    data = load("anli", tmp_path, train="snli")
    assert {name: split.purpose for name, split in data.splits.items()} == {
        "train": "train",
        "validation": "validation",
        "id": "in_domain",
        "test_r1": "ood",
        "test_r2": "ood",
        "test_r3": "ood",
    }


@pytest.mark.parametrize("names", [NLI_LABELS, (N, C, E)])
def test_anli_on_the_hub(tmp_path, monkeypatch, names):
    monkeypatch.setattr(anli, "REPOSITORY", str(write_anli_copy(tmp_path / "a", names)))
    data = load_data(TASKS["anli"], "hub")
    np.testing.assert_array_equal(data.splits["test_r3"].label, [0, 0, 1, 1, 2, 2])


def test_broken_anli(tmp_path):
    with pytest.raises(HarnessError, match=r"none of R1/test\.jsonl .*hub copy \(columns uid"):
        load("anli", tmp_path)
    write_anli(tmp_path)
    for options, message in (
        ({"rounds": [4]}, r"anli\.rounds must list some of 1, 2 and 3, found \[4\]"),
        ({"train_files": ["a"], "holdout_file": "b"}, r"anli\.train=anli trains on ANLI's rounds"),
    ):
        with pytest.raises(HarnessError, match=message):
            load("anli", tmp_path, **options)
    file = tmp_path / "anli_v1.0" / "R2" / "dev.jsonl"
    text = file.read_text()
    file.write_text(text.replace('"dev3"', '"dev1"'))
    with pytest.raises(HarnessError, match=r"dev\.jsonl: row 4: uid 'dev1' was already .* row 2"):
        load("anli", tmp_path)
    file.write_text(text.replace('"label": "n"', '"label": "x"', 1))
    with pytest.raises(HarnessError, match=r"dev\.jsonl: row 3: unknown label 'x'"):
        load("anli", tmp_path)
    file.unlink()
    with pytest.raises(HarnessError, match=r"found none of R2/dev\.jsonl .*anli\.rounds chooses"):
        load("anli", tmp_path)
    assert len(load("anli", tmp_path, rounds=[1]).train) == 4


def test_anli_fixture(real_data):
    data = load("anli", real_data / "fixtures" / "anli")
    assert rows_of(data) == {"train": 9, "validation": 9, **{f"test_r{i}": 3 for i in ROUNDS}}
    assert all(text.strip() for text in data.train.rows["premise"])


# ---- stress tests


def write_stress(root):
    for category, stem in categories.FILES.items():
        pairs = [pair for pair in PAIRS if category != "antonym" or pair[2] == C]
        for section in categories.SECTIONS if "{}" in stem else ("",):
            rows = records("s", pairs)
            write_json(root / "StressTests" / f"{stem.format(section)}.jsonl", rows)
    return root


@pytest.mark.parametrize("inside", ["", "StressTests"])
def test_every_stress_test_is_a_breakdown(tmp_path, inside):
    write_stress(tmp_path)
    data = load(
        "nli_stress", write_multinli(tmp_path / inside) if inside else write_multinli(tmp_path)
    )
    stress = data.splits["stress"]
    result = Counter(zip(stress.column("stress"), stress.column("section"), strict=True))
    both = {(name, part) for name in categories.FILES for part in categories.SECTIONS}
    both -= {("numerical_reasoning", part) for part in categories.SECTIONS}
    assert set(result) == both | {("numerical_reasoning", "")}
    assert result["antonym", "matched"] == 2
    assert sum(result.values()) == len(stress) == 15 * 6 + 2 * 2
    assert f"{E}/antonym" not in stress.groups
    assert f"{C}/antonym" in stress.groups
    negated = stress.column("stress") == "negation"
    np.testing.assert_array_equal(stress.aligned[negated], [0, 0, 0, 0, 1, 1] * 2)
    assert set(stress.aligned[~negated].tolist()) == {-1}
    assert data.splits["id"].groups == GROUPS
    variants = [note for note in data.notes if "negation" in note]
    assert [note.split("expected ")[1] for note in variants] == ["9,815", "9,832"]


def test_missing_stress_tests_are_all_named_unless_others_are_chosen(tmp_path):
    write_stress(write_multinli(tmp_path))
    for stem in (
        "Negation/multinli_0.9_negation_matched",
        "Antonym/multinli_0.9_antonym_mismatched",
    ):
        (tmp_path / "StressTests" / f"{stem}.jsonl").unlink()
    with pytest.raises(HarnessError, match=r"antonym_mismatched\.jsonl .*negation_matched\.jsonl"):
        load("nli_stress", tmp_path)
    data = load("nli_stress", tmp_path, categories=["word_overlap", "numerical_reasoning"])
    assert set(data.splits["stress"].column("stress")) == {"word_overlap", "numerical_reasoning"}
    assert rows_of(load("nli_stress", tmp_path, categories="word_overlap"))["stress"] == 12
    for value in (["typo"], []):
        with pytest.raises(HarnessError, match=r"nli_stress\.categories must be all, or list some"):
            load("nli_stress", tmp_path, categories=value)
    with pytest.raises(HarnessError, match=r"nli_stress\.categories: expected a list, found 3"):
        load("nli_stress", tmp_path, categories=3)


@pytest.mark.exhaustive
def test_sizes_of_the_real_hard_subset_of_multinli(real_data):
    dev = tables.read_nli(real_data / "multinli_1.0" / "multinli_1.0_dev_matched.jsonl")
    judged = hard.by_model(dev, [])
    # 6,027 with scikit-learn 1.9, where the hypothesis alone is right on .386
    assert sum(judged.is_hard) == pytest.approx(6_121, rel=0.03)
    assert "is right on 0.3" in judged.note


@pytest.mark.parametrize("name", ["mnli_hard", "snli_hard"])
def test_a_run_on_the_hub_judges_by_itself_unless_told_otherwise(name):
    def hard_of(source, values):
        return task_settings(TASKS[name], source, [name], values).options.get("hard")

    assert hard_of("hub", {}) == "auto"
    assert hard_of("path", {}) == "official"
    assert hard_of("path", {name: {"hard": "auto"}}) == "auto"


def test_the_test_rounds_alone_are_enough_to_evaluate(tmp_path):
    evaluates_without(TASKS["anli"], write_anli(tmp_path), ["*/*/train.jsonl", "*/*/dev.jsonl"])
