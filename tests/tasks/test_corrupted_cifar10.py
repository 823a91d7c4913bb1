"""Corrupted CIFAR-10: the corruptions, CIFAR-10's columns, the released arrays, what can break."""

import pickle

import datasets
import numpy as np
import pytest
from evaluation_files import evaluates_without
from PIL import Image

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.images import cifar
from harness_plugin_tasks._shared.images.features import texture_features
from harness_plugin_tasks.corrupted_cifar10 import corruptions
from harness_plugin_tasks.corrupted_cifar10.corruptions import CORRUPTIONS, corrupted

TASK = read_task(resource_path("harness_plugin_tasks.corrupted_cifar10:corrupted_cifar10.yaml"))
SMALL = {"n_train": 200, "n_validation": 50, "n_test": 100}
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def embedded():
    return load_data(TASK, "embedded", options={**SMALL, "n_train": 400})


def load(path, **options):
    return load_data(TASK, "path", path=path, options={**SMALL, **options})


# ---- corruptions


def test_point_corruptions_by_hand():
    image = np.array([[[0.2, 0.4, 0.6], [0.4, 0.4, 0.4]]])
    np.testing.assert_allclose(corruptions.brightness(image, 0.3, RNG), image + 0.3)
    # distances from the mean colour (.3, .4, .5), halved
    np.testing.assert_allclose(
        corruptions.contrast(image, 0.5, RNG), [[[0.25, 0.4, 0.55], [0.35, 0.4, 0.45]]]
    )
    # a grey pixel has no colour to strengthen
    grey = np.full((2, 2, 3), 0.4)
    np.testing.assert_allclose(corruptions.saturate(grey, 5, RNG), grey, atol=1 / 255)


def test_neighbourhood_corruptions_by_hand():
    image = np.zeros((4, 4, 3))
    image[:2, :2] = 1
    image[0, 0] = 0
    # four blocks of 2 x 2, one of them with three white pixels
    blocks = corruptions.pixelate(image, 0.5, RNG)
    np.testing.assert_allclose(blocks[:2, :2], 0.75, atol=1 / 255)
    np.testing.assert_allclose(blocks[2:], 0)
    point = np.zeros((9, 9, 3))
    point[4, 4] = 1
    smeared = corruptions.motion_blur(point, 3, RNG)
    np.testing.assert_allclose(smeared[4, 3:6], 1 / 3)
    assert smeared.sum() == pytest.approx(3)
    blurred = corruptions.gaussian_blur(point, 1.0, RNG)
    assert blurred[4, 4, 0] == pytest.approx(1 / (2 * np.pi), abs=0.01)
    np.testing.assert_allclose(blurred[..., 0], blurred[..., 0].T)


def test_noise_has_the_strength_asked_for():
    image = np.full((100, 100, 3), 0.5)
    rng = np.random.default_rng(1)
    assert corruptions.gaussian_noise(image, 0.1, rng).std() == pytest.approx(0.1, rel=0.05)
    # variance of a Poisson count with mean 10, over 20 squared
    shot = corruptions.shot_noise(image, 20, rng)
    assert shot.mean() == pytest.approx(0.5, rel=0.02)
    assert shot.var() == pytest.approx(10 / 400, rel=0.05)
    hit = corruptions.impulse_noise(image, 0.2, rng)
    assert set(np.unique(hit)) == {0, 0.5, 1}
    assert (hit != 0.5).mean() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("kind", range(10), ids=list(CORRUPTIONS))
def test_every_corruption_grows_with_severity(embedded, kind):
    rng = np.random.default_rng(2)
    noise = rng.integers(60, 196, (20, 32, 32, 3), np.uint8)
    distance = [
        np.abs(corrupted(noise, np.full(20, kind), severity, rng).astype(int) - noise).mean()
        for severity in range(1, 6)
    ]
    assert distance[0] > 0
    assert distance == sorted(distance)


# ---- drawn shapes


def test_embedded(embedded):
    roles = {name: split.purpose for name, split in embedded.splits.items()}
    assert roles == {
        "train": "train",
        "validation": "validation",
        "id": "in_domain",
        "unbiased": "ood",
    }
    assert [len(split) for split in embedded.splits.values()] == [400, 50, 100, 100]
    train = embedded.train
    conflicting = train.group_counts[0::2]
    # 5% of every class
    rows = train.group_counts.reshape(10, 2).sum(1)
    np.testing.assert_array_equal(conflicting, np.maximum(np.round(rows * 0.05), 1))
    rows = embedded.splits["unbiased"].group_counts.reshape(10, 2)
    np.testing.assert_array_equal(rows[:, 0], np.round(rows.sum(1) * 0.9))
    for split in embedded.splits.values():
        own = split.column("corruption") == np.array(list(CORRUPTIONS))[split.label]
        np.testing.assert_array_equal(split.aligned, own)
        np.testing.assert_array_equal(split.group, 2 * split.label + own)


def test_texture_tells_noise_from_blur(embedded):
    split = embedded.train
    features, kind = texture_features(split), split.column("corruption")
    assert features.shape == (400, 12)
    step = features[:, 6:9].mean(axis=1)
    assert step[kind == "impulse_noise"].mean() > 3 * step[kind == "gaussian_blur"].mean()


# ---- CIFAR-10


def write_hub(root, n=40, label_feature=None):
    """The columns of uoft-cs/cifar10: img, label; a picture's colour says class and place."""
    root.mkdir(parents=True, exist_ok=True)
    feature = label_feature or datasets.ClassLabel(names=list(cifar.CLASSES))
    for name, each in (("train", n), ("test", n // 2)):
        label = np.arange(10 * each) % 10
        pixels = [
            np.full((32, 32, 3), (20 * y + 20, i % 250, i // 250), np.uint8)
            for i, y in enumerate(label)
        ]
        rows = datasets.Dataset.from_dict(
            {"img": [Image.fromarray(p) for p in pixels], "label": label.tolist()},
            features=datasets.Features({"img": datasets.Image(), "label": feature}),
        )
        rows.to_parquet(root / f"{name}-00000-of-00001.parquet")
    return root


@pytest.mark.parametrize("inside", ["", "cifar10/plain_text"])
def test_hub_layout(tmp_path, monkeypatch, inside):
    folder = write_hub(tmp_path / inside)
    data = load(tmp_path)
    assert [len(split) for split in data.splits.values()] == [200, 50, 100, 100]
    assert data.train.labels == cifar.CLASSES
    assert "variant: CIFAR-10 train has 40 rows of airplane, expected 5,000" in data.notes
    assert len(data.notes) == 20
    # plain colours survive a blur: they say the class that the row has
    for row in data.train.rows:
        if row["corruption"] in ("pixelate", "gaussian_blur", "motion_blur", "contrast"):
            assert np.asarray(row["image"])[0, 0, 0] == 20 * row["label"] + 20
    monkeypatch.setattr(cifar, "REPOSITORY", str(folder))
    assert load_data(TASK, "hub", options=SMALL).fingerprint == data.fingerprint


def test_swapped_class_numbers_do_not_matter(tmp_path):
    names = [*reversed(cifar.CLASSES)]
    write_hub(tmp_path, label_feature=datasets.ClassLabel(names=names))
    split = load(tmp_path).train
    for row in split.rows:
        if row["corruption"] == "pixelate":
            assert np.asarray(row["image"])[0, 0, 0] == 20 * (9 - row["label"]) + 20


def test_pickles_are_refused_unopened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(HarnessError, match=r"data_batch_1: .*pickles, .*use the parquet files"):
        load(tmp_path)
    assert not (tmp_path / "opened").exists()


def test_real_subset(real_data):
    data = load(real_data / "cifar10")
    assert data.notes[0] == "variant: CIFAR-10 train has 2,000 rows of airplane, expected 5,000"
    assert data.notes[19] == "variant: CIFAR-10 test has 500 rows of truck, expected 1,000"
    assert len(data.notes) == 20


# ---- released arrays


def write_arrays(root, kind="Type0", skew="0.05"):
    folder = root / f"CorruptedCIFAR10-{kind}-Skewed{skew}-Severity4"
    for name, cells in (
        ("train", [(y, y) for y in range(10)] * 3 + [(y, (y + 1) % 10) for y in range(10)]),
        ("valid", [(y, a) for y in range(10) for a in range(10)]),
    ):
        (folder / name).mkdir(parents=True)
        attributes = np.array(cells)
        images = np.zeros((len(cells), 32, 32, 3), np.uint8) + np.arange(
            len(cells), dtype=np.uint8
        ).reshape(-1, 1, 1, 1)
        np.save(folder / name / "images.npy", images)
        np.save(folder / name / "attrs.npy", attributes)
    return folder


NULLS = {"n_train": None, "n_validation": None, "n_test": None}


@pytest.mark.parametrize(("kind", "fourth"), [("Type0", "brightness"), ("Type1", "speckle_noise")])
def test_released_arrays(tmp_path, kind, fourth):
    folder = write_arrays(tmp_path, kind)
    for root in (tmp_path, folder):
        data = load(root, type=kind.lower(), **NULLS)
        assert {n: (s.purpose, len(s)) for n, s in data.splits.items()} == {
            "train": ("train", 40),
            "unbiased": ("ood", 100),
        }
        np.testing.assert_array_equal(data.train.group_counts, [1, 3] * 10)
        row = data.splits["unbiased"].rows[43]
        assert (row["label"], row["corruption"]) == (4, fourth)
        assert np.asarray(row["image"])[0, 0].tolist() == [43] * 3


def test_broken_arrays_are_named(tmp_path):
    train = write_arrays(tmp_path) / "train"

    def read(**options):
        return load(tmp_path, type="type0", **{**NULLS, **options})

    with pytest.raises(HarnessError, match=r"no directory .*Skewed0.01-Severity4/ \(found Corr"):
        read(conflict=0.01)
    with pytest.raises(HarnessError, match="leave n_train at null"):
        read(n_train=100)
    good = np.load(train / "attrs.npy")
    bad = good.copy()
    bad[2] = (3, 10)
    np.save(train / "attrs.npy", bad)
    with pytest.raises(HarnessError, match=r"attrs.npy: row 3: \[3, 10\], expected two numbers"):
        read()
    np.save(train / "attrs.npy", good[:-1])
    with pytest.raises(HarnessError, match=r"attrs.npy: shape \(39, 2\), expected \(40, 2\)"):
        read()
    np.save(train / "attrs.npy", good.astype(object), allow_pickle=True)
    with pytest.raises(HarnessError, match=r"attrs.npy: not an array that can be read"):
        read()
    (train / "attrs.npy").unlink()
    with pytest.raises(HarnessError, match=r"attrs.npy: no such file"):
        read()
    np.save(train / "images.npy", np.zeros((40, 32, 32), np.uint8))
    with pytest.raises(HarnessError, match=r"attrs.npy: no such file|images.npy: uint8 of shape"):
        read()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "type0", **NULLS}, "read from released arrays; give --data PATH"),
    ],
)
def test_options_that_cannot_work(options, message):
    source = "hub" if "type" in options else "embedded"
    with pytest.raises(HarnessError, match=message):
        load_data(TASK, source, options={**SMALL, **options})


def test_too_few_pictures(tmp_path):
    write_hub(tmp_path, n=4)
    with pytest.raises(HarnessError, match=r"250 train pictures asked for .*40 are there"):
        load(tmp_path)


def test_test_pictures_alone_are_enough_to_evaluate(tmp_path):
    evaluates_without(TASK, write_hub(tmp_path), ["train-*"], **SMALL)


def test_the_test_arrays_alone_are_enough_to_evaluate(tmp_path):
    evaluates_without(TASK, write_arrays(tmp_path), ["train"], type="type0", **NULLS)
