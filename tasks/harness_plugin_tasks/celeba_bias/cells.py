"""Shared by every source of the task: two binary attributes → names, groups, alignment."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import datasets
import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import (
    DataRequest,
    Ints,
    Purpose,
    Split,
    TaskData,
)
from harness_plugin.errors import HarnessError, unknown
from harness_plugin_tasks._shared.crossed import alignment
from harness_plugin_tasks._shared.files import count_variants, row_variant
from harness_plugin_tasks._shared.images.splits import Cells, cell_split

Bits: TypeAlias = NDArray[np.bool_]

# fmt: off
ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs",
    "Big_Lips", "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows",
    "Chubby", "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup",
    "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard",
    "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns",
    "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat",
    "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
)
# fmt: on
"""The 40 attributes in the order of the release."""

TRAIN_CELLS = (71_629, 66_874, 22_880, 1_387)
"""Released training faces by cell, label = Blond_Hair, attribute = Male (order: see `cells`)."""

PURPOSES: dict[str, Purpose] = {"train": "train", "validation": "validation", "test": "in_domain"}
"""The splits of the release, in the order of its partition numbers 0, 1, 2."""

RELEASED_ROWS = {"train": 162_770, "validation": 19_867, "test": 19_962}
RELEASED_CELLS = {
    ("Blond_Hair", "Male"): {
        "train": TRAIN_CELLS,
        "validation": (8_535, 8_276, 2_874, 182),
        "test": (9_767, 7_535, 2_480, 180),
    },
    ("Attractive", "Male"): {
        "train": (29_920, 49_247, 64_589, 19_014),
        "validation": (3_728, 5_807, 7_681, 2_651),
        "test": (4_263, 5_801, 7_984, 1_914),
    },
}
UNKNOWN = {"train": (1, 1, 1, 1)}
"""Counts under which an attribute says nothing of a label."""


@dataclass(frozen=True)
class Pair:
    """A label attribute and a spurious attribute, both 0 / 1, and how their cells are named.

    Cell index = 2 * label + attribute, as in Sagawa et al. 2020: (0, 0), (0, 1), (1, 0), (1, 1).
    """

    label: str
    attribute: str

    @property
    def labels(self) -> tuple[str, str]:
        """Names of label 0 and 1."""
        return f"not_{self.label.lower()}", self.label.lower()

    @property
    def values(self) -> tuple[str, str]:
        """Names of attribute value 0 and 1."""
        if self.attribute == "Male":
            return "Female", "Male"
        return f"not_{self.attribute.lower()}", self.attribute.lower()

    @property
    def cells(self) -> Cells:
        """The four cells, with the attribute as a breakdown of the scores."""
        breakdown = "gender" if self.attribute == "Male" else self.attribute.lower()
        return Cells(self.labels, self.values, breakdown)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the four cells, "label/attribute"."""
        return self.cells.groups


@dataclass(frozen=True)
class Faces:
    """The rows of one split before they are named: images, ids (N,), cell indices (N,).

    `images` is what `datasets.Image` encodes (paths, encoded bytes), or a data set with the one
    column `image`, which is taken as it is. Nothing is decoded.
    """

    images: datasets.Dataset | Sequence[Any]
    ids: Sequence[str]
    cell: Ints


def pair_of(options: Mapping[str, Any]) -> Pair:
    """The pair that the options `label` and `attribute` ask for; HarnessError if they are one."""
    pair = Pair(str(options["label"]), str(options["attribute"]))
    if pair.label == pair.attribute:
        raise HarnessError(f"label and attribute are both {pair.label}; choose two.")
    return pair


def check_known(pair: Pair, known: Collection[str], where: str) -> None:
    """HarnessError with near matches for an attribute of `pair` that is not among `known`."""
    for name in (pair.label, pair.attribute):
        if name not in known:
            raise unknown(f"attribute of {where}", name, known)


def cells(label: Bits, attribute: Bits) -> Ints:
    """(N,) cell index 2 * label + attribute."""
    return 2 * label.astype(np.int64) + attribute.astype(np.int64)


def face_split(
    name: str, purpose: Purpose, pair: Pair, faces: Faces, train_counts: Ints | Sequence[int]
) -> Split:
    """One split of faces; `train_counts` (4,) decides what is bias-aligned."""
    return cell_split(
        name,
        purpose,
        pair.cells,
        faces.images,
        label=faces.cell // 2,
        value=faces.cell % 2,
        ids=faces.ids,
        points_to=alignment(np.reshape(train_counts, (2, 2))),
    )


def released_data(
    request: DataRequest,
    pair: Pair,
    parts: Mapping[str, Faces],
    where: str,
    train_counts: Ints | Sequence[int] | None = None,
) -> TaskData:
    """The released splits (keys of `PURPOSES`), with notes on counts that are not the release's.

    `train_counts` (4,): training faces by cell, by default those of `parts`. Where neither says
    them and nothing is trained, they are the release's; of a pair whose counts are not known here,
    no row is aligned or conflicting. Raises HarnessError when a copy lacks training faces to train
    on, or test faces.
    """
    for name in request.parts(("train", "test")):
        if name not in parts:
            raise HarnessError(f"{where}: no {name} faces.")
    if train_counts is None and "train" in parts:
        train_counts = np.bincount(parts["train"].cell, minlength=4)
    elif train_counts is None:
        train_counts = RELEASED_CELLS.get((pair.label, pair.attribute), UNKNOWN)["train"]
    splits = {
        name: face_split(name, purpose, pair, parts[name], train_counts)
        for name, purpose in PURPOSES.items()
        if name in parts
    }
    # what an evaluation left out is no variant of the release
    known = [name for name in RELEASED_ROWS if request.trains or name in parts]
    return TaskData("celeba_bias", request.source, splits, tuple(variants(pair, splits, known)))


def variants(
    pair: Pair, splits: Mapping[str, Split], names: Iterable[str] = RELEASED_ROWS
) -> Iterator[str]:
    """A note for every row or group count of the splits `names` that differs from the release."""
    released = RELEASED_CELLS.get((pair.label, pair.attribute), {})
    for name in names:
        rows = RELEASED_ROWS[name]
        count = len(splits[name]) if name in splits else 0
        if count != rows:
            yield from row_variant(name, count, rows)
        elif name in released:
            counts = splits[name].group_counts
            yield from count_variants(name, counts, released[name], pair.groups)
