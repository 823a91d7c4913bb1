"""The waterbirds task: drawn birds, the released layout, the hub's, and how both can break."""

import csv

import datasets
import numpy as np
import pytest
from evaluation_files import evaluates_without
from PIL import Image

from harness_plugin.data.dataset import DataRequest, load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.images.features import border_features
from harness_plugin_tasks.waterbirds import cells, released

TASK = read_task(resource_path("harness_plugin_tasks.waterbirds:waterbirds.yaml"))
REQUEST = DataRequest(TASK, "path", None, {})
GROUPS = ("landbird/land", "landbird/water", "waterbird/land", "waterbird/water")
HEADER = ["img_id", "img_filename", "y", "split", "place", "place_filename"]
# (label, split, place) of a small copy: every cell in every split, the biased ones twice in train
ROWS = [
    (y, split, place)
    for split in range(3)
    for y in range(2)
    for place in range(2)
    for _ in range(1 + (split == 0 and y == place))
]


def metadata(folder):
    """Rows as the release has them, images of one colour that says which row they are."""
    rows = []
    for i, (y, split, place) in enumerate(ROWS):
        name = f"{y:03d}.Some_bird, small/bird_{i}.jpg"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * i, 0, 0)).save(folder / name, quality=100)
        rows.append([str(i + 100), name, str(y), str(split), str(place), "/f/forest/1.jpg"])
    return rows


def write(folder, rows):
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return folder


def load(path):
    return load_data(TASK, "path", path=path)


def check_small(data):
    assert [split.purpose for split in data.splits.values()] == ["train", "validation", "ood"]
    for number, split in enumerate(data.splits.values()):
        expected = [(y, place) for y, part, place in ROWS if part == number]
        assert split.groups == GROUPS
        assert split.group.tolist() == [2 * y + place for y, place in expected]
        assert split.aligned.tolist() == [int(y == place) for y, place in expected]
        assert list(split.column("place")) == [("land", "water")[a] for _, a in expected]
        red = [np.asarray(image)[..., 0].mean() for image in split.rows["image"]]
        places = [i for i, row in enumerate(ROWS) if row[1] == number]
        np.testing.assert_allclose(red, [10 * i for i in places], atol=4)


@pytest.mark.parametrize("below", [".", released.FOLDER, "waterbirds"])
def test_original_layout(tmp_path, below):
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    write(folder, metadata(folder))
    data = load(tmp_path)
    check_small(data)
    assert data.train.ids.tolist() == ["100", "101", "102", "103", "104", "105"]
    assert data.notes[0] == "variant: train has 2 rows of landbird/land, expected 3,498"
    assert len(data.notes) == 12
    stored = data.train.rows.with_format("arrow")[0:1]["image"][0].as_py()
    assert stored["bytes"] is None  # images stay on disk until they are read


def test_released_counts_and_a_regenerated_copy():
    class Counts:
        def __init__(self, counts):
            self.group_counts = np.array(counts)

    released_splits = {name: Counts(counts) for name, counts in cells.RELEASED.items()}
    assert [sum(counts) for counts in cells.RELEASED.values()] == [4795, 1199, 5794]
    assert list(cells.variants(released_splits)) == []
    other = {
        **released_splits,
        "train": Counts((3525, 186, 54, 1030)),
        "validation": Counts((452, 452, 147, 148)),
    }
    notes = list(cells.variants(other))
    assert notes[0] == "variant: train has 3,525 rows of landbird/land, expected 3,498"
    assert notes[-1] == "variant: validation has 148 rows of waterbird/water, expected 133"
    assert len(notes) == 8


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (3, 1, "../secret.jpg", r"metadata.csv: row 4: img_filename is '../secret.jpg', expected"),
        (3, 1, "/etc/passwd", r"row 4: img_filename is '/etc/passwd', expected"),
        (3, 1, "", r"row 4: img_filename is '', expected"),
        (3, 1, "000/none.jpg", r"row 4: image .*none.jpg is missing"),
        (5, 0, "102", r"metadata.csv: row 6: img_id 102 was already used in row 3"),
        (0, 2, "landbird", r"metadata.csv: row 1: y is 'landbird', expected one of 0, 1"),
        (0, 3, "3", r"metadata.csv: row 1: split is '3', expected one of 0, 1, 2"),
        (1, 4, "-1", r"metadata.csv: row 2: place is '-1', expected one of 0, 1"),
    ],
)
def test_a_broken_row_is_named(tmp_path, row, column, value, message):
    rows = metadata(tmp_path)
    rows[row][column] = value
    with pytest.raises(HarnessError, match=message):
        load(write(tmp_path, rows))


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(HarnessError, match=r"found neither metadata\.csv"):
        load(tmp_path)
    with pytest.raises(HarnessError, match="is not a directory; give --data PATH"):
        load(tmp_path / "nowhere")
    rows = [row for row in metadata(tmp_path) if row[3] != "1"]
    with pytest.raises(HarnessError, match=r"no validation images \(found train, test\)"):
        load(write(tmp_path, rows))


def test_an_unreadable_image_is_named(tmp_path):
    write(tmp_path, metadata(tmp_path))
    broken = load(tmp_path).train
    path = broken.rows.with_format("arrow")[1:2]["image"][0].as_py()["path"]
    with open(path, "wb") as file:
        file.write(b"no image")
    with pytest.raises(HarnessError, match=r"row 2.* cannot be "):
        border_features(broken)


def hub_splits(typed):
    out = {}
    for number, name in enumerate(("train", "validation", "test")):
        rows = [(i, y, place) for i, (y, part, place) in enumerate(ROWS) if part == number]
        numbers = datasets.Value("int64")
        features = {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["landbird", "waterbird"]) if typed else numbers,
            "place": datasets.ClassLabel(names=["land", "water"]) if typed else numbers,
        }
        columns = {
            "image": [Image.new("RGB", (8, 8), (10 * i, 0, 0)) for i, _, _ in rows],
            "label": [y for _, y, _ in rows],
            "place": [place for _, _, place in rows],
        }
        out[name] = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    return datasets.DatasetDict(out)


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("store", ["parquet", "disk"])
def test_hub_layout(tmp_path, typed, store, monkeypatch):
    folder = tmp_path / "copy"
    if store == "disk":
        hub_splits(typed).save_to_disk(folder)
    else:
        (folder / "data").mkdir(parents=True)
        for name, rows in hub_splits(typed).items():
            rows.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    check_small(load(folder))
    monkeypatch.setattr(released, "REPOSITORY", str(folder))
    check_small(load_data(TASK, "hub"))


def test_hub_labels_are_matched_by_name_and_checked():
    swapped = datasets.ClassLabel(names=["waterbird", "landbird"])
    loaded = hub_splits(False)
    turned = {
        name: rows.map(lambda row: {"label": 1 - row["label"]}).cast_column("label", swapped)
        for name, rows in loaded.items()
    }
    check_small(released.from_columns(turned, REQUEST, "copy"))
    loaded["test"] = loaded["test"].map(lambda row, i: {"place": 2 * i}, with_indices=True)
    with pytest.raises(HarnessError, match=r"copy, split 'test': row 2: place '2', expected"):
        released.from_columns(loaded, REQUEST, "copy")
    with pytest.raises(HarnessError, match="copy: split 'extra', expected train, validation, test"):
        released.from_columns({"extra": loaded["train"]}, REQUEST, "copy")
    with pytest.raises(HarnessError, match=r"no column 'place' \(found image, label"):
        released.from_columns({"train": loaded["train"].remove_columns(["place"])}, REQUEST, "copy")


SMALL = {"n_train": 200, "n_validation": 40, "n_id": 60, "n_balanced": 40}


def test_embedded_birds():
    data = load_data(TASK, "embedded", options=SMALL)
    # 200 x (3,498, 184, 56, 1,057) / 4,795
    assert data.train.group_counts.tolist() == [146, 8, 2, 44]
    assert data.splits["balanced"].group_counts.tolist() == [10] * 4
    roles = [split.purpose for split in data.splits.values()]
    assert roles == ["train", "validation", "in_domain", "ood"]
    assert data.train.rows[0]["image"].size == (32, 32)


def test_the_border_shows_the_place_and_not_the_bird():
    from sklearn.linear_model import LogisticRegression

    data = load_data(TASK, "embedded", options={**SMALL, "n_train": 400, "n_balanced": 200})
    split = data.splits["balanced"]
    model = LogisticRegression(max_iter=2000).fit(border_features(data.train), data.train.label)
    guessed = model.predict(border_features(split))
    place = split.column("place") == "water"
    assert (guessed == place).mean() > 0.9
    assert (guessed == split.label).mean() == pytest.approx(0.5, abs=0.1)


def test_test_images_alone_are_enough_to_evaluate(tmp_path):
    rows = metadata(tmp_path)
    write(tmp_path, rows)
    data = evaluates_without(TASK, tmp_path, [row[1] for row in rows if row[3] != "2"])
    assert len(data.notes) == 5  # four cells of the test set, and that nothing was trained on
