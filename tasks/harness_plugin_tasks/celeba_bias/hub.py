"""CelebA from the hub, or from a copy of a hub repository."""

from __future__ import annotations

import datasets
import numpy as np

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin.data.hub import load_hub
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.images.splits import stored_images
from harness_plugin_tasks.celeba_bias.cells import (
    ATTRIBUTES,
    Bits,
    Faces,
    Pair,
    cells,
    check_known,
    pair_of,
    released_data,
)

REPOSITORY = "flwrlabs/celeba"
CONFIGURATION = "img_align+identity+attr"
REVISION = "2d738f56e0e7f925ea36ae7c808ea925264aacec"

SPLIT_NAMES = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
VECTOR = "attributes"
"""Column of copies that keep the 40 attributes in one list a row."""


def load(request: DataRequest) -> TaskData:
    """The released splits from the hub, pinned.

    Raises HarnessError for an unknown attribute, and when the hub cannot be reached.
    """
    pair = pair_of(request.options)
    check_known(pair, ATTRIBUTES, "CelebA")
    loaded = load_hub(REPOSITORY, CONFIGURATION, revision=REVISION)
    return from_columns(loaded, pair, request, REPOSITORY)


def from_columns(
    loaded: datasets.DatasetDict, pair: Pair, request: DataRequest, where: str
) -> TaskData:
    """Splits with a column `image` and a column an attribute, or one column `attributes` for all.

    Values may be bool, -1 / 1 or 0 / 1. Images stay as they are stored, undecoded.

    Raises HarnessError naming `where`, the split, and the column or row that is wrong.
    """
    parts: dict[str, Faces] = {}
    for stored_name, rows in loaded.items():
        name = SPLIT_NAMES.get(stored_name)
        if name is None or name in parts:
            raise HarnessError(
                f"{where}: split {stored_name!r} among {', '.join(loaded)}; expected train, "
                "valid or validation, test."
            )
        here = f"{where}, split {stored_name!r}"
        parts[name] = Faces(
            images=stored_images(rows, "image", here),
            ids=[f"{name}-{row:06d}" for row in range(len(rows))],
            cell=cells(bits(rows, pair, pair.label, here), bits(rows, pair, pair.attribute, here)),
        )
    return released_data(request, pair, parts, where)


def bits(rows: datasets.Dataset, pair: Pair, name: str, where: str) -> Bits:
    """(N,) attribute `name` of every row."""
    if name in rows.column_names:
        values = np.asarray(rows.select_columns([name]).with_format("numpy")[:][name])
    elif VECTOR in rows.column_names:
        check_known(pair, ATTRIBUTES, where)
        vectors = rows.select_columns([VECTOR]).with_format("numpy")[:][VECTOR]
        if vectors.shape != (len(rows), len(ATTRIBUTES)):
            raise HarnessError(
                f"{where}: column {VECTOR!r} must hold {len(ATTRIBUTES)} values on every row."
            )
        values = vectors[:, ATTRIBUTES.index(name)]
    else:
        check_known(pair, {*rows.column_names} - {"image"}, where)
    if len(odd := np.flatnonzero(~np.isin(values, (-1, 0, 1)))):
        row = int(odd[0])
        raise HarnessError(
            f"{where}: row {row + 1}: {name} is {values[row]}; expected a bool, -1, 0 or 1."
        )
    return np.asarray(values > 0)
