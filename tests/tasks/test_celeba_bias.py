"""The CelebA task: drawn faces, every layout of the release, and every way it can be broken."""

import csv
import dataclasses
import http.server
import threading
import time

import datasets
import numpy as np
import pytest
from evaluation_files import evaluates_without
from huggingface_hub import constants
from PIL import Image
from sklearn.linear_model import LogisticRegression

from harness_plugin.data import hub as hub_access
from harness_plugin.data.dataset import DataRequest, load_data
from harness_plugin.data.task import read_task, resource_path
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.crossed import alignment
from harness_plugin_tasks.celeba_bias import cells, hub
from harness_plugin_tasks.celeba_bias.embedded import encoded, natural_counts
from harness_plugin_tasks.celeba_bias.faces import draw
from harness_plugin_tasks.celeba_bias.features import attribute_features

TASK = read_task(resource_path("harness_plugin_tasks.celeba_bias:celeba_bias.yaml"))
GROUPS = (
    "not_blond_hair/Female",
    "not_blond_hair/Male",
    "blond_hair/Female",
    "blond_hair/Male",
)
# a copy of the release in small: faces by cell of Blond_Hair x Male
SMALL = {"train": (10, 8, 5, 1), "validation": (2, 1, 1, 1), "test": (3, 2, 2, 1)}


@pytest.fixture(scope="module")
def embedded():
    return load_data(TASK, "embedded")


@dataclasses.dataclass
class Copy:
    """What a small copy of CelebA holds, split after split, in the order of its images."""

    cell: np.ndarray
    part: np.ndarray
    table: np.ndarray  # (N, 40) of 0 / 1
    pixels: np.ndarray

    @property
    def names(self):
        return [f"{i + 1:06d}.jpg" for i in range(len(self.cell))]


@pytest.fixture(scope="module")
def copy():
    rng = np.random.default_rng(7)
    cell = np.concatenate([rng.permutation(np.repeat(range(4), n)) for n in SMALL.values()])
    part = np.repeat(range(3), [sum(n) for n in SMALL.values()])
    table = rng.integers(0, 2, (len(cell), 40))
    table[:, cells.ATTRIBUTES.index("Blond_Hair")] = cell // 2
    table[:, cells.ATTRIBUTES.index("Male")] = cell % 2
    # Smiling x Young: all four cells in every split
    table[:, cells.ATTRIBUTES.index("Smiling")] = np.arange(len(cell)) % 2
    table[:, cells.ATTRIBUTES.index("Young")] = np.arange(len(cell)) // 2 % 2
    return Copy(cell, part, table, draw(cell // 2 == 1, cell % 2 == 1, rng, 24))


def write_images(folder, copy):
    folder.mkdir(parents=True)
    for name, pixels in zip(copy.names, copy.pixels, strict=True):
        Image.fromarray(pixels).save(folder / name)


def write_release(root, copy):
    """torchvision's layout: runs of spaces, -1 / 1, a count line."""
    folder = root / "celeba"
    write_images(folder / "img_align_celeba", copy)
    rows = [
        f"{name} " + " ".join(f"{2 * value - 1:2d}" for value in values)
        for name, values in zip(copy.names, copy.table, strict=True)
    ]
    head = [str(len(rows)), " ".join(cells.ATTRIBUTES) + " "]
    (folder / "list_attr_celeba.txt").write_text("\n".join(head + rows) + "\n")
    parts = [f"{name} {part}" for name, part in zip(copy.names, copy.part, strict=True)]
    (folder / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return folder


def write_kaggle(root, copy, nested=True):
    write_images(root / "img_align_celeba" / ("img_align_celeba" if nested else ""), copy)
    with (root / "list_attr_celeba.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", *cells.ATTRIBUTES])
        for name, values in zip(copy.names, copy.table, strict=True):
            writer.writerow([name, *(2 * values - 1)])
    with (root / "list_eval_partition.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "partition"])
        writer.writerows(zip(copy.names, copy.part, strict=True))
    return root


def write_wilds(root, copy):
    root.mkdir(exist_ok=True)
    return write_kaggle(root, copy, nested=False)


def hub_splits(copy, coding, valid="valid"):
    """Rows as hub repositories hold them; `coding` turns 0 / 1 into what they store."""
    out = {}
    for number, name in enumerate(("train", valid, "test")):
        chosen = np.flatnonzero(copy.part == number)
        columns = {"image": encoded(copy.pixels[chosen])}
        if coding == "vector":
            columns["attributes"] = (2 * copy.table[chosen] - 1).tolist()
        else:
            for place, attribute in enumerate(cells.ATTRIBUTES):
                columns[attribute] = [coding(int(v)) for v in copy.table[chosen, place]]
        rows = datasets.Dataset.from_dict(columns)
        out[name] = rows.cast_column("image", datasets.Image())
    return datasets.DatasetDict(out)


def write_parquet(root, loaded, card=""):
    (root / "data").mkdir(parents=True)
    for name, rows in loaded.items():
        rows.to_parquet(root / "data" / f"{name}-00000-of-00001.parquet")
    if card:
        (root / "README.md").write_text(card)
    return root


def load(path, **options):
    return load_data(TASK, "path", path=path, options=options)


def check_small(data, copy, rows_by_split=None):
    assert [split.name for split in data.splits.values()] == ["train", "validation", "test"]
    assert [split.purpose for split in data.splits.values()] == ["train", "validation", "in_domain"]
    for number, split in enumerate(data.splits.values()):
        expected = copy.cell[copy.part == number]
        assert split.labels == ("not_blond_hair", "blond_hair")
        assert split.groups == GROUPS
        np.testing.assert_array_equal(split.group, expected)
        np.testing.assert_array_equal(split.label, expected // 2)
        assert list(split.column("attribute")) == [("Female", "Male")[c % 2] for c in expected]
        # 10 of 15 women are not blond, 18 of 24 faces are: not blond points away from women
        np.testing.assert_array_equal(split.aligned, np.array([0, 1, 1, 0])[expected])
    for row, image in enumerate(data.splits["test"].rows["image"]):
        pixels = np.asarray(image.convert("RGB")).astype(int)
        # a JPEG changes pixels a little, another face changes them a lot
        distance = np.abs(pixels - copy.pixels).mean(axis=(1, 2, 3))
        assert distance.argmin() == np.flatnonzero(copy.part == 2)[row]


# ---- drawn faces


def test_embedded_cells_have_celebas_proportions(embedded):
    counts = embedded.train.group_counts
    # 8,000 x (71,629, 66,874, 22,880, 1,387) / 162,770
    np.testing.assert_array_equal(counts, [3520, 3287, 1125, 68])
    assert counts[3] / counts.sum() < 0.01
    assert embedded.splits["id"].group_counts.min() >= 30
    np.testing.assert_array_equal(embedded.splits["balanced"].group_counts, [500] * 4)
    roles = {name: split.purpose for name, split in embedded.splits.items()}
    assert roles == {
        "train": "train",
        "validation": "validation",
        "id": "in_domain",
        "balanced": "ood",
    }
    # 800 x (71,629, 66,874, 22,880, 1,387) / 162,770
    np.testing.assert_array_equal(embedded.splits["validation"].group_counts, [352, 329, 112, 7])
    assert embedded.notes == ()


@pytest.mark.parametrize("n", [4, 7, 50, 1000, 8000])
def test_natural_counts_sum_to_n_and_leave_no_cell_empty(n):
    counts = natural_counts(n)
    assert counts.sum() == n
    assert counts.min() >= 1


def test_embedded_columns_agree_with_each_other(embedded):
    split = embedded.splits["balanced"]
    assert split.labels == ("not_blond_hair", "blond_hair")
    assert split.groups == GROUPS
    assert split.breakdowns == ("gender",)
    np.testing.assert_array_equal(split.label, split.group // 2)
    gender = np.array(["Female", "Male"])[split.group % 2]
    assert (split.column("attribute") == gender).all()
    assert (split.column("gender") == gender).all()
    np.testing.assert_array_equal(split.aligned, np.array([0, 1, 1, 0])[split.group])
    assert len(set(split.ids)) == len(split)


def test_embedded_images_are_rgb_faces_of_the_asked_size(embedded):
    image = embedded.train.rows[0]["image"]
    assert (image.mode, image.size) == ("RGB", (32, 32))
    larger = load_data(TASK, "embedded", options={"n_train": 16, "n_test": 16, "image_size": 48})
    assert larger.train.rows[0]["image"].size == (48, 48)


def test_ppm_files_keep_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    rows = datasets.Dataset.from_dict(
        {"image": encoded(pixels)}, features=datasets.Features({"image": datasets.Image()})
    )
    for i in range(2):
        np.testing.assert_array_equal(np.asarray(rows[i]["image"]), pixels[i])


def test_no_test_face_stands_in_train():
    first = load_data(TASK, "embedded", options={"n_train": 40, "n_test": 24})
    images = {
        name: {bytes(np.asarray(image).tobytes()) for image in split.rows["image"]}
        for name, split in first.splits.items()
    }
    assert not images["train"] & images["validation"]
    assert not images["train"] & images["id"]
    assert not images["train"] & images["balanced"]


def test_validation_faces_leave_the_others_as_they_are():
    small = {"n_train": 40, "n_test": 24, "image_size": 16}
    first, second = (
        load_data(TASK, "embedded", options={**small, "n_validation": n}).splits for n in (8, 30)
    )
    assert len(second["validation"]) == 30
    for name in ("train", "id", "balanced"):
        assert first[name].fingerprint == second[name].fingerprint


def test_the_planted_bias_fools_a_plain_fit_and_not_a_balanced_one():
    rng = np.random.default_rng(0)

    def faces(counts):
        cell = np.repeat(np.arange(4), counts)
        pixels = draw(cell // 2 == 1, cell % 2 == 1, rng, 16)
        return pixels.reshape(len(cell), -1) / 255 - 0.5, cell

    test, cell = faces([250] * 4)
    accuracy = {}
    for name, counts in (("natural", natural_counts(3000)), ("balanced", [750] * 4)):
        x, trained = faces(counts)
        right = LogisticRegression(C=0.01).fit(x, trained // 2).predict(test) == cell // 2
        accuracy[name] = [right[cell == group].mean() for group in range(4)]
    blond_men = 3
    assert np.argmin(accuracy["natural"]) == blond_men
    assert accuracy["natural"][blond_men] < 0.5
    assert min(accuracy["balanced"]) > 0.75


def test_embedded_refuses_another_pair():
    with pytest.raises(HarnessError, match=r"label=Smiling, attribute=Male .*--data hub"):
        load_data(TASK, "embedded", options={"label": "Smiling"})


def test_small_test_sets_are_noted():
    data = load_data(TASK, "embedded", options={"n_train": 40, "n_test": 80})
    assert data.notes[0].startswith("id: 1 rows of group blond_hair/Male")
    assert data.notes[1].startswith("balanced: 10 rows")


# ---- names and alignment


def aligned(counts):
    return list(alignment(np.reshape(counts, (2, 2))).reshape(-1))


def test_alignment_by_hand():
    # P(blond | F) = .242 > P(blond) = .149 > P(blond | M) = .020
    assert aligned(cells.TRAIN_CELLS) == [0, 1, 1, 0]
    # P(y = 1 | a = 1) = 3/4 > 1/2
    assert aligned([3, 1, 1, 3]) == [1, 0, 0, 1]
    # the attribute says nothing, or has one value only
    assert aligned([2, 4, 3, 6]) == [-1] * 4
    assert aligned([5, 0, 7, 0]) == [-1] * 4


def test_names_of_a_general_pair():
    pair = cells.Pair("Smiling", "Young")
    assert pair.labels == ("not_smiling", "smiling")
    assert pair.values == ("not_young", "young")
    assert pair.groups[1] == "not_smiling/young"


def test_expected_cells_sum_to_the_released_splits():
    assert len(cells.ATTRIBUTES) == 40
    for released in cells.RELEASED_CELLS.values():
        for name, rows in cells.RELEASED_ROWS.items():
            assert sum(released[name]) == rows


def test_variants_name_the_count_that_differs():
    class Counts:
        def __init__(self, counts):
            self.group_counts = np.array(counts)

        def __len__(self):
            return int(self.group_counts.sum())

    pair = cells.Pair("Blond_Hair", "Male")
    released = {name: Counts(n) for name, n in cells.RELEASED_CELLS["Blond_Hair", "Male"].items()}
    assert list(cells.variants(pair, released)) == []
    moved = {**released, "test": Counts((9_768, 7_534, 2_480, 180))}
    assert list(cells.variants(pair, moved)) == [
        "variant: test has 9,768 rows of not_blond_hair/Female, expected 9,767",
        "variant: test has 7,534 rows of not_blond_hair/Male, expected 7,535",
    ]
    shorter = {**released, "train": Counts((10, 10, 10, 10))}
    assert list(cells.variants(pair, shorter)) == ["variant: train has 40 rows, expected 162,770"]


# ---- released layouts


@pytest.mark.parametrize("write", [write_release, write_kaggle, write_wilds])
def test_original_layouts(tmp_path, copy, write):
    write(tmp_path / "data set", copy) if write is write_wilds else write(tmp_path, copy)
    data = load(tmp_path / "data set" if write is write_wilds else tmp_path)
    check_small(data, copy)
    assert list(data.splits["test"].ids) == [
        name for name, part in zip(copy.names, copy.part, strict=True) if part == 2
    ]
    assert "variant: train has 24 rows, expected 162,770" in data.notes


def test_released_images_stay_on_disk_until_read(tmp_path, copy):
    folder = write_release(tmp_path, copy)
    stored = load(tmp_path).train.rows.with_format("arrow")[0:1]["image"][0].as_py()
    assert stored == {"bytes": None, "path": str(folder / "img_align_celeba" / "000001.jpg")}


def test_the_celeba_folder_itself_is_accepted(tmp_path, copy):
    check_small(load(write_release(tmp_path, copy)), copy)


def test_any_pair_of_attributes(tmp_path, copy):
    write_release(tmp_path, copy)
    data = load(tmp_path, label="Smiling", attribute="Young")
    split = data.splits["test"]
    place = [cells.ATTRIBUTES.index(name) for name in ("Smiling", "Young")]
    smiling, young = copy.table[copy.part == 2][:, place].T
    assert split.labels == ("not_smiling", "smiling")
    assert split.breakdowns == ("young",)
    np.testing.assert_array_equal(split.group, 2 * smiling + young)
    # 24 training faces, six a cell: no association
    assert set(data.train.aligned) == {-1}


@pytest.mark.parametrize("store", ["parquet", "disk"])
@pytest.mark.parametrize(
    ("coding", "valid"),
    [(bool, "valid"), (lambda v: 2 * v - 1, "validation"), (int, "valid"), ("vector", "valid")],
    ids=["bool", "minus_one", "zero_one", "vector"],
)
def test_hub_layouts_on_disk(tmp_path, copy, store, coding, valid):
    loaded = hub_splits(copy, coding, valid)
    if store == "parquet":
        write_parquet(tmp_path / "copy", loaded)
    else:
        loaded.save_to_disk(tmp_path / "copy")
    check_small(load(tmp_path / "copy"), copy)


def test_parquet_without_feature_types(tmp_path, copy):
    """Written by pandas or pyarrow: the image column is a plain struct."""
    loaded = hub_splits(copy, int).cast_column(
        "image", {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    )
    check_small(load(write_parquet(tmp_path / "copy", loaded)), copy)


# ---- the hub


def test_hub_schema_through_a_local_snapshot(tmp_path, copy, monkeypatch):
    card = (
        "---\nconfigs:\n- config_name: img_align+identity+attr\n  data_files:\n"
        + "".join(
            f"  - split: {name}\n    path: data/{name}-*\n" for name in ("train", "valid", "test")
        )
        + "---\n"
    )
    snapshot = write_parquet(tmp_path / "snapshot", hub_splits(copy, bool), card)
    monkeypatch.setattr(hub, "REPOSITORY", str(snapshot))
    data = load_data(TASK, "hub")
    check_small(data, copy)
    assert data.source == "hub"
    # nothing was decoded on the way
    stored = data.train.rows.with_format("arrow")[0:1]["image"][0].as_py()
    assert stored["bytes"] == encoded(copy.pixels[:1])[0]


def test_offline_error_is_quick_and_names_the_alternatives():
    start = time.perf_counter()
    with pytest.raises(HarnessError) as error:
        load_data(TASK, "hub")
    assert time.perf_counter() - start < 1
    for part in ("cannot be reached", "flwrlabs/celeba", "--data PATH", "--data embedded"):
        assert part in str(error.value)


def test_hub_refuses_an_unknown_attribute_before_it_loads():
    with pytest.raises(HarnessError, match="Did you mean Blond_Hair"):
        load_data(TASK, "hub", options={"label": "Blonde_Hair"})


def test_probe_tells_an_answer_from_silence(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    # the handler knows no HEAD and answers 501: an answer all the same
    assert hub_access.probe(address) == ""
    thread.join()
    server.server_close()
    assert hub_access.probe(address) == "", "asked once a process"
    hub_access.probe.cache_clear()
    assert hub_access.probe(address).startswith(address)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "ENDPOINT", address)
    with pytest.raises(HarnessError, match=f"cannot be reached \\({address}"):
        hub_access.load_hub("nobody/nothing", revision="main")


def test_a_cached_copy_of_another_commit_is_refused(tmp_path, copy, monkeypatch):
    snapshot = write_parquet(tmp_path / "snapshot", hub_splits(copy, bool))
    loaded = hub_access.load_local(snapshot)
    assert hub_access.checked_commit(loaded, "main", "x") is loaded
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HarnessError, match="the cached copy is of revision"):
        hub_access.checked_commit(loaded, hub.REVISION, "data set 'x'")


def test_a_local_directory_with_a_script_is_refused(tmp_path):
    (tmp_path / "celeba").mkdir()
    (tmp_path / "celeba" / "celeba.py").touch()
    with pytest.raises(HarnessError, match="Dataset scripts are no longer supported"):
        hub_access.load_hub(str(tmp_path / "celeba"), revision="main")


def test_one_unnamed_split_is_refused(tmp_path, copy):
    hub_splits(copy, bool)["train"].save_to_disk(tmp_path / "copy")
    with pytest.raises(HarnessError, match="one unnamed split"):
        hub_access.load_local(tmp_path / "copy")


# ---- broken copies


def edit(file, old, new, count=1):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, count))


ATTR, PART = "list_attr_celeba.txt", "list_eval_partition.txt"
BROKEN = {
    "missing image": (
        lambda d: (d / "img_align_celeba" / "000003.jpg").unlink(),
        rf"{PART}:3: image .*000003\.jpg is missing",
    ),
    "missing folder": (
        lambda d: (d / "img_align_celeba").rename(d / "images"),
        "the directory img_align_celeba/ with the images is missing",
    ),
    "missing attributes": (
        lambda d: (d / ATTR).unlink(),
        r"list_attr_celeba\.txt or list_attr_celeba\.csv is missing",
    ),
    "missing partition": (
        lambda d: (d / PART).unlink(),
        r"list_eval_partition\.txt or list_eval_partition\.csv is missing",
    ),
    "count": (
        lambda d: edit(d / ATTR, "37\n", "38\n"),
        rf"{ATTR}:1: announces 38 images, but 37 follow",
    ),
    "no count": (lambda d: edit(d / ATTR, "37\n", ""), rf"{ATTR}:1: expected a count line"),
    "empty": (lambda d: (d / ATTR).write_text(""), rf"{ATTR}:1: expected a count line"),
    "short row": (
        lambda d: edit(d / ATTR, "000002.jpg ", "000002.jpg\n"),
        rf"{ATTR}:4: 1 fields, expected 41",
    ),
    "twice": (
        lambda d: edit(d / ATTR, "000002.jpg", "000001.jpg"),
        rf"{ATTR}:4: 000001\.jpg is listed twice",
    ),
    "bad partition": (
        lambda d: edit(d / PART, "000004.jpg 0", "000004.jpg 3"),
        rf"{PART}:4: '000004\.jpg 3' is not an image and a partition",
    ),
    "not in attributes": (
        lambda d: edit(d / PART, "000004.jpg", "900004.jpg"),
        rf"{PART}:4: 900004\.jpg is not listed in {ATTR}",
    ),
    "partition twice": (
        lambda d: edit(d / PART, "000004.jpg", "000003.jpg"),
        rf"{PART}:4: 000003\.jpg is listed twice",
    ),
    "no partition": (
        lambda d: edit(d / PART, "000004.jpg 0\n", ""),
        rf"{PART}: 1 images have no partition, first 000004\.jpg",
    ),
    "no training faces": (
        lambda d: (d / PART).write_text((d / PART).read_text().replace(" 0\n", " 1\n")),
        "no train faces",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_releases_name_file_and_line(tmp_path, copy, case):
    damage, message = BROKEN[case]
    damage(write_release(tmp_path, copy))
    with pytest.raises(HarnessError, match=message):
        load(tmp_path)


def test_an_attribute_value_that_is_none(tmp_path, copy):
    write_kaggle(tmp_path, copy)
    file = tmp_path / "list_attr_celeba.csv"
    rows = list(csv.reader(file.read_text().splitlines()))
    rows[5][1 + cells.ATTRIBUTES.index("Male")] = "2"
    with file.open("w", newline="") as text:
        csv.writer(text).writerows(rows)
    with pytest.raises(HarnessError, match=r"csv:6: Male is '2'; expected -1, 0 or 1"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "Blond_hair"}, "unknown attribute of list_attr_celeba.txt 'Blond_hair'. Did "),
        ({"attribute": "Mael"}, "Did you mean Male"),
        ({"label": "Male"}, "label and attribute are both Male"),
    ],
)
def test_unknown_attributes_show_near_matches(tmp_path, copy, options, message):
    write_release(tmp_path, copy)
    with pytest.raises(HarnessError, match=message):
        load(tmp_path, **options)


def test_paths_without_celeba(tmp_path):
    with pytest.raises(HarnessError, match="found neither list_attr_celeba"):
        load(tmp_path)
    with pytest.raises(HarnessError, match="nowhere is not a directory"):
        load(tmp_path / "nowhere")


def test_broken_hub_copies(copy):
    pair = cells.Pair("Blond_Hair", "Male")
    good = hub_splits(copy, lambda v: 2 * v - 1)
    request = DataRequest(TASK, "path", None, {})

    def refused(splits, match):
        with pytest.raises(HarnessError, match=match):
            hub.from_columns(datasets.DatasetDict(splits), pair, request, "here")

    refused({**good, "extra": good["test"]}, "here: split 'extra'")
    refused({**good, "validation": good["test"]}, "here: split 'validation' among")
    refused({"train": good["train"]}, "no test faces")
    refused({**good, "test": good["test"].remove_columns("image")}, "no column 'image'")
    missing = good["test"].rename_column("Male", "Mail")
    refused({**good, "test": missing}, r"split 'test' 'Male'\. Did you mean Mail")
    ages = np.full(len(good["test"]), 1)
    ages[2] = 7
    odd = good["test"].remove_columns("Male").add_column("Male", ages)
    refused({**good, "test": odd}, "split 'test': row 3: Male is 7; expected a bool, -1, 0 or 1")
    vectors = hub_splits(copy, "vector")
    short = vectors["test"].map(lambda row: {"attributes": row["attributes"][:39]})
    refused({**vectors, "test": short}, "must hold 40 values")


# ---- the bias-only view


def test_attribute_features_are_the_gender(embedded):
    split = embedded.splits["balanced"]
    features = attribute_features(split)
    assert features.dtype == np.float64
    np.testing.assert_array_equal(features, np.eye(2)[split.group % 2])


def test_attribute_features_need_the_annotation(embedded):
    split = embedded.splits["balanced"].select(range(3))
    rows = split.rows.remove_columns("attribute").add_column("attribute", ["Male", "", "Female"])
    with pytest.raises(HarnessError, match=r"row 2 \(id balanced-000001\) has attribute ''"):
        attribute_features(dataclasses.replace(split, rows=rows))


@pytest.mark.parametrize("write", [write_release, write_kaggle])
def test_test_images_alone_are_enough_to_evaluate(tmp_path, copy, write):
    folder = write(tmp_path, copy)
    files = [f"**/{name}" for name, part in zip(copy.names, copy.part, strict=True) if part < 2]
    evaluates_without(TASK, folder, files)


@pytest.mark.parametrize(
    ("pair", "aligned"),
    [(("Blond_Hair", "Male"), [0, 1, 1, 0]), (("Smiling", "Young"), [-1] * 4)],
)
def test_without_training_faces_the_release_says_what_is_aligned(tmp_path, copy, pair, aligned):
    write_parquet(tmp_path, hub_splits(copy, bool))
    for name in ("train", "valid"):
        (tmp_path / "data" / f"{name}-00000-of-00001.parquet").unlink()
    options = dict(zip(("label", "attribute"), pair, strict=True))
    data = load_data(TASK, "path", path=tmp_path, options=options, training=False)
    (split,) = data.splits.values()
    assert split.aligned.tolist() == [aligned[group] for group in split.group]
    assert [note for note in data.notes if note.startswith("variant: ")] == [
        f"variant: test has {len(split)} rows, expected 19,962"
    ]
    with pytest.raises(HarnessError, match="no train faces"):
        load(tmp_path)
