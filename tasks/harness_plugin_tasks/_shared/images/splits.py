"""Images and two label arrays → a checked split, without decoding or copying more than once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import datasets
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness_plugin.data.dataset import Ints, Purpose, Split, make_split
from harness_plugin.errors import HarnessError
from harness_plugin.training.inputs.pixels import read_images

Pixels: TypeAlias = NDArray[np.uint8]
Images: TypeAlias = Pixels | datasets.Dataset | Sequence[Any]

CHUNK = 8192
ALIGNMENTS = ("conflicting", "aligned")

BIASED_SPLITS: dict[str, Purpose] = {
    "train": "train",
    "validation": "validation",
    "id": "in_domain",
    "balanced": "ood",
}
"""Of tasks that draw biased sets and a balanced one from a pool of images."""
FEWEST = 4
"""Rows of such a set: one a cell."""


@dataclass(frozen=True)
class Cells:
    """The names of a benchmark's labels and cue values, and what its groups are.

    Value i of the cue points to label i. With `by="value"` groups are label/value. With
    `by="alignment"` they are label/conflicting and label/aligned: with ten labels and ten values
    the cells of label x value hold too few conflicting rows for an accuracy each.
    """

    labels: tuple[str, ...]
    values: tuple[str, ...]
    breakdown: str
    by: Literal["value", "alignment"] = "value"

    @property
    def groups(self) -> tuple[str, ...]:
        """Group names, label after label."""
        second = self.values if self.by == "value" else ALIGNMENTS
        return tuple(f"{label}/{name}" for label in self.labels for name in second)


def cell_split(
    name: str,
    purpose: Purpose,
    cells: Cells,
    images: Images,
    *,
    label: Ints,
    value: Ints,
    ids: Sequence[str] | None = None,
    breakdowns: Mapping[str, Sequence[str]] | None = None,
    points_to: Ints | None = None,
) -> Split:
    """One split of N images with `label` (N,) and cue `value` (N,), indices into `cells`.

    `points_to` (labels, values): 1 where a value points to a label, 0 where it points away, -1
    where it says nothing; by default value i points to label i.
    `images` are pixels (N, H, W, 3), or a data set with the one column `image`, or what
    `datasets.Image` takes (paths, encoded bytes). Nothing is decoded.
    """
    values = [cells.values[v] for v in value]
    aligned = np.asarray(label == value, np.int64) if points_to is None else points_to[label, value]
    second = values if cells.by == "value" else [ALIGNMENTS[a] for a in aligned]
    labels = [cells.labels[y] for y in label]
    column = image_column(images) if isinstance(images, np.ndarray) else images
    stored = isinstance(column, datasets.Dataset)
    split = make_split(
        name,
        purpose=purpose,
        inputs={} if stored else {"image": column},
        features={"image": datasets.Image()},
        ids=ids if ids is not None else [f"{name}-{row:06d}" for row in range(len(label))],
        label_texts=labels,
        labels=cells.labels,
        attributes=values,
        group_texts=[f"{y}/{s}" for y, s in zip(labels, second, strict=True)],
        groups=cells.groups,
        aligned=aligned,
        breakdowns={cells.breakdown: values, **(breakdowns or {})},
    )
    if not stored:
        return split
    return replace(split, content=datasets.concatenate_datasets([split.rows, column], axis=1))


def image_column(pixels: Pixels) -> datasets.Dataset:
    """A data set with the one column `image`: (N, H, W, 3) pixels as PPM files.

    PPM is lossless and costs nothing: raw pixels behind a short header. The Arrow buffers are
    filled directly; a list of 60,000 byte strings would hold every image a second time.
    """
    n, height, width, _ = pixels.shape
    header = np.frombuffer(f"P6 {width} {height} 255\n".encode(), np.uint8)
    size = len(header) + height * width * 3
    chunks = []
    for start in range(0, n, CHUNK):
        part = pixels[start : start + CHUNK]
        files = np.empty((len(part), size), np.uint8)
        files[:, : len(header)] = header
        files[:, len(header) :] = part.reshape(len(part), -1)
        offsets = np.arange(len(part) + 1, dtype=np.int32) * np.int32(size)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(files)]
        encoded = pa.Array.from_buffers(pa.binary(), len(part), buffers)
        paths = pa.nulls(len(part), pa.string())
        chunks.append(pa.StructArray.from_arrays([encoded, paths], names=["bytes", "path"]))
    features = datasets.Features({"image": datasets.Image()})
    return datasets.Dataset(
        pa.table({"image": pa.chunked_array(chunks)}, schema=features.arrow_schema)
    )


def stored_images(rows: datasets.Dataset, column: str, where: str) -> datasets.Dataset:
    """The column `column` of a hub layout, as it is stored, under the name `image`.

    Raises HarnessError naming `where` when there is no such column.
    """
    if column not in rows.column_names:
        raise HarnessError(f"{where}: no column {column!r} (found {', '.join(rows.column_names)}).")
    images = rows.select_columns([column])
    if not isinstance(images.features[column], datasets.Image):
        images = images.cast_column(column, datasets.Image())
    return images if column == "image" else images.rename_column(column, "image")


def decoded(images: datasets.Dataset, where: str, mode: str = "RGB") -> Pixels:
    """(N, H, W, 3), or (N, H, W) for mode L: the column `image` decoded, all of one size.

    Raises HarnessError naming `where` and the 1-based row of an image that cannot be read or has
    another size than the first.
    """
    out: Pixels | None = None
    for start in range(0, len(images), 256):
        try:
            part = read_images(images, "image", start, 256, lambda i: np.asarray(i.convert(mode)))
        except HarnessError as error:
            raise HarnessError(f"{where}: {error}") from None
        for row, array in enumerate(part, start):
            if out is None:
                out = np.empty((len(images), *array.shape), np.uint8)
            if array.shape != out.shape[1:]:
                raise HarnessError(
                    f"{where}: row {row + 1}: the image is {array.shape[0]}x{array.shape[1]}, "
                    f"expected {out.shape[1]}x{out.shape[2]} as in row 1."
                )
            out[row] = array
    if out is None:
        raise HarnessError(f"{where}: no image.")
    return out


def class_indices(
    rows: datasets.Dataset, names: tuple[str, ...], where: str, column: str = "label"
) -> Ints:
    """(N,) indices into `names` of a label column, matched by name.

    A ClassLabel column is matched by its own names, text by itself. Integers without names are
    the numbers that the release documents; counts of the release are checked against them.

    Raises HarnessError naming `where` and the first row whose label is none of `names`.
    """
    if column not in rows.column_names:
        raise HarnessError(f"{where}: no column {column!r} (found {', '.join(rows.column_names)}).")
    feature = rows.features[column]
    stored = np.asarray(rows.select_columns([column]).with_format("numpy")[:][column]).tolist()
    numbered = feature.names if isinstance(feature, datasets.ClassLabel) else names
    index = {name: i for i, name in enumerate(names)}
    out = np.empty(len(stored), np.int64)
    for row, value in enumerate(stored):
        known = isinstance(value, int) and 0 <= value < len(numbered)
        text = str(numbered[value] if known else value)
        if text not in index or (isinstance(value, int) and not known):
            raise HarnessError(
                f"{where}: row {row + 1}: {column} {text!r}, expected one of {', '.join(names)}."
            )
        out[row] = index[text]
    return out
