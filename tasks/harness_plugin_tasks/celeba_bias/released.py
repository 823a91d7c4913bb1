"""CelebA on disk: the original release, the Kaggle and WILDS copies, or a saved hub copy."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin.data.hub import load_local
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import data_folder
from harness_plugin_tasks.celeba_bias.cells import (
    PURPOSES,
    Faces,
    Pair,
    check_known,
    pair_of,
    released_data,
)
from harness_plugin_tasks.celeba_bias.hub import CONFIGURATION, from_columns

ATTRIBUTE_LIST, PARTITION_LIST, IMAGES = (
    "list_attr_celeba",
    "list_eval_partition",
    "img_align_celeba",
)
VALUES = {"-1": 0, "0": 0, "1": 1, "false": 0, "true": 1}


class Record(NamedTuple):
    """One line of a list file, split into fields."""

    line: int
    fields: list[str]


def load(request: DataRequest) -> TaskData:
    """The released splits under `request.path`, images as paths that are read when needed.

    The directory, or `celeba/` or `data/` in it, holds list_attr_celeba, list_eval_partition
    (.txt as released or .csv as on Kaggle) and img_align_celeba/ (nested once more on Kaggle); or
    the directory is a copy of a hub repository (parquet, or `save_to_disk`).

    Raises HarnessError naming file and line for anything missing or malformed.
    """
    pair, root = pair_of(request.options), data_folder(request)
    for folder in (root, root / "celeba", root / "data"):
        if list_file(folder, ATTRIBUTE_LIST) or list_file(folder, PARTITION_LIST):
            return from_lists(folder, pair, request)
    if (root / "dataset_dict.json").is_file() or next(root.rglob("*.parquet"), None):
        return from_columns(load_local(root, CONFIGURATION), pair, request, str(root))
    raise HarnessError(
        f"{root}: found neither {ATTRIBUTE_LIST}.txt or .csv (also looked in celeba/ and data/) "
        "nor a copy of a hub repository (*.parquet, dataset_dict.json)."
    )


def from_lists(folder: Path, pair: Pair, request: DataRequest) -> TaskData:
    """The splits that the two list files of `folder` describe.

    Where nothing is trained, images of training and validation may be missing: those splits are
    then left out, and the lists say what is bias-aligned all the same.
    """
    attributes = required(folder, ATTRIBUTE_LIST)
    partitions = required(folder, PARTITION_LIST)
    cell = read_cells(attributes, pair)
    images = image_folder(folder)
    present = {file.name for file in images.iterdir()}
    members: dict[str, list[str]] = {name: [] for name in PURPOSES}
    seen: set[str] = set()
    incomplete: set[str] = set()
    for line, image, name in read_partitions(partitions):
        if image not in cell:
            raise HarnessError(f"{partitions}:{line}: {image} is not listed in {attributes.name}.")
        if image not in present and not request.trains and PURPOSES[name] != "in_domain":
            incomplete.add(name)
        elif image not in present:
            raise HarnessError(f"{partitions}:{line}: image {images / image} is missing.")
        if image in seen:
            raise HarnessError(f"{partitions}:{line}: {image} is listed twice.")
        seen.add(image)
        members[name].append(image)
    if unassigned := len(cell) - len(seen):
        first = next(image for image in cell if image not in seen)
        raise HarnessError(f"{partitions}: {unassigned} images have no partition, first {first}.")
    train_counts = np.bincount([cell[image] for image in members["train"]], minlength=4)
    parts = {
        name: Faces(
            images=[str(images / image) for image in chosen],
            ids=chosen,
            cell=np.array([cell[image] for image in chosen], dtype=np.int64),
        )
        for name, chosen in members.items()
        if chosen and name not in incomplete
    }
    return released_data(request, pair, parts, str(folder), train_counts)


def list_file(folder: Path, stem: str) -> Path | None:
    """`stem`.txt or `stem`.csv in `folder`, whichever is there."""
    files = (folder / f"{stem}{suffix}" for suffix in (".txt", ".csv"))
    return next((file for file in files if file.is_file()), None)


def required(folder: Path, stem: str) -> Path:
    """The list file `stem`, or HarnessError."""
    if (file := list_file(folder, stem)) is None:
        raise HarnessError(f"{folder}: {stem}.txt or {stem}.csv is missing.")
    return file


def image_folder(folder: Path) -> Path:
    """The directory with the images themselves: the Kaggle archive nests it once more."""
    for images in (folder / IMAGES / IMAGES, folder / IMAGES):
        if images.is_dir():
            return images
    raise HarnessError(f"{folder}: the directory {IMAGES}/ with the images is missing.")


def records(file: Path) -> Iterator[Record]:
    """The lines of a list file that are not blank: commas in .csv, runs of spaces in .txt."""
    with file.open(encoding="utf-8-sig", newline="") as text:  # editors may write a mark first
        if file.suffix == ".csv":
            reader = csv.reader(text)
            split = (Record(reader.line_num, fields) for fields in reader)
        else:
            split = (Record(number, line.split()) for number, line in enumerate(text, 1))
        yield from (record for record in split if record.fields)


def read_cells(file: Path, pair: Pair) -> dict[str, int]:
    """Cell index (see `cells.cells`) by image name, in the order of the list."""
    lines = records(file)
    try:
        expected = int(next(lines).fields[0]) if file.suffix == ".txt" else None
        header = next(lines)
    except (StopIteration, ValueError):
        raise HarnessError(f"{file}:1: expected a count line and a line of names.") from None
    # the .csv names its column of image names as well
    names = header.fields if file.suffix == ".txt" else header.fields[1:]
    check_known(pair, names, file.name)
    label, attribute = names.index(pair.label) + 1, names.index(pair.attribute) + 1
    cell: dict[str, int] = {}
    for line, fields in lines:
        if len(fields) != len(names) + 1:
            raise HarnessError(
                f"{file}:{line}: {len(fields)} fields, expected {len(names) + 1} "
                f"(image and {len(names)} attributes)."
            )
        if fields[0] in cell:
            raise HarnessError(f"{file}:{line}: {fields[0]} is listed twice.")
        for place in (label, attribute):
            if fields[place].lower() not in VALUES:
                raise HarnessError(
                    f"{file}:{line}: {names[place - 1]} is {fields[place]!r}; expected -1, 0 or 1."
                )
        cell[fields[0]] = 2 * VALUES[fields[label].lower()] + VALUES[fields[attribute].lower()]
    if expected is not None and expected != len(cell):
        raise HarnessError(f"{file}:1: announces {expected} images, but {len(cell)} follow.")
    return cell


def read_partitions(file: Path) -> Iterator[tuple[int, str, str]]:
    """(line, image name, split name) of every image; the .csv has a header line."""
    numbers = {str(number): name for number, name in enumerate(PURPOSES)}
    lines = records(file)
    if file.suffix == ".csv":
        next(lines, None)
    for line, fields in lines:
        if len(fields) != 2 or fields[1] not in numbers:
            raise HarnessError(
                f"{file}:{line}: {' '.join(fields)!r} is not an image and a partition 0, 1 or 2."
            )
        yield line, fields[0], numbers[fields[1]]
