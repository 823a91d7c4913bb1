"""FairFace from the hub, from a copy with the hub's columns, or from the tree of the release."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin.data.hub import load_hub
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import data_folder, read_layout, row_variant
from harness_plugin_tasks._shared.images.splits import class_indices, stored_images
from harness_plugin_tasks._shared.quoted import read_quoted
from harness_plugin_tasks.fairface_bias.design import AGES, GENDERS, Pool, designed

REPOSITORY, NAME, REVISION = "HuggingFaceM4/FairFace", "0.25", "main"
PARTS = {"train": ("train",), "val": ("val", "validation")}
"""The two sets of the release, and what the hub calls them."""

ROWS = {"train": 86_744, "val": 10_954}
FOLDERS = ("fairface", "fairface64", "FairFace")


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id` (of the training set) and `balanced` (of the other one).

    Raises HarnessError naming the file, column or row of anything missing or malformed.
    """
    pools = read_pools(request)
    notes = [
        note
        for name, pool in pools.items()
        for note in row_variant(f"FairFace, {name}", len(pool.ids), ROWS[name])
    ]
    pool = Pool(
        datasets.concatenate_datasets([pool.images for pool in pools.values()]),
        [name for pool in pools.values() for name in pool.ids],
        np.concatenate([pool.age for pool in pools.values()]),
        np.concatenate([pool.gender for pool in pools.values()]),
        np.concatenate([pool.test for pool in pools.values()]),
    )
    return designed(request, pool, notes)


def read_pools(request: DataRequest) -> dict[str, Pool]:
    """Both sets of the source."""
    if request.source == "hub":
        return from_hub(load_hub(REPOSITORY, NAME, revision=REVISION), REPOSITORY)
    root = data_folder(request)
    files = [f"fairface_label_{part}.csv" for part in PARTS]
    return read_layout(
        [root, *(root / name for name in FOLDERS)],
        lambda folder: all((folder / file).is_file() for file in files),
        from_tree,
        from_hub,
        f"{' and '.join(files)} (also looked in {', '.join(FOLDERS)})",
    )


def from_hub(loaded: datasets.DatasetDict, where: str) -> dict[str, Pool]:
    """The columns `image`, `age` and `gender` of both sets, each under one of its names."""
    pools = {}
    for number, (part, names) in enumerate(PARTS.items()):
        name = next((name for name in names if name in loaded), None)
        if name is None:
            raise HarnessError(
                f"{where}: no split {' or '.join(names)} (found {', '.join(loaded)})."
            )
        rows, here = loaded[name], f"{where}, split {name!r}"
        pools[part] = Pool(
            stored_images(rows, "image", here),
            [f"{part}-{row:06d}" for row in range(len(rows))],
            class_indices(rows, AGES, here, "age"),
            class_indices(rows, GENDERS, here, "gender"),
            np.full(len(rows), number),
        )
    return pools


def from_tree(folder: Path) -> dict[str, Pool]:
    """The label files with the columns file, age and gender, and the images that they name.

    Nothing is opened. Raises HarnessError naming file and row of an image that is not there.
    """
    pools = {}
    for number, part in enumerate(PARTS):
        file = folder / f"fairface_label_{part}.csv"
        columns = read_quoted(file, ("file", "age", "gender"), ",")
        for row, name in enumerate(columns["file"]):
            if not (folder / name).is_file():
                raise HarnessError(f"{file}: row {row + 1}: no image {folder / name}.")
        rows = datasets.Dataset.from_dict({key: columns[key] for key in ("age", "gender")})
        paths = {"image": [str(folder / name) for name in columns["file"]]}
        pools[part] = Pool(
            datasets.Dataset.from_dict(
                paths, features=datasets.Features({"image": datasets.Image()})
            ),
            columns["file"],
            class_indices(rows, AGES, str(file), "age"),
            class_indices(rows, GENDERS, str(file), "gender"),
            np.full(len(rows), number),
        )
    return pools
