"""Dominoes: the two halves and how they are put together, from drawings and from hub copies."""

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
from harness_plugin_tasks._shared.images import cifar, mnist
from harness_plugin_tasks._shared.images.features import top_features
from harness_plugin_tasks.dominoes.build import stacked

TASK = read_task(resource_path("harness_plugin_tasks.dominoes:dominoes.yaml"))
SMALL = {"n_train": 200, "n_validation": 40, "n_test": 80}
GROUPS = ("automobile/0", "automobile/1", "truck/0", "truck/1")


@pytest.fixture(scope="module")
def embedded():
    return load_data(TASK, "embedded", options=SMALL)


def write_copy(folder, column, names, pictures):
    """A hub copy: `pictures` gives the picture of a class and a number; 30 and 20 a class."""
    folder.mkdir(parents=True)
    for name, each in (("train", 30), ("test", 20)):
        cells = [(y, i) for i in range(each) for y in range(10)]
        rows = datasets.Dataset.from_dict(
            {
                column: [Image.fromarray(pictures(y, i)) for y, i in cells],
                "label": [y for y, _ in cells],
            },
            features=datasets.Features(
                {column: datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
            ),
        )
        rows.to_parquet(folder / f"{name}-00000-of-00001.parquet")


@pytest.fixture
def copies(tmp_path):
    """A digit whose brightness says its class, a vehicle whose colour says class and number."""
    write_copy(
        tmp_path / "mnist",
        "image",
        mnist.DIGITS,
        lambda y, i: np.full((28, 28), 25 * y + 1, np.uint8),
    )
    write_copy(
        tmp_path / "cifar10" / "plain_text",
        "img",
        cifar.CLASSES,
        lambda y, i: np.full((32, 32, 3), (20 * y, 5 * i, 0), np.uint8),
    )
    return tmp_path


def test_halves_by_hand():
    digits = np.full((1, 28, 28), 200, np.uint8)
    picture = stacked(digits, np.full((1, 32, 32, 3), (10, 20, 30), np.uint8))[0]
    assert picture.shape == (64, 32, 3)
    assert (picture[2:30, 2:30] == 200).all()
    # zero-padded by two pixels on every side
    assert picture[:32].astype(int).sum() == 28 * 28 * 3 * 200
    assert (picture[32:] == (10, 20, 30)).all()


def test_embedded(embedded):
    result = {n: (s.purpose, s.group_counts.tolist()) for n, s in embedded.splits.items()}
    assert result == {
        "train": ("train", [95, 5, 5, 95]),
        "validation": ("validation", [19, 1, 1, 19]),
        "id": ("in_domain", [38, 2, 2, 38]),
        "randomised": ("ood", [20] * 4),
        "reversed": ("ood", [2, 38, 38, 2]),
    }
    for split in embedded.splits.values():
        assert split.groups == GROUPS
        np.testing.assert_array_equal(split.aligned, split.label == split.group % 2)
        assert split.rows[0]["image"].size == (32, 64)
    assert load_data(TASK, "embedded", options=SMALL).fingerprint == embedded.fingerprint
    other = load_data(TASK, "embedded", options=SMALL, seed=1)
    assert other.fingerprint != embedded.fingerprint


def test_test_sets_show_the_same_vehicles_below_other_digits(embedded):
    below = {}
    for name in ("id", "randomised", "reversed"):
        rows = embedded.splits[name].rows
        pictures = [np.asarray(image)[32:].tobytes() for image in rows["image"]]
        below[name] = dict(zip(rows["id"], pictures, strict=True))
    assert below["id"] == below["randomised"] == below["reversed"]
    train = {np.asarray(image)[32:].tobytes() for image in embedded.train.rows["image"]}
    assert not train & set(below["id"].values())


def test_bias_features_see_the_digit_and_not_the_vehicle(embedded):
    train, test = embedded.train, embedded.splits["randomised"]
    fitted = LogisticRegression().fit(top_features(train), train.column("digit"))
    features = top_features(test)
    assert features.shape == (80, 64)
    guess = fitted.predict(features)
    assert (guess == test.column("digit")).mean() > 0.95
    # half of the digits agree with the label
    assert ((guess == "1") == (test.label == 1)).mean() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("source", ["path", "hub"])
def test_copies(copies, monkeypatch, source):
    monkeypatch.setattr(mnist, "REPOSITORY", str(copies / "mnist"))
    monkeypatch.setattr(cifar, "REPOSITORY", str(copies / "cifar10" / "plain_text"))
    path = copies if source == "path" else None
    options = {"n_validation": 20, "fraction": 0.8}
    data = load_data(TASK, source, path=path, options=options)
    result = {name: split.group_counts.tolist() for name, split in data.splits.items()}
    # 30 of each half in train, ten of them for validation; 20 in test
    assert result == {
        "train": [16, 4, 4, 16],
        "validation": [8, 2, 2, 8],
        "id": [16, 4, 4, 16],
        "randomised": [10] * 4,
        "reversed": [4, 16, 16, 4],
    }
    seen = {}
    for name, split in data.splits.items():
        for row in split.rows:
            picture = np.asarray(row["image"]).astype(int)
            assert row["digit"] == str((picture[16, 16, 0] - 1) // 25)
            assert picture[48, 16, 0] == 20 * cifar.CLASSES.index(
                GROUPS[row["group"]].split("/")[0]
            )
            seen.setdefault(name, set()).add(tuple(picture[48, 16]))
    assert not seen["train"] & seen["validation"]
    assert "variant: CIFAR-10 train has 30 rows of truck, expected 5,000" in data.notes
    assert "variant: MNIST train has 30 rows of digit 1, expected 6,742" in data.notes


def test_too_many_rows_are_named(copies):
    with pytest.raises(
        HarnessError, match=r"240 train rows asked for .* 60 can be made of 30 auto"
    ):
        load_data(TASK, "path", path=copies, options=SMALL)


def test_missing_halves_are_named(copies):
    (copies / "cifar10").rename(copies / "elsewhere")
    (copies / "cifar-10-batches-py").mkdir()
    (copies / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"")
    with pytest.raises(HarnessError, match="files are Python pickles"):
        load_data(TASK, "path", path=copies)
    (copies / "mnist").rename(copies / "nowhere")
    with pytest.raises(HarnessError, match="found neither MNIST's idx files"):
        load_data(TASK, "path", path=copies)


def test_real_halves(real_data):
    data = load_data(TASK, "path", path=real_data)
    # 2,000 automobiles and trucks, 250 of each held out; 500 of each in the test set
    assert data.train.group_counts.tolist() == [1662, 88, 88, 1662]
    assert data.splits["randomised"].group_counts.tolist() == [250] * 4
    # all of MNIST, and a subset of CIFAR-10 in all ten classes and both sets
    assert len(data.notes) == 20
    assert "variant: CIFAR-10 train has 2,000 rows of truck, expected 5,000" in data.notes


def test_test_halves_alone_are_enough_to_evaluate(copies):
    evaluates_without(TASK, copies, ["mnist/train-*", "cifar10/*/train-*"], n_validation=20)
