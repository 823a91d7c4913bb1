"""The cmnist task: MNIST's files, both colourings, drawn digits, and every way files can break."""

import gzip
import shutil

import datasets
import numpy as np
import pytest
from evaluation_files import evaluates_without
from PIL import Image
from sklearn.linear_model import LogisticRegression

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.images import mnist
from harness_plugin_tasks._shared.images.features import border_features, colour_features
from harness_plugin_tasks._shared.images.splits import Cells, cell_split, image_column
from harness_plugin_tasks._shared.planted import own_cues, proportional
from harness_plugin_tasks.cmnist.colours import PALETTE, painted

TASK = read_task(resource_path("harness_plugin_tasks.cmnist:cmnist.yaml"))


def packed(raw: bytes) -> bytes:
    """As gzip writes it, without the time: parameters of a test are the same in every process."""
    return gzip.compress(raw, mtime=0)


SMALL = {"n_train": 400, "n_validation": 40, "n_test": 100}


@pytest.fixture(scope="module")
def digits():
    """200 training and 100 test images of noise, with classes."""
    rng = np.random.default_rng(3)
    return {
        name: mnist.Digits(rng.integers(0, 256, (n, 28, 28), np.uint8), np.arange(n) % 10)
        for name, n in (("train", 200), ("test", 100))
    }


def idx(values, magic):
    shape = np.array([magic, *values.shape], ">u4").tobytes()
    return shape + values.astype(np.uint8).tobytes()


def write_idx(folder, digits, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in mnist.FILES.items():
        for stem, values, magic in (
            (images, digits[name].pixels, 2051),
            (labels, digits[name].label, 2049),
        ):
            raw = idx(values, magic)
            file = folder / (f"{stem}.gz" if packed else stem)
            file.write_bytes(gzip.compress(raw) if packed else raw)
    return folder


def load(path, **options):
    return load_data(TASK, "path", path=path, options={"n_validation": 20, **options})


def images_of(split):
    return np.stack([np.asarray(image) for image in split.rows["image"]])


# ---- shared pieces


def test_image_columns_keep_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 5, 7, 3), np.uint8)
    rows = image_column(pixels)
    assert rows.features == datasets.Features({"image": datasets.Image()})
    np.testing.assert_array_equal(np.stack([np.asarray(i) for i in rows["image"]]), pixels)
    np.testing.assert_array_equal(np.asarray(rows.select([8, 2])[0]["image"]), pixels[8])


def test_image_columns_are_cut_into_chunks_without_a_seam(monkeypatch):
    monkeypatch.setattr("harness_plugin_tasks._shared.images.splits.CHUNK", 4)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 2, 2, 3), np.uint8)
    rows = image_column(pixels)
    np.testing.assert_array_equal(np.stack([np.asarray(i) for i in rows["image"]]), pixels)


def test_groups_by_value_and_by_alignment():
    pixels = np.zeros((3, 2, 2, 3), np.uint8)
    label, value = np.array([0, 1, 1]), np.array([0, 0, 1])
    expected = {
        "value": (("a/x", "a/y", "b/x", "b/y"), [0, 2, 3]),
        "alignment": (("a/conflicting", "a/aligned", "b/conflicting", "b/aligned"), [1, 2, 3]),
    }
    for by, (groups, group) in expected.items():
        cells = Cells(("a", "b"), ("x", "y"), "cue", by=by)
        split = cell_split("s", "ood", cells, pixels, label=label, value=value)
        assert split.groups == groups
        assert split.group.tolist() == group
        assert split.aligned.tolist() == [1, 0, 1]
        assert list(split.column("cue")) == list(split.column("attribute")) == ["x", "x", "y"]


def test_own_cues_by_hand():
    label = np.repeat([0, 1, 2], [200, 100, 10])
    cue = own_cues(np.random.default_rng(0), label, 0.02, 3)
    assert [(cue[label == y] != y).sum() for y in range(3)] == [4, 2, 1]
    assert np.bincount(cue[label == 0], minlength=3).tolist() == [196, 2, 2]


@pytest.mark.parametrize("n", [4, 7, 50, 4795])
def test_proportional_sums_to_n(n):
    counts = proportional(n, (3498, 184, 56, 1057))
    assert counts.sum() == n
    assert counts.min() >= 1
    assert proportional(4795, (3498, 184, 56, 1057)).tolist() == [3498, 184, 56, 1057]


# ---- colours


def test_white_takes_its_colour_and_black_stays_black():
    grey = np.array([[[255, 0]], [[128, 255]]], np.uint8)
    out = painted(grey, np.array([(200, 10, 0), (0, 100, 255)], np.uint8))
    assert out[0, 0].tolist() == [[200, 10, 0], [0, 0, 0]]
    assert out[1, 0].tolist() == [[0, 50, 128], [0, 100, 255]]


def test_real_mnist_and_exact_conflict_counts(real_data):
    splits, notes = mnist.read_mnist(request(real_data))
    for name, digits in splits.items():
        assert np.bincount(digits.label).tolist() == list(mnist.RELEASED[name])
    assert splits["train"].label[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert notes == []


def request(path):
    from harness_plugin.data.dataset import DataRequest, resolve_options

    return DataRequest(TASK, "path", path, resolve_options(TASK, {}))


def test_real_cmnist_is_exact_and_stable(real_data):
    data = load_data(TASK, "path", path=real_data, options={"n_train": 20_000, "n_test": 2_000})
    assert data.notes == ()
    assert [len(split) for split in data.splits.values()] == [20_000, 5_000, 2_000, 2_000]
    for name, conflict in (("train", 0.01), ("validation", 0.9), ("id", 0.01), ("unbiased", 0.9)):
        split = data.splits[name]
        for digit in range(10):
            aligned = split.aligned[split.label == digit]
            assert (aligned == 0).sum() == max(round(len(aligned) * conflict), 1)
    # the palette says which colour a digit was given
    split = data.splits["unbiased"].select(range(200))
    colour = [PALETTE[name] for name in split.column("attribute")]
    brightest = images_of(split).reshape(200, -1, 3).max(axis=1)
    np.testing.assert_allclose(brightest, colour, atol=3)
    again = load_data(TASK, "path", path=real_data, options={"n_train": 20_000, "n_test": 500})
    assert again.train.fingerprint == data.train.fingerprint
    assert set(data.train.ids) != set(data.splits["validation"].ids)


def test_the_binary_design(real_data):
    data = load_data(
        TASK, "path", path=real_data, options={"design": "irm", "n_train": 20_000, "n_test": 5_000}
    )
    train, reverse = data.train, data.splits["reversed"]
    assert train.labels == ("low", "high")
    assert train.groups == ("low/red", "low/green", "high/red", "high/green")
    environment = np.asarray(train.column("environment"))
    # four standard errors of 10,000 and 5,000 draws
    assert train.aligned[environment == "e1"].mean() == pytest.approx(0.9, abs=0.012)
    assert train.aligned[environment == "e2"].mean() == pytest.approx(0.8, abs=0.016)
    assert reverse.aligned.mean() == pytest.approx(0.1, abs=0.017)
    assert set(reverse.column("environment")) == {"test"}
    # .75 of the labels are those of the digit
    pixels = images_of(reverse.select(range(50)))
    red = np.asarray(reverse.column("attribute"))[:50] == "red"
    assert not pixels[red][..., 1].any()
    assert not pixels[~red][..., 0].any()
    assert not pixels[..., 2].any()
    assert pixels.any(axis=(1, 2, 3)).all()


def test_label_noise_is_the_share_of_flipped_labels(tmp_path):
    blank = {
        name: mnist.Digits(np.zeros((n, 2, 2), np.uint8), np.arange(n) % 10)
        for name, n in (("train", 400), ("test", 2000))
    }
    folder = write_idx(tmp_path, blank)
    for noise in (0.05, 0.25):
        data = load(folder, design="irm", label_noise=noise)
        flipped = data.splits["reversed"].label != (blank["test"].label >= 5)
        # four standard errors of 2,000 draws
        assert flipped.mean() == pytest.approx(noise, abs=0.039)


# ---- drawn digits


def test_embedded_splits():
    data = load_data(TASK, "embedded", options=SMALL)
    roles = {name: (split.purpose, len(split)) for name, split in data.splits.items()}
    assert roles == {
        "train": ("train", 400),
        "validation": ("validation", 40),
        "id": ("in_domain", 100),
        "unbiased": ("ood", 100),
    }
    # a digit of 40 has 1 of another colour; of 10, 9 of them where all ten are equally frequent
    assert data.train.group_counts.tolist() == [1, 39] * 10
    assert data.splits["unbiased"].group_counts.tolist() == [9, 1] * 10
    assert data.train.rows[0]["image"].size == (28, 28)
    assert data.splits["id"].ids.tolist() == [f"id-{i:06d}" for i in range(100)]


def test_drawn_digits_can_be_told_apart():
    data = load_data(TASK, "embedded", options={**SMALL, "n_train": 1500, "n_test": 300})
    grey = {
        name: images_of(split).max(axis=-1).reshape(len(split), -1) / 255
        for name, split in data.splits.items()
    }
    label = {name: split.label for name, split in data.splits.items()}
    scale = {name: x / x.max(axis=1, keepdims=True) for name, x in grey.items()}
    model = LogisticRegression(C=0.1).fit(scale["train"], label["train"])
    assert model.score(scale["unbiased"], label["unbiased"]) > 0.8


def test_colour_features_see_the_colour_and_border_features_the_border():
    data = load_data(TASK, "embedded", options={**SMALL, "n_train": 800, "n_test": 400})
    split = data.splits["unbiased"]
    train, test = colour_features(data.train), colour_features(split)
    assert train.shape == (800, 67)
    model = LogisticRegression(max_iter=2000, C=100).fit(train, data.train.label)
    guessed = np.array(list(PALETTE))[model.predict(test)]
    assert (guessed == split.column("attribute")).mean() > 0.9
    assert model.score(test, split.label) < 0.2
    np.testing.assert_allclose(test[:, 3:].sum(axis=1), 1)
    framed = np.full((2, 32, 32, 3), 255, np.uint8)
    framed[:, 5:-5, 5:-5] = 0
    cells = Cells(("a",), ("a",), "cue")
    zero = np.zeros(2, np.int64)
    np.testing.assert_allclose(
        border_features(cell_split("s", "ood", cells, framed, label=zero, value=zero))[:, :3], 1
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"design": "irm", "label_noise": 2}, "cmnist.label_noise must be between 0 and 1"),
    ],
)
def test_options_that_cannot_work(options, message):
    with pytest.raises(HarnessError, match=message):
        load_data(TASK, "embedded", options={**SMALL, **options})


# ---- files


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", [".", "mnist", "MNIST/raw"])
def test_idx_layouts(tmp_path, digits, packed, below):
    write_idx(tmp_path / below, digits, packed)
    data = load(tmp_path)
    assert [len(split) for split in data.splits.values()] == [180, 20, 100, 100]
    np.testing.assert_array_equal(data.splits["id"].label, digits["test"].label)
    assert "variant: MNIST train has 20 rows of digit 0, expected 5,923" in data.notes


@pytest.mark.parametrize("store", ["parquet", "disk"])
def test_hub_layout(tmp_path, digits, store, monkeypatch):
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list("0123456789"))}
    )
    loaded = datasets.DatasetDict(
        {
            name: datasets.Dataset.from_dict(
                {"image": [Image.fromarray(p) for p in part.pixels], "label": part.label},
                features=features,
            )
            for name, part in digits.items()
        }
    )
    folder = tmp_path / "copy"
    if store == "disk":
        loaded.save_to_disk(folder)
    else:
        folder.mkdir()
        for name, rows in loaded.items():
            rows.to_parquet(folder / f"{name}-00000-of-00001.parquet")
    from_files = load(write_idx(tmp_path / "idx", digits))
    copied = load(folder)
    assert copied.fingerprint == from_files.fingerprint
    monkeypatch.setattr(mnist, "REPOSITORY", str(folder))
    hub = load_data(TASK, "hub", options={"n_validation": 20})
    assert hub.fingerprint == from_files.fingerprint


def test_swapped_class_names_are_matched_by_name():
    rows = datasets.Dataset.from_dict(
        {"label": [0, 1]},
        features=datasets.Features({"label": datasets.ClassLabel(names=["1", "0"])}),
    )
    assert mnist.class_indices(rows, mnist.DIGITS, "here").tolist() == [1, 0]
    with pytest.raises(HarnessError, match=r"here: row 2: label '11', expected one of 0, 1"):
        mnist.class_indices(datasets.Dataset.from_dict({"label": [3, 11]}), mnist.DIGITS, "here")


def test_hub_image_of_another_size_is_named():
    rows = datasets.Dataset.from_dict(
        {"image": [Image.new("L", (28, 28)), Image.new("L", (27, 28))]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    with pytest.raises(HarnessError, match=r"here: row 2: the image is 28x27, expected 28x28"):
        mnist.decoded(rows, "here", "L")


TRAIN_IMAGES, TRAIN_LABELS = (f"{stem}.gz" for stem in mnist.FILES["train"])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (TRAIN_IMAGES, None, "train-images-idx3-ubyte.gz is missing"),
        (TRAIN_IMAGES, b"no gzip", "train-images-idx3-ubyte.gz: truncated, or not a gzip file"),
        (TRAIN_IMAGES, packed(b"1234"), "4 bytes, expected a header of 16"),
        (
            TRAIN_IMAGES,
            packed(idx(np.zeros((200, 28, 28)), 2051)[:-1]),
            "156,799 bytes follow the header, expected 156,800 .200 x 28 x 28.",
        ),
        (
            TRAIN_LABELS,
            packed(idx(np.zeros(200), 2051)),
            "labels-idx1-ubyte.gz: magic number 2051, expected 2049",
        ),
        (
            TRAIN_LABELS,
            packed(idx(np.zeros(199), 2049)),
            "199 labels, but train-images-idx3-ubyte.gz has 200 images",
        ),
        (
            TRAIN_LABELS,
            packed(idx(np.full(200, 10), 2049)),
            "labels-idx1-ubyte.gz: row 1: label 10, expected 0 to 9",
        ),
    ],
)
def test_broken_idx_files_are_named(tmp_path, digits, file, content, message):
    write_idx(tmp_path, digits)
    (tmp_path / file).unlink() if content is None else (tmp_path / file).write_bytes(content)
    with pytest.raises(HarnessError, match=message):
        load(tmp_path)


def test_a_gzip_file_that_was_cut_off_is_named(tmp_path, digits):
    file = write_idx(tmp_path, digits) / TRAIN_IMAGES
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(HarnessError, match=f"{TRAIN_IMAGES}: truncated"):
        load(tmp_path)


def test_too_few_digits_and_empty_folders(tmp_path, digits):
    with pytest.raises(HarnessError, match="found neither MNIST's idx files"):
        load(tmp_path)
    with pytest.raises(HarnessError, match="is not a directory; give --data PATH"):
        load(tmp_path / "nowhere")
    write_idx(tmp_path, digits)
    with pytest.raises(HarnessError, match=r"200 training digits, fewer than .*\(210\) together"):
        load(tmp_path, n_train=190)
    with pytest.raises(HarnessError, match="100 test digits, fewer than n_test 101"):
        load(tmp_path, n_test=101)


# ---- the release of Lee et al. 2021


@pytest.fixture
def lee(tmp_path):
    root = tmp_path / "cmnist"
    for part, label, colour in [
        *(("1pct/align", y, y) for y in range(10)),
        *(("1pct/conflict", y, (y + 1) % 10) for y in range(10)),
        *(("1pct/valid", y, 3) for y in range(10)),
        *(("test", y, a) for y in range(10) for a in (y, (y + 2) % 10)),
    ]:
        folder = root / part / ("" if part.endswith("valid") else str(label))
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{len(list(folder.iterdir()))}_{label}_{colour}.png"
        Image.new("RGB", (28, 28), (label, colour, 0)).save(folder / name)
    return root


def test_lee_layout(tmp_path, lee):
    for path in (tmp_path, lee):
        data = load_data(TASK, "path", path=path)
        assert {name: split.purpose for name, split in data.splits.items()} == {
            "train": "train",
            "validation": "validation",
            "unbiased": "ood",
        }
        assert [len(split) for split in data.splits.values()] == [20, 10, 20]
        assert data.train.aligned.tolist() == [1] * 10 + [0] * 10
        for split in data.splits.values():
            stored = images_of(split)[:, 0, 0, :2].astype(int)
            np.testing.assert_array_equal(stored[:, 0], split.label)
            assert [f"colour{a}" for a in stored[:, 1]] == list(split.column("colour"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1pct/align/4/0_4_4.png", "1pct/align/4/x_4.png", "ends in _<digit>_<colour>"),
        ("1pct/align/4/0_4_4.png", "1pct/align/4/0_5_5.png", "label 5, expected 4 as its folder"),
        ("1pct/align/4/0_4_4.png", "1pct/align/4/0_4_7.png", "label 4 and colour 7 in the folder"),
        ("test", "tests", "the directory test/ is missing"),
        ("1pct/valid", "1pct/validation", "valid: no such directory"),
    ],
)
def test_broken_lee_layouts_are_named(lee, old, new, message):
    shutil.move(lee / old, lee / new)
    with pytest.raises(HarnessError, match=message):
        load_data(TASK, "path", path=lee)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conflict": 0.02}, r"no folder for cmnist.conflict=0.02 \(found 1pct\)"),
        ({"design": "irm"}, "leave cmnist.design at the default"),
        ({"n_train": 50}, "leave cmnist.n_train at the default"),
    ],
)
def test_options_that_the_lee_release_cannot_follow(lee, options, message):
    with pytest.raises(HarnessError, match=message):
        load_data(TASK, "path", path=lee, options=options)


@pytest.mark.parametrize("design", ["tenclass", "irm"])
def test_the_test_digits_alone_are_enough_to_evaluate(tmp_path, digits, design):
    folder = write_idx(tmp_path, digits)
    options = {"design": design, "n_validation": 10, "n_test": None}
    evaluates_without(TASK, folder, ["train-*"], **options)


def test_the_test_set_of_lee_alone_is_enough_to_evaluate(tmp_path, lee):
    evaluates_without(TASK, lee, ["*pct"], conflict=0.01)
