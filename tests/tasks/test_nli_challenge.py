"""Challenge sets of NLI: layouts, what is kept apart, what can be asked for, what can break."""

import json
from collections import Counter

import pytest

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.text.cues import NLI_LABELS
from harness_plugin_tasks.nli_challenge import challenge_sets, corpora

TASK = read_task(resource_path("harness_plugin_tasks.nli_challenge:nli_challenge.yaml"))
E, N, C = NLI_LABELS
HEURISTICS = ("constituent", "lexical_overlap", "subsequence")
HANS_HEADER = ("gold_label", "sentence1", "sentence2", "pairID", "heuristic", "subcase", "template")
NLI = {
    "train_files": ["snli/snli_1.0_dev.jsonl", "sick/SICK_train.txt", "conj/train.tsv"],
    "holdout_file": "multinli_1.0/dev.jsonl",
    "holdout_fraction": 0.5,
    "validation_share": 0.5,
}


def table(file, header, rows, encoding="utf-8", end="\n"):
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(map(str, row)) for row in (header, *rows)]
    file.write_bytes((end.join(lines) + end).encode(encoding))


def pairs(file, rows, **more):
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {"sentence1": p, "sentence2": h, "gold_label": y, "pairID": f"p{i}", **more}
        for i, (p, h, y) in enumerate(rows)
    ]
    file.write_text("\n".join(map(json.dumps, lines)))


def hans_rows(prefix, each=3):
    """`each` rows of every heuristic and label, in two templates a cell."""
    return [
        (
            y,
            f"the {prefix} {h} {i} ran .",
            "it ran .",
            f"{prefix}{h}{y}{i}",
            h,
            f"{h[0]}{y[0]}",
            i % 2,
        )
        for h in HEURISTICS
        for y in ("entailment", "non-entailment")
        for i in range(each)
    ]


@pytest.fixture
def folder(tmp_path):
    premises = [f"Cook {i} sang." for i in range(8)]
    labels = [E, N, C]
    expected = [(p, f"{p[:-1]} no song.", labels[i % 3]) for i, p in enumerate(premises)]
    pairs(tmp_path / "multinli_1.0" / "dev.jsonl", [*expected, *[(p, p, E) for p in premises]])
    ours = [("A dog ran.", "A dog ran.", E), ("A cat sat.", "It ran.", N), ("B.", "C.", "-")]
    pairs(tmp_path / "snli" / "snli_1.0_dev.jsonl", ours)
    sick = ("pair_ID", "sentence_A", "sentence_B", "relatedness_score", "entailment_judgment")
    table(
        tmp_path / "sick" / "SICK_train.txt",
        sick,
        [(1, "A boy sat", "No boy sat", 4, "CONTRADICTION")],
    )
    conj = ("\ufeffPremise", "Hypothesis", "Label")
    table(
        tmp_path / "conj" / "train.tsv",
        conj,
        [('He "ran', "He ran", E), ("Ana ate.", "Bo ate.", C)],
    )
    dev = [(f"{y} and b", y, y) for y in NLI_LABELS] + [(f"{y} and c", "d", y) for y in NLI_LABELS]
    table(tmp_path / "conjnli" / "conj_dev.tsv", conj, dev)
    for name in ("MNLI", "SNLI"):  # cp1252: a curly quote is one byte
        rows = [(i, "Ana \u201cate\u201d.", "Bo.", NLI_LABELS[(i + i // 3) % 3]) for i in range(9)]
        file = tmp_path / "negation_nli" / f"{name}.txt"
        table(file, ("index", "Text", "Hypothesis", "gold_label"), rows, "cp1252", "\r\n")
    med = ("index", "pairID", "genre", "sentence1", "sentence2", "gold_label")
    tags = ["crowd:downward_monotone:npi", "paper:upward_monotone", "paper:non_monotone"]
    tags += ["crowd:upward_monotone:downward_monotone"]
    rows = [(i, 1, tag, f"m{i}", "n", y) for i, tag in enumerate(tags) for y in (E, N)]
    table(tmp_path / "med" / "MED.tsv", med, rows)
    expected = [("Red.", "Blue.", C), ("Red.", "Redness.", E), ("Wet.", "Damp.", N)]
    pairs(tmp_path / "breaking_nli" / "data" / "dataset.jsonl", expected, category="colors")
    table(tmp_path / "hans" / challenge_sets.HANS_FILE, HANS_HEADER, hans_rows("x"))
    table(tmp_path / "hans" / challenge_sets.HANS_TRAINING_FILE, HANS_HEADER, hans_rows("y", 4))
    return tmp_path


def load(path, **options):
    return load_data(TASK, "path", path=path, options={**NLI, **options})


def rows_of(split, *columns):
    return [tuple(row[c] for c in columns) for row in split.rows]


def test_every_set_is_there_with_its_groups(folder):
    data = load(folder)
    assert [split.name for split in data.evaluation] == ["id", *challenge_sets.NAMES]
    sets = {split.name: split for split in data.evaluation}
    assert set(sets["hans"].groups) == {
        f"{h}/{y}" for h in HEURISTICS for y in ("entailment", "non-entailment")
    }
    assert len(sets["hans"].clusters[1]) == 12  # two templates a cell
    negated = sets["negation_nli"]
    assert Counter(negated.texts("attribute").to_pylist()) == dict.fromkeys(
        challenge_sets.NEGATED, 6
    )
    assert len(negated.clusters[1]) == 6  # three rows a pair
    assert negated.rows[0]["premise"] == "Ana \u201cate\u201d."
    assert sets["med"].groups == tuple(
        f"{y}/{d}" for y in (E, N) for d in ("upward", "downward", "non", "mixed")
    )
    assert sets["med"].collapse[C] == N
    assert sets["breaking_nli"].aligned.tolist() == [0, 1, 0]
    assert len(sets["breaking_nli"].clusters[1]) == 2
    assert sets["mnli_negation"].ids.tolist() == sets["id"].ids.tolist()
    assert {g.split("/")[1] for g in sets["mnli_negation"].groups} == {"negation", "no_negation"}
    assert sum("variant:" in note for note in data.notes) >= 5  # ours are small


def test_files_are_told_apart_by_their_headers(folder):
    train = rows_of(load(folder).train, "premise", "hypothesis", "label")
    assert ("A boy sat", "No boy sat", 2) in train  # SICK writes its labels in capitals
    assert ('He "ran', "He ran", 0) in train  # ConjNLI: a byte order mark, no quoting
    assert all(premise != "B." for premise, _, _ in train)  # nobody agreed on it
    cad = folder / "cad.tsv"
    table(cad, ("sentence1", "sentence2", "gold_label"), [('"A ""b"""', "c", E)])
    assert corpora.read_pairs(cad).columns["premise"] == ['A "b"']


def test_premises_of_tests_are_trained_on_nowhere(folder):
    data = load(folder)
    by = {s.name: {p for (p,) in rows_of(s, "premise")} for s in data.splits.values()}
    assert not by["train"] & by["validation"]
    assert not by["id"] & by["validation"]
    pairs(folder / "snli" / "snli_1.0_dev.jsonl", [("Red.", "Green.", C), ("A cat.", "A.", E)])
    again = load(folder)
    assert all(p != "Red." for (p,) in rows_of(again.train, "premise"))
    assert "train: 1 pairs left out whose premise stands in a test set" in again.notes
    assert any(p == "Red." for (p,) in rows_of(load(folder, tests=["hans"]).train, "premise"))


def test_settings_are_chosen_on_other_rows_than_tests(folder):
    test, chosen = load(folder), load(folder, evaluate_on="validation")
    assert [split.name for split in chosen.evaluation] == ["id", "hans"]
    assert chosen.train.fingerprint == test.train.fingerprint
    names = {split.name: split for split in test.evaluation}
    for split in chosen.evaluation:
        ours, theirs = ({p for (p,) in rows_of(s, "premise")} for s in (split, names[split.name]))
        assert ours
        assert not ours & theirs


def test_rows_like_hans_join_training_and_leave_validation(folder):
    data = load(folder, hans_rows=6, evaluate_on="validation")
    ours = [
        x for x in rows_of(data.train, "id", "label") if x[0].startswith("heuristics_train_set:")
    ]
    assert Counter(label for _, label in ours) == {0: 3, 1: 3}  # what does not follow is neutral
    hans = next(split for split in data.evaluation if split.name == "hans")
    assert len(hans) == 24 - 6
    assert not {i.partition(":")[2] for i, _ in ours} & {*hans.ids.tolist()}
    assert len(load(folder, n_hans=12).splits["hans"]) == 12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_hans": 7}, "cannot draw 7 rows: a multiple of its 6 cells"),
        ({"hans_rows": 30}, "up to 24 is needed"),
        ({"tests": ["hanz"]}, "hans"),
        ({"tests": 3}, "tests: expected a list, found 3"),
        ({"validation_share": 0}, "validation_share must be between 0 and 1"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(folder, options, words):
    with pytest.raises(HarnessError, match=words):
        load(folder, **options)


def test_validation_needs_a_file_that_is_cut(folder):
    options = {"holdout_file": "", "in_domain_files": ["multinli_1.0/dev.jsonl"]}
    assert "validation" not in load(folder, **options).splits
    with pytest.raises(HarnessError, match="needs validation pairs: name a holdout_file"):
        load(folder, **options, evaluate_on="validation")


def test_a_missing_or_damaged_file_is_named(folder):
    (folder / "med" / "MED.tsv").unlink()
    with pytest.raises(HarnessError, match=r"MED\.tsv"):
        load(folder)
    assert "med" not in load(folder, tests=["conjnli", "breaking_nli"]).splits
    file = folder / "conjnli" / "conj_dev.tsv"
    file.write_text(file.read_text() + "a\tb\tperhaps\n")
    with pytest.raises(HarnessError, match=r"conj_dev\.tsv: row 7: unknown label 'perhaps'"):
        load(folder, tests=["conjnli"])


def test_the_released_files_have_their_counts(real_data):
    options = {"train_files": ["conjnli/adversarial_train_15k.tsv"]}
    options |= {"holdout_file": "multinli_1.0/multinli_1.0_dev_matched.jsonl"}
    data = load(real_data, **options)
    result = {split.name: len(split) for split in data.splits.values()}
    assert result["hans"] == 30_000
    expected = {name: one.rows for name, one in challenge_sets.CHALLENGE_SETS.items()}
    assert {name: result[name] for name in expected} == expected
    assert not [note for note in data.notes if "variant:" in note]
    negated = data.splits["negation_nli"]
    assert Counter(negated.label.tolist()) == {0: 620, 1: 1436, 2: 944}
    med = data.splits["med"]
    assert Counter(med.label.tolist()) == {0: 2705, 1: 2677}
