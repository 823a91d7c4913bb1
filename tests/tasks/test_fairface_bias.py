"""FairFace by age and gender: drawings, both layouts, the design, and what can break."""

from collections import Counter

import datasets
import numpy as np
import pytest
from PIL import Image

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin.errors import HarnessError
from harness_plugin_tasks.fairface_bias import released
from harness_plugin_tasks.fairface_bias.design import AGES, GENDERS, biased

TASK = read_task(resource_path("harness_plugin_tasks.fairface_bias:fairface_bias.yaml"))
SMALL = {"n_train": 16, "n_validation": 8, "n_id": 8, "n_balanced": 8, "bias_rate": 0.75}
GROUPS = ("young/Female", "young/Male", "old/Female", "old/Male")
FACES = [(age, gender, i) for age in AGES for gender in GENDERS for i in range(6)]
"""The faces of either set in the copies that the tests write."""


def picture(age, gender, i):
    return Image.fromarray(
        np.full((8, 8, 3), (25 * AGES.index(age), 90 * GENDERS.index(gender), 40 * i), np.uint8)
    )


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "fairface"
    for part in released.PARTS:
        (root / part).mkdir(parents=True)
        lines = ["file,age,gender,race,service_test"]
        for number, face in enumerate(FACES, 1):
            picture(*face).save(root / part / f"{number}.jpg")
            lines.append(f"{part}/{number}.jpg,{face[0]},{face[1]},never read,False")
        (root / f"fairface_label_{part}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def copy(tmp_path):
    """The hub's columns; ages are a ClassLabel in one set and texts in the other."""
    for part, named in (("train", True), ("validation", False)):
        feature = datasets.ClassLabel(names=list(AGES)) if named else datasets.Value("string")
        rows = datasets.Dataset.from_dict(
            {
                "image": [picture(*face) for face in FACES],
                "age": [AGES.index(age) if named else age for age, _, _ in FACES],
                "gender": [gender for _, gender, _ in FACES],
            },
            features=datasets.Features(
                {
                    "image": datasets.Image(),
                    "age": feature,
                    "gender": datasets.Value("string"),
                }
            ),
        )
        rows.to_parquet(tmp_path / f"{part}-00000-of-00001.parquet")
    return tmp_path


def load(source, path=None, **options):
    return load_data(TASK, source, path=path, options={**SMALL, **options})


def test_a_label_mostly_comes_in_its_own_gender():
    assert biased(100, 0.97).tolist() == [[48, 2], [2, 48]]
    assert biased(8, 0.99).tolist() == [[3, 1], [1, 3]]  # a row at least


@pytest.mark.parametrize("source", ["embedded", "tree", "copy"])
def test_sets_are_disjoint_and_as_designed(source, request):
    place = None if source == "embedded" else request.getfixturevalue(source)
    data = load("path" if place else "embedded", place)
    counts = {name: split.group_counts.tolist() for name, split in data.splits.items()}
    assert counts == {
        "train": [6, 2, 2, 6],
        "validation": [3, 1, 1, 3],
        "id": [3, 1, 1, 3],
        "balanced": [2, 2, 2, 2],
    }
    ids = Counter(i for split in data.splits.values() for i in split.ids.tolist())
    assert set(ids.values()) == {1}
    for split in data.splits.values():
        assert split.groups == GROUPS
        for label, age, gender, aligned in zip(
            split.label,
            split.texts("age").to_pylist(),
            split.texts("attribute").to_pylist(),
            split.aligned,
            strict=True,
        ):
            assert label == (AGES.index(age) >= 5)
            assert aligned == (label == GENDERS.index(gender))


@pytest.mark.parametrize("source", ["embedded", "tree"])
def test_validation_may_have_equal_groups(source, request):
    place = None if source == "embedded" else request.getfixturevalue(source)
    data = load("path" if place else "embedded", place, validation_bias_rate=0.5)
    counts = {name: split.group_counts.tolist() for name, split in data.splits.items()}
    assert counts["validation"] == [2, 2, 2, 2]
    assert counts["train"] == [6, 2, 2, 6]
    assert counts["id"] == [3, 1, 1, 3]


@pytest.mark.parametrize("source", ["tree", "copy"])
def test_tests_are_drawn_from_the_validation_set_alone(source, request):
    data = load("path", request.getfixturevalue(source))
    assert all(i.startswith("val") for i in data.splits["balanced"].ids)
    assert all(i.startswith("train") for name in ("train", "id") for i in data.splits[name].ids)
    first = data.splits["balanced"].rows[0]
    blue = np.asarray(first["image"].convert("RGB"))[0, 0]
    assert abs(int(blue[0]) - 25 * AGES.index(first["age"])) < 8  # the picture is that of the row
    assert len([note for note in data.notes if note.startswith("variant: FairFace")]) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_train": 4000}, r"faces of young/Female, the options ask for .* \(n_validation, n_id"),
        ({"n_balanced": 4000}, r"the options ask for 1,000 \(n_balanced\)"),
        ({"young": ["20-30"]}, "unknown age of FairFace '20-30'"),
        ({"young": ["40-49"]}, "every age may stand once"),
        ({"bias_rate": 1}, "bias_rate must be between 0 and 1"),
        ({"validation_bias_rate": "half"}, "validation_bias_rate must be between 0 and 1, found"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tree, options, words):
    with pytest.raises(HarnessError, match=words):
        load("path", tree, **options)


def test_missing_files_and_columns_are_named(tree, tmp_path):
    (tree / "fairface" / "val" / "7.jpg").unlink()
    with pytest.raises(HarnessError, match=r"fairface_label_val\.csv: row 7: no image"):
        load("path", tree)
    with pytest.raises(HarnessError, match=r"found neither fairface_label_train\.csv"):
        load("path", tree / "fairface" / "train")


def test_the_real_faces_have_their_counts(real_data):
    data = load_data(TASK, "path", path=real_data / "fairface64")
    assert data.splits["train"].group_counts.tolist() == [4850, 150, 150, 4850]
    assert data.splits["balanced"].group_counts.tolist() == [460] * 4
    assert data.notes[0] == "variant: FairFace, train has 40,000 rows, expected 86,744"
