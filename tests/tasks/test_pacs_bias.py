"""PACS: drawings, the tree of the release, the hub's columns, the design, and what can break."""

import datasets
import numpy as np
import pytest
from PIL import Image

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin.errors import HarnessError
from harness_plugin_tasks.pacs_bias import released
from harness_plugin_tasks.pacs_bias.design import CLASSES, DOMAINS, biased_counts, most

TASK = read_task(resource_path("harness_plugin_tasks.pacs_bias:pacs_bias.yaml"))
SMALL = {"n_validation": 8, "n_id": 8, "n_balanced": 8, "bias_rate": 0.75}
GROUPS = ("animal/photo", "animal/sketch", "other/photo", "other/sketch")
EACH = 6
"""Pictures of every class and domain in the copies that the tests write."""


def cells():
    return [(d, k, i) for d in range(4) for k in range(7) for i in range(EACH)]


def picture(d, k, i):
    """A picture whose colour says its domain, class and number."""
    return Image.fromarray(np.full((8, 8, 3), (60 * d, 30 * k, 40 * i), np.uint8))


@pytest.fixture
def tree(tmp_path):
    for d, k, i in cells():
        place = tmp_path / "PACS" / DOMAINS[d] / CLASSES[k]
        place.mkdir(parents=True, exist_ok=True)
        picture(d, k, i).save(place / f"pic_{i:03d}.png")
    return tmp_path


def hub_rows(domain_feature):
    """The columns of flwrlabs/pacs: image, domain, label."""
    named = isinstance(domain_feature, datasets.ClassLabel)
    return datasets.Dataset.from_dict(
        {
            "image": [picture(*cell) for cell in cells()],
            "domain": [d if named else DOMAINS[d] for d, _, _ in cells()],
            "label": [k for _, k, _ in cells()],
        },
        features=datasets.Features(
            {
                "image": datasets.Image(),
                "domain": domain_feature,
                "label": datasets.ClassLabel(names=list(CLASSES)),
            }
        ),
    )


def load(path, **options):
    return load_data(TASK, "path", path=path, options={**SMALL, **options})


def check_small(data):
    """24 pictures in animal/photo, 18 in other/sketch; 2 + 3 + 3 are for test and validation."""
    counts = {name: split.group_counts.tolist() for name, split in data.splits.items()}
    # 10 of other/sketch are left: 14 rows a label, of which 3.5 are in the other domain
    assert counts == {
        "train": [10, 4, 4, 10],
        "validation": [3, 1, 1, 3],
        "id": [3, 1, 1, 3],
        "balanced": [2, 2, 2, 2],
    }
    seen = [id for split in data.splits.values() for id in split.ids]
    assert len(set(seen)) == len(seen)
    for split in data.splits.values():
        assert split.groups == GROUPS
        np.testing.assert_array_equal(split.aligned, [g in (0, 3) for g in split.group])
        for row in split.rows:
            red, green, _ = np.asarray(row["image"])[0, 0]
            assert DOMAINS[red // 60] == row["domain"] == row["attribute"]
            assert CLASSES[green // 30] == row["class"]
            assert row["label"] == (row["class"] in ("guitar", "house", "person"))


# ---- the design


def test_counts_by_hand():
    np.testing.assert_array_equal(biased_counts(100, 0.95), [[95, 5], [5, 95]])
    np.testing.assert_array_equal(biased_counts(4, 0.95), [[3, 1], [1, 3]])
    # 95 own rows allow 100 a label; ten rows of another domain would allow 200
    assert most(np.array([[95, 10], [99, 300]]), 0.95) == 100
    # 5% of 49 rows, 2.45, is the most that rounds to 2
    assert most(np.array([[950, 2], [99, 950]]), 0.95) == 49


def test_embedded():
    options = {"n_train": 400, "n_validation": 40, "n_id": 40, "n_balanced": 40}
    data = load_data(TASK, "embedded", options=options)
    counts = {name: split.group_counts.tolist() for name, split in data.splits.items()}
    assert counts == {
        "train": [190, 10, 10, 190],
        "validation": [19, 1, 1, 19],
        "id": [19, 1, 1, 19],
        "balanced": [10] * 4,
    }
    roles = [split.purpose for split in data.splits.values()]
    assert roles == ["train", "validation", "in_domain", "ood"]
    for row in data.splits["balanced"].rows:
        pixels = np.asarray(row["image"]).astype(int)
        assert pixels.shape == (32, 32, 3)
        # sketches are grey, photos are not
        assert (np.ptp(pixels, axis=2).max() == 0) == (row["attribute"] == "sketch")


def test_embedded_draws_no_other_classes_or_domains():
    for options in ({"domains": ["photo", "cartoon"]}, {"classes": [["dog"], ["house"]]}):
        with pytest.raises(HarnessError, match=r"needs the real pictures: use --data hub"):
            load_data(TASK, "embedded", options=options)


# ---- released layouts


@pytest.mark.parametrize("inside", ["", "PACS"])
def test_tree_of_the_release(tree, inside):
    data = load(tree / inside)
    check_small(data)
    assert "variant: photo has 6 rows of dog, expected 189" in data.notes
    assert len(data.notes) == 28
    assert data.train.ids[0].count("/") == 2


@pytest.mark.parametrize("layout", ["train", "all", "disk"])
@pytest.mark.parametrize(
    "feature", [datasets.Value("string"), datasets.ClassLabel(names=list(DOMAINS))]
)
def test_hub_layouts(tmp_path, monkeypatch, layout, feature):
    if layout == "disk":
        datasets.DatasetDict({"train": hub_rows(feature)}).save_to_disk(tmp_path / "copy")
    else:
        (tmp_path / "copy").mkdir()
        hub_rows(feature).to_parquet(tmp_path / "copy" / f"{layout}-00000-of-00001.parquet")
    check_small(load(tmp_path / "copy"))
    monkeypatch.setattr(released, "REPOSITORY", str(tmp_path / "copy"))
    check_small(load_data(TASK, "hub", options=SMALL))


def test_two_single_classes(tree):
    options = {"classes": ["dog", "horse"], "labels": ["dog", "horse"], "n_train": 4}
    small = {"n_validation": 4, "n_id": 4, "n_balanced": 4, "bias_rate": 0.6}
    data = load_data(TASK, "path", path=tree, options={**small, **options})
    assert set(data.train.column("class")) == {"dog", "horse"}
    assert data.train.group_counts.tolist() == [1, 1, 1, 1]


def test_real_pacs(real_data):
    data = load_data(TASK, "path", path=real_data / "pacs64")
    # all 28 counts are the release's
    assert data.notes == ()
    # 772 photos of animals, less 95, 95 and 100, are 95% of 507 rows
    assert data.train.group_counts.tolist() == [482, 25, 25, 482]
    assert data.splits["balanced"].group_counts.tolist() == [100] * 4


# ---- what can break


def test_missing_and_unknown_directories_are_named(tree):
    wrong = (tree / "PACS" / "photo" / "dog").rename(tree / "PACS" / "photo" / "cat")
    with pytest.raises(HarnessError, match=r"photo: found the directories cat, .*expected dog"):
        load(tree)
    wrong.rename(tree / "PACS" / "photo" / "dog")
    (tree / "PACS" / "sketch").rename(tree / "PACS" / "sketches")
    with pytest.raises(HarnessError, match=r"PACS: the directory sketch/ is missing"):
        load(tree)


def test_another_folder_is_named(tmp_path):
    with pytest.raises(HarnessError, match="found neither <domain>/<class>/"):
        load(tmp_path)


def test_an_unknown_domain_is_named(tmp_path):
    rows = hub_rows(datasets.Value("string"))
    changed = rows.remove_columns("domain").add_column("domain", ["oil"] + ["photo"] * 167)
    changed.to_parquet(tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(HarnessError, match=r"split 'train': row 1: domain 'oil', expected one of"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_train": 400}, r"24 pictures of animal/photo|18 pictures of other/sketch"),
        ({"classes": [["dog"], ["cat"]]}, "unknown class or domain of PACS 'cat'"),
        ({"classes": [["dog"], ["dog", "horse"]]}, "may stand once"),
        ({"domains": ["photo"]}, "pacs_bias.domains must be a list of two different"),
        ({"bias_rate": 1}, "pacs_bias.bias_rate must be between 0 and 1"),
    ],
)
def test_options_that_cannot_work(tree, options, message):
    with pytest.raises(HarnessError, match=message):
        load(tree, **options)
