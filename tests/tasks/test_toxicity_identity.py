"""Toxicity and mentions of people: both test sets, the cut of the tweets, and what can break."""

import csv
from collections import Counter

import datasets
import pytest

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin.errors import HarnessError
from harness_plugin_tasks.toxicity_identity import released, sets

TASK = read_task(resource_path("harness_plugin_tasks.toxicity_identity:toxicity_identity.yaml"))
TWEETS = [
    (kind, f"{text} {i}")
    for i in range(30)
    for kind, text in ((0, "the gay cook is, so to say,\nawful"), (1, "soup"), (2, "Women sing"))
]
CASES = [
    ("opinion", 1, "gay people are awful", "hateful", "gay people", 7),
    ("opinion", 2, "women are awful", "hateful", "women", 7),
    ("praise", 3, "women are kind", "non-hateful", "women", 8),
    ("object", 4, "soup is awful", "non-hateful", "", ""),
]
PHRASES = [
    ("being_adj", "toxic", "being gay is awful"),
    ("being_adj", "toxic", "being middle aged is awful"),
    ("being_adj", "nontoxic", "being gay is kind"),
    ("you_occupation", "nontoxic", "You are a kind cook"),
]


def write(file, header, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


@pytest.fixture
def folder(tmp_path):
    tweets = [("n", kind, text) for kind, text in [*TWEETS, *TWEETS]]  # every tweet stands twice
    write(tmp_path / "davidson" / "labeled_data.csv", ("count", "class", "tweet"), tweets)
    place = tmp_path / "hatecheck" / "test_suite_cases.csv"
    write(place, released.HATECHECK_COLUMNS, CASES)
    place = tmp_path / "en_sentence_templates.csv"
    write(place, ("template", "toxicity", "phrase"), PHRASES)
    return tmp_path


def load(path, **options):
    return load_data(TASK, "path", path=path, options=options)


def test_a_mention_is_a_whole_word_in_any_case():
    result = [
        bool(sets.PERSON.search(t)) for t in ("GAY!", "women's", "gaylord", "Muslims", "mane")
    ]
    assert result == [True, True, False, True, False]
    assert sets.TERM.search("an african american cook")[1] == "african american"  # the longest
    assert len(sets.KIND_OF) == 50


def test_test_sets_have_groups_and_clusters_of_their_templates(folder):
    data = load(folder)
    hatecheck, templates = data.splits["hatecheck"], data.splits["templates"]
    assert hatecheck.groups == (
        "nontoxic/women",
        "nontoxic/none",
        "toxic/gay people",
        "toxic/women",
    )
    assert hatecheck.aligned.tolist() == [1, 1, 0, 1]  # hateful of somebody, kind of nobody
    assert hatecheck.clusters[0].tolist()[:2] == [0, 0]
    assert hatecheck.clusters[0].tolist()[3] == -1  # made from no template
    assert templates.breakdown_values["term"].tolist() == ["gay", "middle aged", "gay", "none"]
    assert templates.groups == (
        "nontoxic/sexuality",
        "nontoxic/none",
        "toxic/sexuality",
        "toxic/age",
    )
    # one sentence, whoever it is said of
    assert templates.clusters[0][0] == templates.clusters[0][1] != templates.clusters[0][2]


def test_equal_tweets_are_on_one_side_and_shares_are_kept(folder):
    data = load(folder)
    texts = {name: set(data.splits[name].texts("text").to_pylist()) for name in ("train", "id")}
    texts["validation"] = set(data.splits["validation"].texts("text").to_pylist())
    assert [len(texts[name]) for name in ("train", "validation", "id")] == [63, 9, 18]
    assert len(set.union(*texts.values())) == 90
    train = data.splits["train"]
    assert all(len(data.splits[name]) == 2 * len(result) for name, result in texts.items())
    counts = Counter(zip(train.label.tolist(), train.texts("attribute").to_pylist(), strict=True))
    assert set(counts) == {(1, "mention"), (1, "no_mention"), (0, "mention")}
    assert any("labeled_data.csv has 180 rows, expected 24,783" in note for note in data.notes)


def test_classes_are_chosen_and_the_others_left_out(folder):
    data = load(folder, toxic=["hate"])
    assert not any("soup" in text for text in data.train.texts("text").to_pylist())
    assert "60 tweets left out: of a class that has no label here" in data.notes
    (folder / "en_sentence_templates.csv").unlink()
    assert "templates" not in load(folder).splits


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"toxic": ["hateful"]}, "hate"),
        ({"nontoxic": ["hate"]}, "hate is named as toxic and as nontoxic"),
        ({"id_share": 0.9}, "leave no training"),
        ({"n_templates": -1}, "n_templates must be a whole number of at least 0"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(folder, options, words):
    with pytest.raises(HarnessError, match=words):
        load(folder, **options)


def test_missing_files_and_unknown_values_are_named(folder):
    write(folder / "hatecheck" / "test_suite_cases.csv", released.HATECHECK_COLUMNS, [
        ("opinion", 1, "soup", "perhaps", "", ""),
    ])  # fmt: skip
    with pytest.raises(HarnessError, match="row 1: label_gold 'perhaps', expected hateful or non-"):
        load(folder)
    (folder / "davidson" / "labeled_data.csv").unlink()
    with pytest.raises(HarnessError, match=r"found none of labeled_data\.csv"):
        load(folder)


def test_the_hub_has_the_same_rows(folder, monkeypatch):
    columns = list(zip(*TWEETS, strict=True))
    tweets = datasets.Dataset.from_dict({"class": columns[0], "tweet": columns[1]})
    cases = {
        name: [None if row[i] == "" else row[i] for row in CASES]
        for i, name in enumerate(released.HATECHECK_COLUMNS)
    }
    hub = {
        released.TWEETS: {"train": tweets},
        released.HATECHECK: {"test": datasets.Dataset.from_dict(cases)},
    }
    monkeypatch.setattr(released, "load_hub", lambda name, revision: hub[name])
    data = load_data(TASK, "hub")
    assert data.splits["hatecheck"].fingerprint == load(folder).splits["hatecheck"].fingerprint
    assert "templates" not in data.splits
    assert len(data.splits["id"]) == 18


def test_the_real_files_have_their_counts(real_data):
    data = load(real_data)
    assert not data.notes
    assert sum(len(data.splits[name]) for name in ("train", "validation", "id")) == 24_783
    assert Counter(data.splits["hatecheck"].label.tolist()) == {1: 2563, 0: 1165}
    assert len(data.splits["hatecheck"].clusters[1]) == 845
    terms = Counter(data.splits["templates"].breakdown_values["term"].tolist())
    assert {terms[term] for term in sets.KIND_OF} == {1514}
    assert terms["none"] == 864
