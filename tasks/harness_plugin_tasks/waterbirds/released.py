"""Waterbirds on the hub and on disk: metadata.csv and images as released, or a hub copy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import datasets
import numpy as np

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin.data.hub import load_hub
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import data_folder, read_layout
from harness_plugin_tasks._shared.images.splits import class_indices, stored_images
from harness_plugin_tasks._shared.quoted import read_quoted
from harness_plugin_tasks.waterbirds.cells import CELLS, PURPOSES, Birds, released_data

REPOSITORY = "grodino/waterbirds"
REVISION = "main"
FOLDER = "waterbird_complete95_forest2water2"
METADATA = "metadata.csv"
COLUMNS = ("img_id", "img_filename", "y", "split", "place")


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation` and `test`; images on disk are paths, read when needed.

    The folder, or FOLDER in it, holds metadata.csv and the images below; or the folder is a copy
    of the hub repository.

    Raises HarnessError naming file and row for anything missing or malformed.
    """
    if request.source == "hub":
        loaded = load_hub(REPOSITORY, revision=REVISION)
        return from_columns(loaded, request, REPOSITORY)
    root = data_folder(request)
    folders = (root, root / FOLDER, root / "waterbirds")
    return read_layout(
        folders,
        lambda folder: (folder / METADATA).is_file(),
        lambda folder: from_metadata(folder, request),
        lambda loaded, where: from_columns(loaded, request, where),
        f"{METADATA} (also looked in {FOLDER}/ and waterbirds/)",
    )


def from_metadata(folder: Path, request: DataRequest) -> TaskData:
    """The splits that metadata.csv describes, in its order; ids are its img_id.

    Where nothing is trained, images of training and validation may be missing: those splits are
    then left out.
    """
    file = folder / METADATA
    columns = read_quoted(file, COLUMNS, ",")
    chosen: dict[str, list[tuple[str, str, int, int]]] = {name: [] for name in PURPOSES}
    first: dict[str, int] = {}
    incomplete: set[str] = set()
    for row, (key, image, y, split, place) in enumerate(zip(*columns.values(), strict=True), 1):
        where = f"{file}: row {row}"
        if (earlier := first.setdefault(key, row)) != row:
            raise HarnessError(f"{where}: img_id {key} was already used in row {earlier}.")
        part = [*PURPOSES][number(split, "split", 3, where)]
        path = inside(folder, image, where)
        if not path.is_file():
            if request.trains or part == "test":
                raise HarnessError(f"{where}: image {path} is missing.")
            incomplete.add(part)
        cell = number(y, "y", 2, where), number(place, "place", 2, where)
        chosen[part].append((key, str(path), *cell))
    parts = {}
    for name, rows in chosen.items():
        if rows and name not in incomplete:
            ids, paths, labels, places = zip(*rows, strict=True)
            parts[name] = Birds(list(paths), ids, np.array(labels), np.array(places))
    return released_data(request, parts, str(file))


def number(text: str, name: str, below: int, where: str) -> int:
    """A whole number in [0, below). Raises HarnessError naming `where` and the column."""
    known = [str(value) for value in range(below)]
    if text not in known:
        raise HarnessError(f"{where}: {name} is {text!r}, expected one of {', '.join(known)}.")
    return int(text)


def inside(folder: Path, name: str, where: str) -> Path:
    """The image `name` below `folder`. Refuses a name that leads out of it."""
    relative = PurePosixPath(name)
    if not name or relative.is_absolute() or ".." in relative.parts:
        raise HarnessError(
            f"{where}: img_filename is {name!r}, expected the name of a file below {folder}."
        )
    return folder / relative


def from_columns(
    loaded: Mapping[str, datasets.Dataset], request: DataRequest, where: str
) -> TaskData:
    """Splits with the columns image, label (0 landbird, 1 waterbird), place (0 land, 1 water)."""
    parts = {}
    for name, rows in loaded.items():
        if name not in PURPOSES:
            raise HarnessError(f"{where}: split {name!r}, expected {', '.join(PURPOSES)}.")
        here = f"{where}, split {name!r}"
        parts[str(name)] = Birds(
            images=stored_images(rows, "image", here),
            ids=[f"{name}-{row:06d}" for row in range(len(rows))],
            label=class_indices(rows, CELLS.labels, here),
            place=class_indices(rows, CELLS.values, here, "place"),
        )
    return released_data(request, parts, where)
