"""Counterfactually augmented data as released: small copies, broken ones, the files themselves."""

import csv
from collections import Counter

import pytest
from cues import alone
from evaluation_files import evaluates_without
from releases import group_rows, pairs_of, purposes
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.quoted import read_quoted
from harness_plugin_tasks.cad_nli import embedded as nli
from harness_plugin_tasks.cad_nli.features import hypothesis_features

IMDB = read_task(resource_path("harness_plugin_tasks.cad_imdb:cad_imdb.yaml"))
NLI = read_task(resource_path("harness_plugin_tasks.cad_nli:cad_nli.yaml"))
VERSIONS = ("revised_premise", "revised_hypothesis", "revised_combined")


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
