"""QQP and PAWS: generated questions, every layout of the releases, the hub's schemas."""

import csv
import shutil

import datasets
import numpy as np
import pytest
from evaluation_files import evaluates_without
from releases import pairs_of, purposes

from harness_plugin.data.dataset import DataRequest, load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin.errors import HarnessError
from harness_plugin_hooks.methods.bias.bias_models import floored, regression
from harness_plugin_tasks.qqp_paws import embedded as generated
from harness_plugin_tasks.qqp_paws import questions, released

TASK = read_task(resource_path("harness_plugin_tasks.qqp_paws:qqp_paws.yaml"))
SMALL = {"n_train": 600, "n_validation": 120, "n_id": 200, "n_paws": 100}
GROUPS = (
    "not_duplicate/low_overlap",
    "not_duplicate/high_overlap",
    "duplicate/low_overlap",
    "duplicate/high_overlap",
)


@pytest.fixture(scope="module")
def embedded():
    return load_data(TASK, "embedded", options=SMALL)


# ---- the cue


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ("What is a cat?", "What is a dog?", 3 / 5),
        ("a b", "B, a!", 1),
        ("a a a b", "a", 1 / 2),
        ("a", "b", 0),
        ("?", "", 1),
    ],
)
def test_jaccard_by_hand(first, second, share):
    assert questions.jaccard(first, second) == questions.jaccard(second, first) == share


def table(name, pairs):
    first, second, labels = zip(*pairs, strict=True)
    columns = {"question1": [*first], "question2": [*second], "label": [*labels]}
    return questions.Table(name, name, {**columns, "id": [f"{i}" for i in range(len(pairs))]})


def test_overlap_is_high_above_the_median_of_training_pairs():
    yes, no = "duplicate", "not_duplicate"
    # overlaps 0, 1/3, 1/2, 1; the unlabelled pair does not count
    train = [
        ("a", "b", no),
        ("a b", "b c", yes),
        ("a b", "a", no),
        ("a", "a", yes),
        ("x", "x", "-"),
    ]
    test = [("a b c", "a b d e f", yes), ("a b", "a", yes), ("a b", "b a", no)]
    request = DataRequest(TASK, "path", None, {"high_overlap": None})
    splits, note = questions.overlap_splits(
        request, {("train", "train"): table("train", train), ("x", "ood"): table("x", test)}
    )
    assert float(note.split()[4][:-1]) == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert splits["train"].groups == GROUPS
    assert splits["train"].group.tolist() == [0, 2, 1, 3]
    assert splits["train"].aligned.tolist() == [1, 0, 0, 1]
    assert splits["train"].dropped == 1
    # 1/3, 1/2, 1: no pair of not_duplicate/low_overlap
    assert splits["x"].groups == GROUPS[1:]
    assert splits["x"].aligned.tolist() == [0, 1, 0]


def test_features_by_hand():
    pairs = [("a b c", "c b a", "duplicate"), ("a b", "a c d e", "not_duplicate")]
    split = questions.overlap_split("x", "train", table("x", pairs), 0.5)
    np.testing.assert_allclose(
        questions.overlap_features(split), [[1, 1, 0], [1 / 5, 0, np.log(2)]]
    )


# ---- generated questions


def meaning(question):
    """(who, deed, whom, place) of a generated question, synonyms being the same."""
    entries = {word: entry for entry in (*generated.PEOPLE, *generated.DEEDS) for word in entry}
    _, does, the, who, deed, the_, whom, in_, place, mark = question.split()
    assert (does, the, the_, in_, mark) == ("does", "the", "the", "in", "?")
    return entries[who], entries[deed], entries[whom], place


def test_pairs_mean_their_label_and_show_their_cue(embedded):
    for split in embedded.splits.values():
        for (first, second), row in zip(pairs_of(split), split.rows, strict=True):
            label = split.labels[row["label"]]
            assert (meaning(first) == meaning(second)) == (label == "duplicate")
            content = [set(question.split()[1:]) for question in (first, second)]
            assert row["attribute"] == ("high_overlap", "low_overlap")[content[0] != content[1]]
            agrees = (row["attribute"] == "high_overlap") == (label == "duplicate")
            assert row["aligned"] == int(agrees)
            who, _, whom, _ = meaning(first)
            assert who != whom


def test_overlap_agrees_as_often_as_asked(embedded):
    assert purposes(embedded) == {
        "train": "train",
        "validation": "validation",
        "id": "in_domain",
        "paws": "ood",
    }
    held = embedded.splits["id"]
    # 96 of 200 are duplicates; 10 of each label disagree
    assert held.groups == GROUPS
    assert held.group_counts.tolist() == [94, 10, 10, 86]
    assert embedded.train.aligned.mean() == pytest.approx(0.9, abs=0.01)
    paws = embedded.splits["paws"]
    assert paws.groups == GROUPS[1::2]
    assert paws.group_counts.tolist() == [50, 50]
    features = questions.overlap_features(embedded.train)
    log_probs = floored(regression(features, embedded.train.label, 2, seed=0, folds=5))
    assert (log_probs.argmax(axis=1) == embedded.train.label).mean() > 0.88
    seen = {
        *pairs_of(embedded.train),
        *pairs_of(embedded.splits["validation"]),
    }
    assert not seen & {*pairs_of(paws), *pairs_of(held)}


# ---- small copies of the releases, in our words


QQP = [
    ('What is "tea?', "What is tea?", "1"),
    ("Where do owls sleep?", "Is it late?", "0"),
    ("How tall is Ana?", "How tall is Bo?", "0"),
    ("How do I cook rice?", "What is the way to boil rice?", "1"),
]
PAWS = [
    ('Ana met "Bo" , then left .', 'Then "Bo" met Ana , who left .', "0"),
    ("Bo sang a song .", "A song Bo sang .", "1"),
]


def write_qqp(root):
    for name in ("train", "dev"):
        file = root / "QQP" / f"{name}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = ["id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"]
        # no quoting: a quote that opens in one row must not swallow the next
        lines += [f"{i}\t{i}1\t{i}2\t{a}\t{b}\t{y}" for i, (a, b, y) in enumerate(QQP)]
        file.write_text("\n".join(lines) + "\n")


def write_paws(file, pairs=PAWS):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as text:
        writer = csv.writer(text, delimiter="\t")
        writer.writerow(("id", "sentence1", "sentence2", "label"))
        writer.writerows((i, *pair) for i, pair in enumerate(pairs, 1))


def write_paws_qqp(root):
    """As the generator of PAWS-QQP writes it: texts as literals of bytes."""
    pairs = [(str(a.encode()), str(f"{b} é 'x'".encode()), y) for a, b, y in PAWS]
    assert pairs[0][1].startswith("b'")
    assert pairs[1][1].startswith('b"')
    write_paws(root / "paws_qqp" / "dev_and_test.tsv", pairs)


def hub_rows(pairs, columns, names):
    index = ("0", "1") if names == ("0", "1") else names
    first, second, labels = zip(*pairs, strict=True)
    data = {columns[0]: [*first], columns[1]: [*second], "label": [int(y) for y in labels]}
    text = datasets.Value("string")
    features = {columns[0]: text, columns[1]: text, "label": datasets.ClassLabel(names=[*index])}
    number = "idx" if names == questions.LABELS else "id"
    features[number] = datasets.Value("int32")
    data[number] = [*range(1, len(pairs) + 1)]
    return datasets.Dataset.from_dict(data, features=datasets.Features(features))


def hub_qqp():
    rows = hub_rows(QQP, ("question1", "question2"), questions.LABELS)
    hidden = hub_rows([(a, b, -1) for a, b, _ in QQP], ("question1", "question2"), questions.LABELS)
    return datasets.DatasetDict({"train": rows, "validation": rows, "test": hidden})


def hub_paws():
    rows = hub_rows(PAWS, ("sentence1", "sentence2"), ("0", "1"))
    return datasets.DatasetDict({"train": rows, "validation": rows, "test": rows})


def write_parquet(root):
    for folder, loaded in (("glue", hub_qqp()), ("paws", hub_paws())):
        for name, rows in loaded.items():
            file = root / folder / f"{name}-00000-of-00001.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            rows.to_parquet(file)


def write_saved(root):
    hub_qqp().save_to_disk(root / "glue")
    hub_paws().save_to_disk(root / "paws")


def write_released(root):
    write_qqp(root)
    write_paws(root / "final" / "test.tsv")


def load(path):
    return load_data(TASK, "path", path=path)


@pytest.mark.parametrize("write", [write_released, write_parquet, write_saved])
def test_every_layout_gives_the_same_splits(tmp_path, write):
    write(tmp_path)
    data = load(tmp_path)
    assert purposes(data) == {"train": "train", "id": "in_domain", "paws_wiki": "ood"}
    for name in ("train", "id"):
        split = data.splits[name]
        assert pairs_of(split) == [pair[:2] for pair in QQP]
        assert split.labels == questions.LABELS
        assert split.label.tolist() == [1, 0, 0, 1]
        # overlaps 1, 0, 3/5, 1/11
        assert split.group.tolist() == [3, 0, 1, 2]
        assert split.ids[1] == f"QQP/{'train' if name == 'train' else 'dev'}:000001"
    paws = data.splits["paws_wiki"]
    assert pairs_of(paws) == [pair[:2] for pair in PAWS]
    assert paws.label.tolist() == [0, 1]
    assert set(paws.column("attribute")) == {"high_overlap"}
    assert list(paws.ids) == ["paws_wiki:1", "paws_wiki:2"]
    assert data.notes[0].startswith("overlap is high above 0.345")
    assert data.notes[0].endswith(", the median of the training pairs")
    assert [note.rpartition(" has ")[2] for note in data.notes[1:]] == [
        "4 rows, expected 363,846",
        "4 rows, expected 40,430",
        "2 rows, expected 8,000",
    ]


def test_paws_of_qqp_is_read_from_literals_of_bytes(tmp_path):
    write_released(tmp_path)
    write_paws_qqp(tmp_path)
    data = load(tmp_path)
    assert [split.name for split in data.evaluation] == ["id", "paws_wiki", "paws_qqp"]
    assert pairs_of(data.splits["paws_qqp"]) == [(a, f"{b} é 'x'") for a, b, _ in PAWS]


def test_the_folder_of_qqp_may_be_given_itself(tmp_path):
    write_qqp(tmp_path)
    write_paws(tmp_path / "QQP" / "dev_and_test.tsv")
    assert {*load(tmp_path / "QQP").splits} == {"train", "id", "paws_qqp"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b'a'", "a"),
        ('b"it\'s"', "it's"),
        (r"b'caf\xc3\xa9'", "café"),
        ("plain", "plain"),
        ("b'open", "b'open"),
        ("", ""),
    ],
)
def test_texts_and_literals(text, expected):
    assert released.text_of(text, "x") == expected


@pytest.mark.parametrize("text", [r"b'\xff'", "b'a' + b'b'", "b'é'", "b'a' if True else b'c'"])
def test_other_literals_are_refused(text):
    with pytest.raises(HarnessError, match=r"here: row 3: b'.* is no literal of UTF-8 bytes"):
        released.text_of(text, "here: row 3")


def test_the_hub(tmp_path, monkeypatch):
    with pytest.raises(HarnessError, match=r"cannot be reached .*nyu-mll/glue"):
        load_data(TASK, "hub")
    write_parquet(tmp_path)
    monkeypatch.setattr(released, "GLUE", str(tmp_path / "glue"))
    monkeypatch.setattr(released, "PAWS", str(tmp_path / "paws"))
    data = load_data(TASK, "hub")
    assert purposes(data) == {"train": "train", "id": "in_domain", "paws_wiki": "ood"}
    assert data.train.label.tolist() == [1, 0, 0, 1]


TRAIN = "QQP/train.tsv"


def edit(file, old, new):
    def damage(root):
        content = (root / file).read_text()
        assert old in content
        (root / file).write_text(content.replace(old, new, 1))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / TRAIN).unlink(), r"none of QQP/train\.tsv \(looked .* hub copy of QQP"),
        (
            lambda d: (d / "final" / "test.tsv").unlink(),
            r"none of final/test\.tsv, dev_and_test\.tsv .* hub copy of PAWS",
        ),
        (edit(TRAIN, "is_duplicate", "same"), r"train\.tsv: no column is_duplicate or label"),
        (edit(TRAIN, "?\t0", "?\t2"), r"train\.tsv: row 2: unknown label '2'"),
        (edit(TRAIN, "Where do", "Where\tdo"), r"train\.tsv:3: 7 fields, but the header names 6"),
        (edit("final/test.tsv", 'left ."', "left ."), r"test\.tsv:\d: not a quoted table"),
        (edit("final/test.tsv", "sentence2", "sentence"), r"test\.tsv: no column sentence2"),
        (
            lambda d: hub_paws().save_to_disk(d / "a") or write_twice(d),
            r"hub copies in both a/ and b/",
        ),
    ],
)
def test_broken_copies(tmp_path, damage, message):
    write_released(tmp_path)
    damage(tmp_path)
    with pytest.raises(HarnessError, match=message) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def write_twice(root):
    hub_paws().save_to_disk(root / "b")
    (root / "final" / "test.tsv").unlink()


def test_a_hub_copy_without_its_test_split(tmp_path):
    write_qqp(tmp_path)
    datasets.DatasetDict({"train": hub_paws()["train"]}).save_to_disk(tmp_path / "paws")
    with pytest.raises(HarnessError, match=r"paws: no split test \(found train\)"):
        load(tmp_path)


# ---- released rows


def test_fixtures_of_glue(real_data):
    folder = real_data / "fixtures" / "glue_qqp" / "QQP"
    train = released.read_qqp(folder / "train.tsv", "QQP/train")
    dev = released.read_qqp(folder / "dev.tsv", "QQP/dev")
    assert train.columns["label"] == ["not_duplicate", "duplicate", "not_duplicate"]
    assert dev.columns["label"] == ["not_duplicate", "not_duplicate"]
    assert all(text.endswith("?") for table in (train, dev) for text in table.columns["question2"])
    with pytest.raises(HarnessError, match="no column is_duplicate or label"):
        released.read_qqp(folder / "test.tsv", "QQP/test")


@pytest.mark.parametrize("write", [write_released, write_parquet, write_saved])
def test_without_training_pairs_the_overlap_is_given(tmp_path, write):
    write(tmp_path)
    whole = load(tmp_path)
    high = float(whole.notes[0].split()[4][:-1])
    files = ["QQP/train.tsv", "glue/train-*"]
    if write is write_saved:
        copy = hub_qqp()
        del copy["train"]
        files = ["glue"]
        (tmp_path / "glue").rename(tmp_path / "before")
        copy.save_to_disk(tmp_path / "glue")
        shutil.rmtree(tmp_path / "before")
        alone = load_data(
            TASK, "path", path=tmp_path, options={"high_overlap": high}, training=False
        )
    else:
        alone = evaluates_without(TASK, tmp_path, files, high_overlap=high)
    for name in ("id", "paws_wiki"):
        assert alone.splits[name].fingerprint == whole.splits[name].fingerprint
    with pytest.raises(HarnessError, match=r"--set qqp_paws\.high_overlap=X|no split train"):
        load_data(TASK, "path", path=tmp_path, training=False)


def test_one_paws_alone_is_enough_to_evaluate(tmp_path):
    write_paws(tmp_path / "final" / "test.tsv")
    options = {"high_overlap": 0.5}
    data = load_data(TASK, "path", path=tmp_path, options=options, training=False)
    assert [*data.splits] == ["paws_wiki"]
    assert data.notes[0] == "overlap is high above 0.5, qqp_paws.high_overlap"
    with pytest.raises(HarnessError, match=r"qqp_paws.high_overlap must be in \[0, 1\), found 2"):
        load_data(TASK, "path", path=tmp_path, options={"high_overlap": 2}, training=False)
