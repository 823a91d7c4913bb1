"""CivilComments: generated comments, the file of WILDS and its copies, the 16 overlapping cells."""

import csv
import hashlib

import datasets
import numpy as np
import pytest
from huggingface_hub import constants
from releases import purposes

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin.errors import HarnessError
from harness_plugin_tasks.civilcomments import comments, released
from harness_plugin_tasks.civilcomments import embedded as generated

TASK = read_task(resource_path("harness_plugin_tasks.civilcomments:civilcomments.yaml"))
SMALL = {"n_train": 800, "n_validation": 200, "n_id": 800, "n_balanced": 320, "bias_rate": 0.9}
COARSE_GROUPS = (
    "non_toxic/no_identity",
    "non_toxic/any_identity",
    "toxic/no_identity",
    "toxic/any_identity",
)


@pytest.fixture(scope="module")
def embedded():
    return load_data(TASK, "embedded", options=SMALL)


# ---- which way a mention points


def of(rows):
    """Comments from (toxic, identities) pairs."""
    mentioned = np.array([[name in who for name in comments.IDENTITIES] for _, who in rows])
    toxic = np.array([toxic for toxic, _ in rows])
    ids = [f"{i}" for i in range(len(rows))]
    return comments.Comments([f"text {i}" for i in ids], ids, toxic, mentioned)


@pytest.mark.parametrize(
    ("rows", "chosen", "expected"),
    [
        # 2 of 3 mentions are toxic, 1 of 3 others
        ([(1, "male"), (1, "black"), (0, "male"), (1, ""), (0, ""), (0, "")], "coarse", 1),
        ([(0, "male"), (1, ""), (0, ""), (1, "")], "coarse", 0),
        ([(0, "male"), (1, "male"), (0, ""), (1, "")], "coarse", -1),
        # black: 1 of 1; the others 2 of 5
        ([(1, "male"), (1, "black"), (0, "male"), (1, ""), (0, ""), (0, "")], "black", 1),
        ([(1, "male"), (0, "")], "black", -1),
    ],
)
def test_direction_of_a_mention(rows, chosen, expected):
    rows = [(bool(toxic), (who,)) for toxic, who in rows]
    assert comments.direction(of(rows), chosen) == expected


def test_cells_overlap_and_training_groups_do_not():
    rows = of([(True, ("male", "white")), (False, ("male",)), (True, ()), (False, ("white",))])
    train = comments.comment_split("train", "train", rows, "coarse", 1, "x")
    assert train.groups == COARSE_GROUPS[1:]
    assert [train.groups[g] for g in train.group] == [
        "toxic/any_identity",
        "non_toxic/any_identity",
        "toxic/no_identity",
        "non_toxic/any_identity",
    ]
    assert train.aligned.tolist() == [1, 0, 0, 0]
    test = comments.comment_split("id", "in_domain", rows, "coarse", 0, "x")
    assert test.groups == ("non_toxic/male", "toxic/male", "non_toxic/white", "toxic/white")
    assert test.group.tolist() == [-1] * 4
    assert test.membership.tolist() == [
        [False, True, False, True],
        [True, False, False, False],
        [False] * 4,
        [False, False, True, False],
    ]
    assert test.group_counts.tolist() == [1, 1, 1, 1]
    assert test.aligned.tolist() == [0, 1, 1, 1]
    one = comments.comment_split("train", "train", rows, "white", -1, "x")
    assert [one.groups[g] for g in one.group] == [
        "toxic/white",
        "non_toxic/not_white",
        "toxic/not_white",
        "non_toxic/white",
    ]
    assert one.aligned.tolist() == [-1] * 4


def test_mention_features_are_one_hot():
    rows = of([(True, ("male",)), (False, ())])
    split = comments.comment_split("train", "train", rows, "coarse", 1, "x")
    assert comments.mention_features(split).tolist() == [[1, 0], [0, 1]]


# ---- generated comments


def test_comments_mean_their_label_and_name_whom_they_mention(embedded):
    for split in embedded.splits.values():
        evaluated = split.purpose in ("in_domain", "ood")
        for row, members in zip(split.rows, split.membership, strict=True):
            who, sentence = row["text"].split(" . ")
            insult = sentence.split()[-2] in generated.INSULTS
            assert insult != (sentence.split()[-2] in generated.PRAISE)
            toxic = insult != sentence.startswith("nobody calls")
            label = split.labels[row["label"]]
            assert label == ("toxic" if toxic else "non_toxic")
            named = {
                identity
                for identity, word in zip(comments.IDENTITIES, generated.MENTIONS, strict=True)
                if word in who.split()
            }
            assert row["attribute"] == ("any_identity" if named else "no_identity")
            assert row["aligned"] == int(bool(named) == toxic)
            if evaluated:
                cells = {split.groups[i] for i in np.flatnonzero(members)}
                assert cells == {f"{label}/{identity}" for identity in named}


def test_mentions_agree_as_often_as_asked(embedded):
    assert purposes(embedded) == {
        "train": "train",
        "validation": "validation",
        "id": "in_domain",
        "balanced": "ood",
    }
    assert embedded.train.groups == COARSE_GROUPS
    assert embedded.train.aligned.mean() == pytest.approx(0.9, abs=0.01)
    assert embedded.splits["id"].aligned.mean() == pytest.approx(0.9)
    balanced = embedded.splits["balanced"]
    assert balanced.aligned.mean() == 0.5
    assert balanced.groups == embedded.splits["id"].groups == comments.CELLS
    # 80 mentions a label, 10 of every identity and some more as the second one
    assert balanced.group_counts.min() >= 10
    assert 160 < balanced.membership.sum() < 160 * 1.5
    assert (balanced.membership.sum(axis=1) == 2).any()
    seen = {*embedded.train.rows["text"], *embedded.splits["validation"].rows["text"]}
    assert not seen & {*balanced.rows["text"], *embedded.splits["id"].rows["text"]}


def test_training_groups_of_one_identity(embedded):
    data = load_data(TASK, "embedded", options={**SMALL, "train_groups": "black"})
    assert {group.split("/")[1] for group in data.train.groups} == {"black", "not_black"}
    mentioned = np.array(["black" in text.split() for text in data.train.rows["text"]])
    np.testing.assert_array_equal(data.train.column("attribute") == "black", mentioned)
    assert data.splits["id"].groups == comments.CELLS
    assert data.train.rows["text"][:] == embedded.train.rows["text"][:]


# ---- small copies of WILDS' file, in our words


ROWS = [
    # text, split, toxicity, identities with their shares
    ('nice "day"\nto all', "train", 0.0, {"male": 0.5}),
    ("you fools, all", "train", 0.5, {"male": 1.0, "white": 0.6}),
    ("hello", "train", 0.49, {"male": 0.49}),
    ("fools", "train", 1.0, {}),
    ("None", "val", 0.1, {}),
    ("good night", "val", 0.9, {"black": 0.75}),
    ("good morning", "test", 0.2, {"muslim": 1.0, "black": 0.5}),
    ("you clowns", "test", 0.8, {"muslim": 0.9}),
    ("so what", "test", 0.3, {}),
]
AUXILIARY = ("identity_any", "severe_toxicity", "insult")
HEADER = ("", "id", "comment_text", "split", "toxicity", *comments.IDENTITIES, *AUXILIARY)


def records(rows=ROWS):
    for number, (text, part, toxicity, shares) in enumerate(rows):
        identities = [str(shares.get(name, 0.0)) for name in comments.IDENTITIES]
        yield [str(number), str(900 + number), text, part, str(toxicity), *identities, "0", "", "0"]


def write_csv(file, header=HEADER, rows=ROWS):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as text:
        csv.writer(text).writerows([header, *records(rows)])
    return file


def write_release(root):
    write_csv(root / "civilcomments_v1.0" / released.FILE)


def write_bare(root):
    write_csv(root / released.FILE)


def hub_rows():
    columns = dict(zip(HEADER, zip(*records(), strict=True), strict=True))
    numbers = {"toxicity", *comments.IDENTITIES}
    return datasets.Dataset.from_dict(
        {
            name or "Unnamed: 0": [float(v) for v in values] if name in numbers else [*values]
            for name, values in columns.items()
        }
    )


def write_saved(root):
    datasets.DatasetDict({"train": hub_rows()}).save_to_disk(root / "civil")


def write_parquet(root):
    (root / "civil").mkdir()
    hub_rows().to_parquet(root / "civil" / "train.parquet")


def load(path, **options):
    return load_data(TASK, "path", path=path, options=options)


def check_small(data):
    assert purposes(data) == {"train": "train", "validation": "validation", "id": "in_domain"}
    train, validation, test = data.splits.values()
    assert train.rows["text"][:] == [row[0] for row in ROWS[:4]]
    # toxic from a share of one half on, and so are mentions
    assert train.label.tolist() == [0, 1, 0, 1]
    assert [train.groups[g] for g in train.group] == [COARSE_GROUPS[i] for i in (1, 3, 0, 2)]
    assert list(test.ids) == ["000006", "000007", "000008"]
    assert validation.rows["text"][0] == "None"
    assert validation.groups == ("non_toxic/no_identity", "toxic/any_identity")
    assert test.groups == ("non_toxic/muslim", "toxic/muslim", "non_toxic/black")
    assert test.membership.tolist() == [
        [True, False, True],
        [False, True, False],
        [False, False, False],
    ]


@pytest.mark.parametrize("write", [write_release, write_bare, write_saved, write_parquet])
def test_every_layout_gives_the_same_splits(tmp_path, write):
    write(tmp_path)
    data = load(tmp_path)
    check_small(data)
    assert data.notes[0].endswith("has 9 rows, expected 448,000")
    if write is write_bare:
        digest = hashlib.sha256((tmp_path / released.FILE).read_bytes()).hexdigest()[:16]
        assert data.notes[1].endswith(f"has SHA-256 {digest}…, expected 403e638c83a225d7…")
    assert len(data.notes) == 1 + (write in (write_release, write_bare))


def test_the_hub_serves_the_file_it_has_cached(tmp_path, monkeypatch):
    with pytest.raises(HarnessError, match=r"cannot be reached .*all_data_with_identities\.csv"):
        load_data(TASK, "hub")
    cached = tmp_path / "hub" / f"datasets--{released.REPOSITORY.replace('/', '--')}" / "snapshots"
    write_csv(cached / released.REVISION / released.FILE)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    check_small(load_data(TASK, "hub"))


def test_auxiliary_columns_may_be_missing(tmp_path):
    file = write_csv(tmp_path / released.FILE)
    kept = [i for i, name in enumerate(HEADER) if name not in AUXILIARY]
    with file.open(newline="") as text:
        rows = [[row[i] for i in kept] for row in csv.reader(text)]
    with file.open("w", newline="") as text:
        csv.writer(text).writerows(rows)
    check_small(load(tmp_path))


def renamed(old, new):
    return lambda d: write_csv(d / released.FILE, tuple(new if h == old else h for h in HEADER))


def without_split(part):
    return lambda d: write_csv(d / released.FILE, rows=[row for row in ROWS if row[1] != part])


def changed(place, value):
    row = list(ROWS[2])
    row[place] = value
    return lambda d: write_csv(d / released.FILE, rows=[*ROWS[:2], tuple(row), *ROWS[3:]])


def without_identities(root):
    (root / released.FILE).unlink()
    (root / "google").mkdir()
    rows = datasets.Dataset.from_dict({"text": ["a"], "toxicity": [0.5], "insult": [0.5]})
    rows.to_parquet(root / "google" / "train.parquet")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / released.FILE).unlink(), r"found none of all_data_with_identities\.csv"),
        (
            renamed("black", "Black"),
            r"csv: no column black for identities, but",
        ),
        (without_identities, "holds comments without identities, .* google/civil_comments on the"),
        (renamed("toxicity", "target"), r"csv: no column toxicity \(found , id, comment_text"),
        (changed(1, "dev"), r"csv: row 3: split is 'dev'; expected train, val, test"),
        (changed(2, 1.5), r"csv: row 3: toxicity is '1\.5'; expected a share from 0 to 1"),
        (changed(2, "high"), r"csv: row 3: toxicity is 'high'; expected a share"),
        (changed(3, {"black": ""}), r"csv: row 3: black is ''; expected a share"),
        (without_split("val"), r"csv: no row of split val"),
    ],
)
def test_broken_copies(tmp_path, damage, message):
    write_bare(tmp_path)
    damage(tmp_path)
    with pytest.raises(HarnessError, match=message) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)
