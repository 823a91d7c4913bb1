"""MNIST: the released idx files, or the hub's layout."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np

from harness_plugin.data.dataset import DataRequest, Ints
from harness_plugin.data.hub import load_hub
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import (
    count_variants,
    data_folder,
    read_layout,
    require_splits,
)
from harness_plugin_tasks._shared.images.splits import Pixels, class_indices, decoded, stored_images

REPOSITORY = "ylecun/mnist"
REVISION = "main"
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
DIGITS = tuple("0123456789")
RELEASED = {
    "train": (5_923, 6_742, 5_958, 6_131, 5_842, 5_421, 5_918, 6_265, 5_851, 5_949),
    "test": (980, 1_135, 1_032, 1_010, 982, 892, 958, 1_028, 974, 1_009),
}


class Digits(NamedTuple):
    """Grey images (N, H, W) and their classes (N,) in [0, 10)."""

    pixels: Pixels
    label: Ints


def read_mnist(request: DataRequest) -> tuple[dict[str, Digits], list[str]]:
    """The splits `train` and `test`, and a note for each count that is not the release's.

    Where nothing is trained, `test` alone is read.
    Source `hub` reads REPOSITORY. A folder holds the idx files (.gz or unpacked; directly, or in
    `mnist/`, `MNIST/raw/` or `raw/`), or a copy of the hub's layout.

    Raises HarnessError naming the file for anything missing, truncated or malformed.
    """
    names = request.parts(FILES)
    if request.source == "hub":
        splits = from_hub(load_hub(REPOSITORY, revision=REVISION), names, REPOSITORY)
    else:
        splits = read_folder(data_folder(request), names)
    notes: list[str] = []
    for name, digits in splits.items():
        counts = np.bincount(digits.label, minlength=len(DIGITS))
        names = [f"digit {digit}" for digit in DIGITS]
        notes += count_variants(f"MNIST {name}", counts, RELEASED[name], names)
    return splits, notes


def read_folder(root: Path, names: Sequence[str]) -> dict[str, Digits]:
    """These splits of MNIST in a folder, or in a subfolder of a usual name."""
    folders = [root, root / "mnist", root / "MNIST" / "raw", root / "raw"]
    stems = [stem for both in FILES.values() for stem in both]
    return read_layout(
        folders,
        lambda folder: any(idx_file(folder, stem) for stem in stems),
        lambda folder: from_idx(folder, names),
        lambda loaded, where: from_hub(loaded, names, where),
        f"MNIST's idx files ({stems[0]}.gz, …; also looked in mnist/, MNIST/raw/, raw/)",
    )


def idx_file(folder: Path, stem: str) -> Path | None:
    """`stem`.gz or `stem` in `folder`, whichever is there."""
    files = (folder / f"{stem}.gz", folder / stem)
    return next((file for file in files if file.is_file()), None)


def from_idx(folder: Path, names: Sequence[str]) -> dict[str, Digits]:
    """Splits from two idx files of `folder` each."""

    def required(stem: str) -> Path:
        if (file := idx_file(folder, stem)) is None:
            raise HarnessError(f"{folder}: {stem}.gz is missing.")
        return file

    splits = {}
    for name in names:
        images, labels = map(required, FILES[name])
        pixels, label = read_idx(images, IMAGES_MAGIC), read_idx(labels, LABELS_MAGIC)
        if len(pixels) != len(label):
            raise HarnessError(
                f"{labels}: {len(label):,} labels, but {images.name} has {len(pixels):,} images."
            )
        if len(odd := np.flatnonzero(label > 9)):
            row = int(odd[0])
            raise HarnessError(f"{labels}: row {row + 1}: label {label[row]}, expected 0 to 9.")
        splits[name] = Digits(pixels, label.astype(np.int64))
    return splits


def read_idx(file: Path, magic: int) -> Pixels:
    """The array of an idx file of unsigned bytes.

    The header is big-endian: the magic number, whose last byte is the number of dimensions, then
    the length of each. Raises HarnessError for another magic number, and for a file that holds
    fewer or more bytes than its header says.
    """
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise HarnessError(f"{file}: truncated, or not a gzip file: {error}") from None
    start = 4 * (1 + magic % 256)
    if len(raw) < start:
        raise HarnessError(f"{file}: {len(raw)} bytes, expected a header of {start}; truncated.")
    header, *shape = np.frombuffer(raw, ">u4", count=start // 4).tolist()
    if header != magic:
        raise HarnessError(f"{file}: magic number {header}, expected {magic}.")
    if len(raw) - start != (size := int(np.prod(shape))):
        raise HarnessError(
            f"{file}: {len(raw) - start:,} bytes follow the header, expected {size:,} "
            f"({' x '.join(map(str, shape))}); the file is truncated or damaged."
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def from_hub(
    loaded: Mapping[str, datasets.Dataset], names: Sequence[str], where: str
) -> dict[str, Digits]:
    """Splits from columns `image` and `label`; the classes are named by their digit."""
    require_splits(loaded, names, where)
    splits = {}
    for name in names:
        here = f"{where}, split {name!r}"
        images = stored_images(loaded[name], "image", here)
        splits[name] = Digits(decoded(images, here, "L"), class_indices(loaded[name], DIGITS, here))
    return splits
