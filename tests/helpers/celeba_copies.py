"""Small copies of CelebA: as released, as on Kaggle and in WILDS, as on the hub."""

import csv
import dataclasses

import datasets
import numpy as np
from PIL import Image
from releases import write_parquet

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin_tasks.celeba_bias import cells
from harness_plugin_tasks.celeba_bias.embedded import encoded

TASK = read_task(resource_path("harness_plugin_tasks.celeba_bias:celeba_bias.yaml"))
GROUPS = (
    "not_blond_hair/Female",
    "not_blond_hair/Male",
    "blond_hair/Female",
    "blond_hair/Male",
)
# faces by cell of Blond_Hair x Male
SMALL = {"train": (10, 8, 5, 1), "validation": (2, 1, 1, 1), "test": (3, 2, 2, 1)}


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


def write_hub(root, loaded, card=""):
    write_parquet(root, loaded)
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
