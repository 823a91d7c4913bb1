"""The hans task: the truth of the embedded grammar, its cue, its groups, its determinism."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from releases import group_rows

import harness_plugin_tasks.hans as package
from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin_tasks._shared.text import cues
from harness_plugin_tasks._shared.text.features import overlap_features
from harness_plugin_tasks._shared.text.splits import joined
from harness_plugin_tasks._shared.text.tables import Table
from harness_plugin_tasks.hans import embedded, evaluation

TASK = read_task(Path(package.__file__).parent / "hans.yaml")
WORDS = {
    "A": "doctor",
    "B": "lawyer",
    "C": "author",
    "V": "helped",
    "I": "shouted",
    "P": "near",
    "D": "today",
}
E, N = "entailment", "non-entailment"
TRUTH = {
    ("le_passive", "the doctor was helped by the lawyer", "the lawyer helped the doctor", E),
    ("ln_passive", "the doctor was helped by the lawyer", "the doctor helped the lawyer", N),
    (
        "le_relative_clause",
        "the doctor who the lawyer helped shouted",
        "the lawyer helped the doctor",
        E,
    ),
    (
        "ln_relative_clause",
        "the doctor who the lawyer helped shouted",
        "the doctor helped the lawyer",
        N,
    ),
    ("le_around_relative", "the doctor who helped the lawyer shouted", "the doctor shouted", E),
    ("sn_relative_on_subject", "the doctor who helped the lawyer shouted", "the lawyer shouted", N),
    ("le_around_preposition", "the doctor near the lawyer shouted", "the doctor shouted", E),
    ("sn_preposition_on_subject", "the doctor near the lawyer shouted", "the lawyer shouted", N),
    ("ln_swap", "today the doctor helped the lawyer", "the lawyer helped the doctor", N),
    ("ce_adverb", "today the doctor helped the lawyer", "the doctor helped the lawyer", E),
    ("cn_adverb", "perhaps the doctor helped the lawyer", "the doctor helped the lawyer", N),
    (
        "se_preposition_on_object",
        "the doctor helped the lawyer near the author",
        "the doctor helped the lawyer",
        E,
    ),
    (
        "se_relative_on_object",
        "the doctor helped the lawyer who shouted",
        "the doctor helped the lawyer",
        E,
    ),
    (
        "ce_because",
        "because the doctor shouted the lawyer helped the author",
        "the doctor shouted",
        E,
    ),
    (
        "ce_because",
        "because the doctor shouted the lawyer helped the author",
        "the lawyer helped the author",
        E,
    ),
    ("cn_if", "if the doctor shouted the lawyer helped the author", "the doctor shouted", N),
    (
        "cn_if",
        "if the doctor shouted the lawyer helped the author",
        "the lawyer helped the author",
        N,
    ),
}
CLAUSES = {
    "because the A I the B V the C": ("the A I", "the B V the C"),
    "if the A I the B V the C": ("the A I", "the B V the C"),
    "D the A V the B": ("the A V the B",),
    "perhaps the A V the B": ("the A V the B",),
}
"""The complete clauses inside a premise, written down by hand; the other premises have none."""


@pytest.fixture(scope="module")
def data():
    return load_data(TASK, "embedded")


def sentences(split):
    return list(zip(split.rows[:]["premise"], split.rows[:]["hypothesis"], strict=True))


def contiguous(premise, hypothesis):
    p, h = premise.split(), hypothesis.split()
    return any(p[i : i + len(h)] == h for i in range(len(p) - len(h) + 1))


def meanings():
    lexicon = [*embedded.PEOPLE, *embedded.DEEDS, *embedded.ACTS]
    return {word: entry for entry in lexicon for word in entry}


def test_every_frame_means_what_was_written_down_by_hand():
    rendered = {
        (
            f.subcase,
            embedded.render(f.premise, WORDS),
            embedded.render(f.hypothesis, WORDS),
            f.label,
        )
        for f in embedded.FRAMES
    }
    assert rendered == TRUTH


def test_heuristics_are_what_they_are_defined_to_be():
    for frame in embedded.FRAMES:
        assert set(frame.hypothesis.split()) <= set(frame.premise.split()), frame
        clause = frame.hypothesis in CLAUSES.get(frame.premise, ())
        inside = contiguous(frame.premise, frame.hypothesis)
        expected = "constituent" if clause else "subsequence" if inside else "lexical_overlap"
        assert frame.heuristic == expected, frame
        assert inside or not clause, frame


def test_most_premises_come_with_both_labels():
    # else the premise alone would give the label away; "if" and "perhaps" never entail
    labels = {}
    for frame in embedded.FRAMES:
        labels.setdefault(frame.premise, set()).add(frame.label)
    alone = {premise for premise, result in labels.items() if len(result) == 1}
    assert alone == {
        "the A V the B P the C",
        "the A V the B who I",
        "because the A I the B V the C",
        "if the A I the B V the C",
        "perhaps the A V the B",
    }


def test_every_cell_of_the_test_has_two_subcases(data):
    hans = data.splits["hans"]
    result = Counter(
        zip(hans.rows[:]["heuristic"], hans.label.tolist(), hans.rows[:]["subcase"], strict=True)
    )
    for heuristic in evaluation.HEURISTICS:
        for label, letter in enumerate("en"):
            subcases = [s for h, y, s in result if (h, y) == (heuristic, label)]
            assert len(subcases) >= 2
            assert all(s.startswith(heuristic[0] + letter + "_") for s in subcases)
    assert min(result.values()) > 100


def test_words_are_used_once():
    words = [w for entry in (*embedded.PEOPLE, *embedded.DEEDS, *embedded.ACTS) for w in entry]
    pattern = {w for f in embedded.FRAMES for w in f.premise.split() if w.islower()}
    words += [*embedded.PLACES, *embedded.TIMES, *pattern]
    assert len(set(words)) == len(words)


def test_cue_agrees_with_the_label_at_the_stated_rate(data):
    for name, rare, common in (("train", 180, 5820), ("id", 30, 970)):
        split = data.splits[name]
        drawn = {
            "entailment/overlap": common,
            "entailment/no_overlap": rare,
            "non-entailment/overlap": rare,
            "non-entailment/no_overlap": common,
        }
        left = group_rows(split)
        # training pairs that stand in a test set are left out, from the overlapping cells mostly
        fewest = 0.95 if name == "train" else 1
        assert all(fewest * drawn[cell] <= left[cell] <= drawn[cell] for cell in drawn)
        assert split.aligned.mean() == pytest.approx(0.97, abs=0.001)
        answers = [set(h.split()) <= set(p.split()) for p, h in sentences(split)]
        assert [a == "overlap" for a in split.rows[:]["attribute"]] == answers
        entailed = split.label == 0
        np.testing.assert_array_equal(split.aligned, (entailed == np.array(answers)).astype(int))


def test_no_test_pair_stands_in_train(data):
    seen = set(sentences(data.train))
    for name in ("validation", "id", "hans"):
        assert not seen & set(sentences(data.splits[name]))


def test_validation_is_drawn_as_train_is(data):
    split = data.splits["validation"]
    assert (split.purpose, split.groups) == ("validation", data.train.groups)
    assert 500 < len(split) <= 600
    assert split.aligned.mean() == pytest.approx(0.97, abs=0.01)
    tested = {pair for name in ("id", "hans") for pair in sentences(data.splits[name])}
    assert not tested & set(sentences(split))


def test_overlap_says_nothing_in_the_test(data):
    hans = data.splits["hans"]
    assert group_rows(hans) == dict.fromkeys(evaluation.HANS_GROUPS, 500)
    assert all(set(h.split()) <= set(p.split()) for p, h in sentences(hans))
    np.testing.assert_array_equal(hans.aligned, 1 - hans.label)
    assert (hans.purpose, hans.breakdowns) == ("ood", ("heuristic", "subcase"))
    assert hans.collapse == data.splits["id"].collapse == evaluation.COLLAPSE


def test_heuristic_holds_of_the_written_sentences(data):
    hans = data.splits["hans"]
    for (premise, hypothesis), heuristic in zip(
        sentences(hans), hans.rows[:]["heuristic"], strict=True
    ):
        assert contiguous(premise, hypothesis) == (heuristic != "lexical_overlap")


def test_pairs_without_overlap_are_right(data):
    # entailed: another word for every entry; not entailed: an entry that the premise lacks
    entry = meanings()
    for (premise, hypothesis), label, attribute in zip(
        sentences(data.train),
        data.train.label.tolist(),
        data.train.rows[:]["attribute"],
        strict=True,
    ):
        answers = {entry[word] for word in premise.split() if word in entry}
        words_of_entry = [word for word in hypothesis.split() if word in entry]
        if attribute == "no_overlap" and label == 0:
            assert {entry[word] for word in words_of_entry} <= answers
            assert not set(words_of_entry) & set(premise.split())
        elif attribute == "no_overlap":
            assert not {entry[word] for word in words_of_entry} <= answers
        else:
            assert {entry[word] for word in words_of_entry} <= answers


def test_nobody_appears_twice_in_a_premise(data):
    entry = meanings()
    for premise, _ in sentences(data.train):
        content = [entry[word] for word in premise.split() if word in entry]
        assert len(set(content)) == len(content)


def test_small_cells_hold_the_constructions_of_the_test(data):
    # what a method has to learn from: every non-entailed frame occurs with overlap in training
    train = data.train
    rows = np.flatnonzero((train.label == 1) & (train.aligned == 0))
    hans = data.splits["hans"]
    shape = meanings()

    def frame(premise, hypothesis):
        known = {}
        mark = lambda w: known.setdefault(shape[w], f"{len(known)}") if w in shape else w  # noqa: E731
        text = " | ".join(" ".join(map(mark, s.split())) for s in (premise, hypothesis))
        for place, time_ in zip(embedded.PLACES, embedded.TIMES, strict=True):
            text = text.replace(place, "P").replace(time_, "D")
        return text

    pairs = sentences(train)
    seen = {frame(*pairs[i]) for i in rows.tolist()}
    entailed = {
        frame(*pair)
        for pair, label in zip(sentences(hans), hans.label.tolist(), strict=True)
        if label == 1
    }
    assert entailed == seen


def test_sizes():
    small = {"n_train": 500, "n_id": 500, "n_hans": 65}
    data = load_data(TASK, "embedded", options=small)
    assert [len(split) for split in data.evaluation] == [500, 60]
    assert 450 < len(data.train) <= 500
    assert data.splits["hans"].group_counts.tolist() == [10] * 6


def test_odd_numbers_of_rows_are_kept():
    result = load_data(TASK, "embedded", options={"n_train": 501, "n_id": 333, "n_hans": 6})
    assert len(result.splits["id"]) == 333
    assert group_rows(result.splits["id"]) == {
        "entailment/overlap": 161,
        "entailment/no_overlap": 5,
        "non-entailment/overlap": 5,
        "non-entailment/no_overlap": 162,
    }


def test_bytes_are_the_same_in_every_process(capsys):
    code = (
        "from pathlib import Path; import harness_plugin_tasks.hans as p;"
        "from harness_plugin.data.dataset import load_data;"
        "from harness_plugin.data.task import read_task;"
        "task = read_task(Path(p.__file__).parent / 'hans.yaml');"
        "data = load_data(task, 'embedded', options={'n_train': 400, 'n_id': 400, 'n_hans': 60});"
        "print([sorted(s.rows[:].items()) for s in data.splits.values()])"
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # another one than here
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    capsys.readouterr()
    exec(code, {})
    assert capsys.readouterr().out == done.stdout
    assert len(done.stdout) > 10_000


def test_generation_is_quick():
    # 21,000 pairs took 0.7 s of processor time on an idle core
    before = time.process_time()
    load_data(TASK, "embedded")
    assert time.process_time() - before < 5


def test_words_and_overlap():
    answers = cues.words('He said: "Don\'t go, Mr. Fox!"')
    assert answers == ["he", "said", "don't", "go", "mr", "fox"]
    assert cues.words(" ... ") == []
    assert cues.overlap("The doctor, near the lawyer, slept.", "the lawyer slept .") == cues.OVERLAP
    assert cues.overlap("The doctor slept.", "The doctors slept.") == cues.NO_OVERLAP
    assert cues.OVERLAP_CUE.points_to(cues.OVERLAP, "entailment") == 1
    assert cues.OVERLAP_CUE.points_to(cues.OVERLAP, "neutral") == 0
    assert cues.OVERLAP_CUE.points_to(cues.NO_OVERLAP, "contradiction") == 1
    assert cues.OVERLAP_CUE.points_to(cues.NO_OVERLAP, "entailment") == 0


def test_features_by_hand():
    columns = {
        "premise": ["The doctor near the lawyer slept.", "A b c d e", "Cat"],
        "hypothesis": ["The lawyer slept.", "d a x y", "Dog ran away"],
        "label": ["neutral", "entailment", "neutral"],
        "id": ["0", "1", "2"],
    }
    split = joined("x", "train", [Table("x", "x", columns)])
    expected = [[1, 1, 1, np.log(3)], [0, 0, 0.5, 0], [0, 0, 0, 0]]
    features = overlap_features(split)
    assert features.dtype == np.float64
    np.testing.assert_allclose(features, expected)


def test_features_follow_whole_words():
    # "he doctor" is inside "the doctor" as text, not as words
    columns = {
        "premise": ["the doctor ran", "the doctor ran home today"],
        "hypothesis": ["he doctor ran", "doctor home"],
        "label": ["neutral", "neutral"],
        "id": ["0", "1"],
    }
    split = joined("x", "train", [Table("x", "x", columns)])
    features = overlap_features(split)
    np.testing.assert_allclose(features[:, 0], [0, 0])
    np.testing.assert_allclose(features[:, 2], [2 / 3, 1])
    np.testing.assert_allclose(features[:, 3], [0, np.log(3)])
