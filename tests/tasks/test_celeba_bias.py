"""CelebA with label and attribute as asked for: drawn faces, names, alignment, features."""

import dataclasses

import datasets
import numpy as np
import pytest
from celeba_copies import GROUPS, TASK
from sklearn.linear_model import LogisticRegression

from harness_plugin.data.dataset import load_data
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.crossed import alignment
from harness_plugin_tasks.celeba_bias import cells
from harness_plugin_tasks.celeba_bias.embedded import encoded, natural_counts
from harness_plugin_tasks.celeba_bias.faces import draw
from harness_plugin_tasks.celeba_bias.features import attribute_features


@pytest.fixture(scope="module")
def embedded():
    return load_data(TASK, "embedded")


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
        attribute_features(dataclasses.replace(split, content=rows))
