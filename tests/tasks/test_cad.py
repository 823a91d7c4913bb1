"""The two tasks on counterfactually augmented data: generated pairs and their cues."""

from collections import Counter

import numpy as np
import pytest
from cues import alone
from releases import group_rows, pairs_of, purposes

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.planted import planted_cues
from harness_plugin_tasks.cad_imdb import embedded as imdb
from harness_plugin_tasks.cad_imdb.features import GENRES, genre_features
from harness_plugin_tasks.cad_nli import embedded as nli
from harness_plugin_tasks.cad_nli.features import CUES, hypothesis_features

IMDB = read_task(resource_path("harness_plugin_tasks.cad_imdb:cad_imdb.yaml"))
NLI = read_task(resource_path("harness_plugin_tasks.cad_nli:cad_nli.yaml"))
SMALL = {"n_train": 400, "n_validation": 80, "n_test": 120, "bias_rate": 0.9}
VERSIONS = ("revised_premise", "revised_hypothesis", "revised_combined")


@pytest.fixture(scope="module")
def reviews():
    return load_data(IMDB, "embedded", options=SMALL)


@pytest.fixture(scope="module")
def pairs():
    return load_data(NLI, "embedded", options=SMALL)


# ---- planted cues


def test_cues_agree_exactly_as_often_as_asked():
    label = np.repeat([0, 1, 2], [100, 60, 40])
    cue = planted_cues(np.random.default_rng(0), label, 3, 0.9, "x")
    table = np.zeros((3, 3), int)
    np.add.at(table, (label, cue), 1)
    # 10, 6 and 4 rows off the diagonal, split evenly
    assert table.tolist() == [[90, 5, 5], [3, 54, 3], [2, 2, 36]]


@pytest.mark.parametrize("rate", [0.995, 0.001])
def test_cues_leave_no_cell_empty(rate):
    with pytest.raises(HarnessError, match=r"x: 20 rows of a label .* cell of label x cue empty"):
        planted_cues(np.random.default_rng(0), np.zeros(20, int), 2, rate, "x")


# ---- generated reviews


def sentiment_of(text):
    """The label of a generated review by its words, as a reader would find it."""
    opinion = text.split(" was ")[1].split()
    negative, positive = zip(*imdb.OPPOSITES, strict=True)
    praised = opinion[-2] in positive
    assert praised or opinion[-2] in negative
    return "Positive" if praised != (opinion[0] == "not") else "Negative"


def test_reviews_mean_their_label_and_name_their_genre(reviews):
    for split in reviews.splits.values():
        for row in split.rows:
            assert split.labels[row["label"]] == sentiment_of(row["text"])
            words = imdb.GENRE_WORDS[row["attribute"]]
            other = imdb.GENRE_WORDS[next(g for g in imdb.GENRES if g != row["attribute"])]
            tokens = row["text"].split()
            assert any(word in tokens for word in words)
            assert not any(word in tokens for word in other)
            agrees = (row["attribute"] == "romance") == (split.labels[row["label"]] == "Positive")
            assert row["aligned"] == int(agrees)


def test_a_revision_is_one_edit_and_the_other_label(reviews):
    original, revised = reviews.splits["id"], reviews.splits["revised"]
    np.testing.assert_array_equal(original.label, 1 - revised.label)
    np.testing.assert_array_equal(original.aligned, 1 - revised.aligned)
    edits = Counter()
    for before, after in zip(original.rows["text"], revised.rows["text"], strict=True):
        a, b = before.split(), after.split()
        edits[len(b) - len(a)] += 1
        if len(a) == len(b):
            ((x, y),) = [(x, y) for x, y in zip(a, b, strict=True) if x != y]
            assert (x, y) in imdb.OPPOSITES or (y, x) in imdb.OPPOSITES
        else:
            assert [w for w in a if w != "not"] == [w for w in b if w != "not"]
    # a swap, a "not" more, a "not" less
    assert set(edits) == {0, 1, -1}
    assert min(edits.values()) > 5


def test_genre_agrees_as_often_as_asked(reviews):
    assert purposes(reviews) == {
        "train": "train",
        "validation": "validation",
        "id": "in_domain",
        "revised": "ood",
    }
    assert group_rows(reviews.splits["id"]) == {
        "Negative/horror": 54,
        "Negative/romance": 6,
        "Positive/horror": 6,
        "Positive/romance": 54,
    }
    assert reviews.splits["revised"].aligned.mean() == pytest.approx(0.1)
    assert reviews.train.aligned.mean() == pytest.approx(0.9, abs=0.01)
    assert len(reviews.train) > 390


def test_combined_training_makes_the_genre_say_nothing(reviews):
    both = load_data(IMDB, "embedded", options={**SMALL, "train": "combined"})
    assert both.train.aligned.mean() == pytest.approx(0.5, abs=0.01)
    assert len(both.train) > 2 * len(reviews.train) - 20
    for name in ("id", "revised"):
        assert both.splits[name].fingerprint == reviews.splits[name].fingerprint
    evaluated = {*both.splits["id"].rows["text"], *both.splits["revised"].rows["text"]}
    assert not evaluated & {*both.train.rows["text"], *both.splits["validation"].rows["text"]}


# ---- generated pairs


def relation(premise, hypothesis):
    """The label of a generated pair by its words, as a reader would find it."""
    place = {value: kind for kind, values in enumerate(nli.KINDS) for value in values}
    (first,) = [value for value in place if value in premise]
    (second,) = [value for value in place if value in hypothesis]
    if place[first] != place[second]:
        return "neutral"
    return "entailment" if first == second else "contradiction"


def test_pairs_mean_their_label_and_say_their_cue(pairs):
    for split in pairs.splits.values():
        for row in split.rows:
            assert split.labels[row["label"]] == relation(row["premise"], row["hypothesis"])
            words = nli.CUE_WORDS[nli.CUES.index(row["attribute"])]
            assert row["hypothesis"].startswith(tuple(f"{word} the " for word in words))
            assert row["aligned"] == int(nli.CUES.index(row["attribute"]) == row["label"])


def test_every_pair_is_revised_to_both_other_labels(pairs):
    original = pairs.splits["id"]
    for name, edited, kept in (
        ("revised_premise", 0, 1),
        ("revised_hypothesis", 1, 0),
    ):
        revised = pairs.splits[name]
        assert len(revised) == 2 * len(original)
        for row, pair in enumerate(pairs_of(original)):
            twins = pairs_of(revised)[2 * row : 2 * row + 2] if row < 20 else []
            for twin in twins:
                assert twin[kept] == pair[kept]
                assert twin[edited] != pair[edited]
        result = [set(result) for result in revised.label.reshape(-1, 2).tolist()]
        assert result == [{0, 1, 2} - {label} for label in original.label.tolist()]
    both = pairs.splits["revised_combined"]
    assert pairs_of(both) == [p for name in VERSIONS[:2] for p in pairs_of(pairs.splits[name])]


def test_give_away_words_agree_as_often_as_asked(pairs):
    assert purposes(pairs) == {
        "train": "train",
        "validation": "validation",
        "id": "in_domain",
        **dict.fromkeys(VERSIONS, "ood"),
    }
    table = pairs.splits["id"].group_counts.reshape(3, 3)
    assert table.tolist() == [[36, 2, 2], [2, 36, 2], [2, 2, 36]]
    for name in VERSIONS:
        # of 10% pairs whose word points to another label, half are revised to that label
        assert pairs.splits[name].aligned.mean() == pytest.approx(0.05)
    seen = {*pairs_of(pairs.train), *pairs_of(pairs.splits["validation"])}
    for name in ("id", *VERSIONS):
        assert not seen & set(pairs_of(pairs.splits[name]))


def test_combined_pairs_hold_every_label_of_every_cue():
    both = load_data(NLI, "embedded", options={**SMALL, "train": "combined"})
    # one original and two revisions of each sentence: .9 / 5 + 4 / 5 * .05
    assert both.train.aligned.mean() == pytest.approx(0.22, abs=0.01)


# ---- bias-only views


def test_genre_features_by_hand(reviews):
    split = imdb.split_of(
        "x",
        "train",
        [
            imdb.Review(1, 1, "A Romance, a LOVE story; no warm sci-fi", 0, False),
            imdb.Review(0, 0, "lovely", 0, False),
        ],
    )
    features = genre_features(split)
    assert features.shape == (2, len(GENRES)) == (2, 31)
    assert {GENRES[i] for i in np.flatnonzero(features[0])} == {"romance", "love", "sci-fi"}
    assert not features[1].any()
    assert alone(genre_features, reviews.train) == pytest.approx(0.9, abs=0.02)


def test_hypothesis_features_by_hand(pairs):
    split = pairs.train.select([0])
    (words,) = hypothesis_features(split)
    hypothesis = split.rows["hypothesis"][0]
    assert words[-1] == len(hypothesis.split())
    assert {CUES[i] for i in np.flatnonzero(words[:-1])} == set(hypothesis.split()) & set(CUES)
    assert alone(hypothesis_features, pairs.train) == pytest.approx(0.9, abs=0.02)
