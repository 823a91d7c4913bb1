"""CIFAR-10 in the hub's layout. The pickles of the original release are refused, never opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np

from harness_plugin.data.dataset import DataRequest, Ints
from harness_plugin.data.hub import load_hub, load_local
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import (
    count_variants,
    data_folder,
    is_hub_copy,
    require_splits,
)
from harness_plugin_tasks._shared.images.splits import Pixels, class_indices, decoded, stored_images

REPOSITORY, CONFIGURATION, REVISION = "uoft-cs/cifar10", "plain_text", "main"
# fmt: off
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)
# fmt: on
SIDE = 32
RELEASED = {"train": 5_000, "test": 1_000}
"""Released pictures of every class."""


class Objects(NamedTuple):
    """Pictures (N, 32, 32, 3) and places of their classes in CLASSES (N,)."""

    pixels: Pixels
    label: Ints

    def select(self, rows: Ints) -> Objects:
        """The pictures at these places, in that order."""
        return Objects(self.pixels[rows], self.label[rows])


def read_cifar(request: DataRequest) -> tuple[dict[str, Objects], list[str]]:
    """The splits `train` and `test`, and a note for each count that is not the release's.

    Where nothing is trained, `test` alone is read.
    Source `hub` reads REPOSITORY. A folder, or `cifar10/` in it, is a copy of the hub's layout.

    Raises HarnessError for the pickles of the original release, which could run any code, and
    naming split and row for anything missing or malformed.
    """
    names = request.parts(RELEASED)
    if request.source == "hub":
        loaded = load_hub(REPOSITORY, CONFIGURATION, revision=REVISION)
        splits = from_hub(loaded, names, REPOSITORY)
    else:
        splits = read_folder(data_folder(request), names)
    notes: list[str] = []
    for name, objects in splits.items():
        counts = np.bincount(objects.label, minlength=len(CLASSES))
        expected = [RELEASED[name]] * len(CLASSES)
        notes += count_variants(f"CIFAR-10 {name}", counts, expected, CLASSES)
    return splits, notes


def read_folder(root: Path, names: Sequence[str]) -> dict[str, Objects]:
    """These splits of CIFAR-10 in a folder, or in a subfolder of a usual name."""
    folders = [
        place for folder in (root / "cifar10", root) for place in (folder / CONFIGURATION, folder)
    ]
    for folder in folders:
        if is_hub_copy(folder):
            return from_hub(load_local(folder), names, str(folder))
    pickles = [
        file for place in (root, root / "cifar-10-batches-py") for file in place.glob("*_batch*")
    ]
    if pickles:
        raise HarnessError(
            f"{pickles[0]}: the original CIFAR-10 files are Python pickles, which can run any code "
            f"and are not read; use the parquet files of {REPOSITORY}, or --data hub."
        )
    raise HarnessError(
        f"{root}: found no copy of {REPOSITORY} (*.parquet, dataset_dict.json; also looked in "
        f"cifar10/ and {CONFIGURATION}/)."
    )


def from_hub(
    loaded: Mapping[str, datasets.Dataset], names: Sequence[str], where: str
) -> dict[str, Objects]:
    """Splits from columns `img` and `label`."""
    require_splits(loaded, names, where)
    splits = {}
    for name in names:
        here = f"{where}, split {name!r}"
        pixels = decoded(stored_images(loaded[name], "img", here), here)
        if pixels.shape[1:3] != (SIDE, SIDE):
            raise HarnessError(
                f"{here}: pictures of {pixels.shape[1]}x{pixels.shape[2]}, expected {SIDE}x{SIDE}."
            )
        splits[name] = Objects(pixels, class_indices(loaded[name], CLASSES, here))
    return splits
