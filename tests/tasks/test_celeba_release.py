"""CelebA in every layout of the release and of the hub, and broken copies."""

import csv
import http.server
import threading

import datasets
import numpy as np
import pytest
from celeba_copies import (
    SMALL,
    TASK,
    Copy,
    check_small,
    hub_splits,
    load,
    write_hub,
    write_kaggle,
    write_release,
    write_wilds,
)
from evaluation_files import evaluates_without
from huggingface_hub import constants

from harness_plugin.data import hub as hub_access
from harness_plugin.data.dataset import DataRequest, load_data
from harness_plugin.errors import HarnessError
from harness_plugin_tasks.celeba_bias import cells, hub
from harness_plugin_tasks.celeba_bias.embedded import encoded
from harness_plugin_tasks.celeba_bias.faces import draw


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
        write_hub(tmp_path / "copy", loaded)
    else:
        loaded.save_to_disk(tmp_path / "copy")
    check_small(load(tmp_path / "copy"), copy)


def test_parquet_without_feature_types(tmp_path, copy):
    """Written by pandas or pyarrow: the image column is a plain struct."""
    loaded = hub_splits(copy, int).cast_column(
        "image", {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    )
    check_small(load(write_hub(tmp_path / "copy", loaded)), copy)


# ---- the hub


def test_hub_schema_through_a_local_snapshot(tmp_path, copy, monkeypatch):
    card = (
        "---\nconfigs:\n- config_name: img_align+identity+attr\n  data_files:\n"
        + "".join(
            f"  - split: {name}\n    path: data/{name}-*\n" for name in ("train", "valid", "test")
        )
        + "---\n"
    )
    snapshot = write_hub(tmp_path / "snapshot", hub_splits(copy, bool), card)
    monkeypatch.setattr(hub, "REPOSITORY", str(snapshot))
    data = load_data(TASK, "hub")
    check_small(data, copy)
    assert data.source == "hub"
    # nothing was decoded on the way
    stored = data.train.rows.with_format("arrow")[0:1]["image"][0].as_py()
    assert stored["bytes"] == encoded(copy.pixels[:1])[0]


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
    snapshot = write_hub(tmp_path / "snapshot", hub_splits(copy, bool))
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
    write_hub(tmp_path, hub_splits(copy, bool))
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
