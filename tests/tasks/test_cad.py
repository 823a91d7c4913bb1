"""The two tasks on counterfactually augmented data: generated pairs, the release, broken copies."""

import csv
from collections import Counter

import numpy as np
import pytest
from evaluation_files import evaluates_without
from releases import group_rows, pairs_of, purposes
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task, resource_path
from harness_plugin.errors import HarnessError
from harness_plugin_hooks.methods.bias.bias_models import floored, regression
from harness_plugin_tasks._shared.planted import planted_cues
from harness_plugin_tasks._shared.quoted import read_quoted
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


def says(text):
    """The label of a generated review by its words, as a reader would find it."""
    opinion = text.split(" was ")[1].split()
    negative, positive = zip(*imdb.OPPOSITES, strict=True)
    praised = opinion[-2] in positive
    assert praised or opinion[-2] in negative
    return "Positive" if praised != (opinion[0] == "not") else "Negative"


def test_reviews_mean_their_label_and_name_their_genre(reviews):
    for split in reviews.splits.values():
        for row in split.rows:
            assert split.labels[row["label"]] == says(row["text"])
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
    asked = {*both.splits["id"].rows["text"], *both.splits["revised"].rows["text"]}
    assert not asked & {*both.train.rows["text"], *both.splits["validation"].rows["text"]}


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


def alone(features, split):
    """Cross-fitted accuracy of the cue alone."""
    log_probs = floored(
        regression(features(split), split.label, len(split.labels), seed=0, folds=5)
    )
    return (log_probs.argmax(axis=1) == split.label).mean()


# ---- small copies of the release, in our words


def write_quoted(file, header, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as text:
        csv.writer(text, delimiter="\t").writerows([header, *rows])
    return file


def write_sentiment(root):
    for folder, mood in (("orig", "plain"), ("new", "turned")):
        for file in ("train", "dev", "test"):
            rows = [
                ("Positive", f'a {mood} {file} review with a "quote" in it'),
                ("Negative", f"a {mood}\t{file} review"),
            ]
            write_quoted(root / "sentiment" / folder / f"{file}.tsv", ("Sentiment", "Text"), rows)
    return root


def write_nli(root):
    for folder in ("original", *VERSIONS):
        for file in ("train", "dev", "test"):
            rows = [(f"p {folder} {file}", f"h {label}", label) for label in nli.LABELS]
            header = ("sentence1", "sentence2", "gold_label")
            write_quoted(root / "NLI" / folder / f"{file}.tsv", header, rows)
    return root


@pytest.mark.parametrize("below", ["", "cad"])
def test_release_of_reviews(tmp_path, below):
    write_sentiment(tmp_path / below)
    data = load_data(IMDB, "path", path=tmp_path)
    assert purposes(data) == {
        "train": "train",
        "validation": "validation",
        "id": "in_domain",
        "revised": "ood",
    }
    assert data.train.rows["text"][:] == [
        'a plain train review with a "quote" in it',
        "a plain\ttrain review",
    ]
    assert group_rows(data.train) == {"Negative/original": 1, "Positive/original": 1}
    assert group_rows(data.splits["revised"]) == {"Negative/revised": 1, "Positive/revised": 1}
    assert set(data.splits["revised"].column("attribute")) == {"revised"}
    assert set(data.train.aligned) == {-1}
    assert list(data.splits["revised"].ids) == ["revised:revised:000000", "revised:revised:000001"]
    train = tmp_path / below / "sentiment" / "orig" / "train.tsv"
    assert data.notes[0] == f"variant: {train} has 2 rows, expected 1,707"
    assert len(data.notes) == 4
    both = load_data(IMDB, "path", path=tmp_path, options={"train": "combined"})
    assert both.train.groups == (
        "Negative/original",
        "Negative/revised",
        "Positive/original",
        "Positive/revised",
    )
    assert (len(both.train), len(both.splits["validation"]), len(both.notes)) == (4, 4, 6)


def test_release_of_pairs(tmp_path):
    data = load_data(NLI, "path", path=write_nli(tmp_path))
    assert purposes(data) == {
        "train": "train",
        "validation": "validation",
        "id": "in_domain",
        **dict.fromkeys(VERSIONS, "ood"),
    }
    assert data.train.labels == ("entailment", "neutral", "contradiction")
    for name in VERSIONS:
        assert data.splits[name].rows["premise"][0] == f"p {name} test"
        assert data.splits[name].groups == tuple(f"{label}/{name}" for label in nli.LABELS)
    both = load_data(NLI, "path", path=tmp_path, options={"train": "combined"})
    assert Counter(both.train.column("attribute").tolist()) == {
        "original": 3,
        "revised_combined": 3,
    }


TRAIN = "sentiment/orig/train.tsv"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / TRAIN).unlink(), r"orig/train\.tsv: no such file"),
        (
            lambda d: (d / TRAIN).write_text(""),
            r"train\.tsv: no column Text, Sentiment \(found none",
        ),
        (
            lambda d: (d / TRAIN).write_text("Label\tText\n"),
            r"train\.tsv: no column Sentiment \(found Label, Text\)",
        ),
        (
            lambda d: (d / TRAIN).write_text("Sentiment\tText\n"),
            r"train\.tsv: no labelled row",
        ),
        (
            lambda d: (d / TRAIN).write_text("Sentiment\tText\nPositive\ta\nNegative\tb\tc\n"),
            r"train\.tsv:3: 3 fields, expected 2",
        ),
        (
            lambda d: (d / TRAIN).write_text('Sentiment\tText\nPositive\t"a\nNegative\tb\n'),
            r"train\.tsv:3: not a quoted table: unexpected end of data",
        ),
        (
            lambda d: (d / TRAIN).write_text("Sentiment\tText\nPositive\ta\npositive\tb\n"),
            r"train\.tsv: row 2: unknown label 'positive'; expected one of Negative, Positive",
        ),
        (
            lambda d: (d / TRAIN).write_bytes("Sentiment\tText\nPositive\té\n".encode("latin-1")),
            r"train\.tsv:\d+: byte 0x\w\w is not UTF-8",
        ),
        (lambda d: write_sentiment(d / "x"), r"sentiment/ of the release must be .* and .*x"),
        (lambda d: (d / "sentiment").rename(d / "y"), "one direct subfolder; it is nowhere"),
    ],
)
def test_broken_releases(tmp_path, damage, message):
    damage(write_sentiment(tmp_path))
    with pytest.raises(HarnessError, match=message) as error:
        load_data(IMDB, "path", path=tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(HarnessError, match=r"cad_nli: .*nowhere is not a directory; give --data"):
        load_data(NLI, "path", path=tmp_path / "nowhere")


def test_there_is_no_hub_source():
    with pytest.raises(HarnessError, match="unknown data source of task cad_imdb 'hub'"):
        load_data(IMDB, "hub")


# ---- the released files themselves


def test_real_reviews(real_data):
    data = load_data(IMDB, "path", path=real_data)
    assert data.notes == ()
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 1_707,
        "validation": 245,
        "id": 488,
        "revised": 488,
    }
    assert group_rows(data.train) == {"Negative/original": 851, "Positive/original": 856}
    # every revision has the other label
    assert data.splits["id"].group_counts.tolist() == [243, 245]
    assert data.splits["revised"].group_counts.tolist() == [245, 243]
    both = load_data(IMDB, "path", path=real_data, options={"train": "combined"})
    assert both.train.group_counts.tolist() == [851, 856, 856, 851]
    file = real_data / "cad" / "sentiment" / "combined" / "train.tsv"
    assert Counter(both.train.rows["text"][:]) == Counter(read_quoted(file, ["Text"])["Text"])


def test_real_reviews_are_quoted(real_data):
    file = real_data / "cad" / "sentiment" / "orig" / "train.tsv"
    with file.open(encoding="utf-8", newline="") as text:
        raw = [row[1] for row in csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]
    assert len(raw) == 1_707
    assert sum(text.startswith('"') and text.endswith('"') for text in raw) == 697
    texts = read_quoted(file, ["Text"])["Text"]
    assert not any(text.startswith('"') and text.endswith('"') for text in texts)


def test_real_pairs(real_data):
    data = load_data(NLI, "path", path=real_data)
    assert data.notes == ()
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 1_666,
        "validation": 200,
        "id": 400,
        "revised_premise": 800,
        "revised_hypothesis": 800,
        "revised_combined": 1_600,
    }
    assert data.train.group_counts.tolist() == [562, 554, 550]
    for name, times in zip(VERSIONS, (1, 1, 2), strict=True):
        assert data.splits[name].group_counts.tolist() == [254 * times, 277 * times, 269 * times]
    singles = [p for name in VERSIONS[:2] for p in pairs_of(data.splits[name])]
    # one sentence has a blank more in one of the files
    packed = [["".join(text.split()) for text in pair] for pair in singles]
    combined = [["".join(t.split()) for t in p] for p in pairs_of(data.splits[VERSIONS[2]])]
    assert sorted(combined) == sorted(packed)
    both = load_data(NLI, "path", path=real_data, options={"train": "combined"})
    assert len(both.train) == 8_330
    # what the fixed list of words gives away; a third would be chance
    assert alone(hypothesis_features, data.train) > 0.44


LINEAR_NLI = {
    "id": 0.490,
    "revised_premise": 0.255,
    "revised_hypothesis": 0.404,
    "revised_combined": 0.329,
}


@pytest.mark.parametrize(
    ("task", "train", "column", "strength", "expected"),
    [
        (IMDB, "original", "text", 10, {"id": 0.869, "revised": 0.543}),
        (IMDB, "combined", "text", 10, {"id": 0.867, "revised": 0.918}),
        (NLI, "original", "hypothesis", 2, LINEAR_NLI),
    ],
)
def test_a_linear_model_fails_on_revisions(real_data, task, train, column, strength, expected):
    """Reference numbers of the two pages: TF-IDF of words and word pairs, logistic regression."""
    data = load_data(task, "path", path=real_data, options={"train": train})
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        LogisticRegression(C=strength, max_iter=1000),
    ).fit(data.train.rows[column][:], data.train.label)
    accuracy = {s.name: model.score(s.rows[column][:], s.label) for s in data.evaluation}
    assert accuracy == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("combined", [False, True])
@pytest.mark.parametrize(("task", "write"), [(IMDB, write_sentiment), (NLI, write_nli)])
def test_the_test_files_alone_are_enough_to_evaluate(tmp_path, task, write, combined):
    options = {"train": "combined"} if combined else {}
    evaluates_without(task, write(tmp_path), ["*/*/train.tsv", "*/*/dev.tsv"], **options)
