"""What every source of the task shares: two binary attributes → names, groups, alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import datasets
import numpy as np
from numpy.typing import NDArray

from harness_plugin.data import Ints, Role, Split, make_split
from harness_plugin.errors import unknown

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
    def breakdown(self) -> str:
        """Name of the column that repeats the attribute for a breakdown of the scores."""
        return "gender" if self.attribute == "Male" else self.attribute.lower()

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the four cells, "label/attribute"."""
        return tuple(f"{label}/{value}" for label in self.labels for value in self.values)


def pair_of(options: Mapping[str, Any]) -> Pair:
    """The pair that the options ask for; HarnessError for an attribute that CelebA lacks."""
    pair = Pair(str(options["label"]), str(options["attribute"]))
    for name in (pair.label, pair.attribute):
        if name not in ATTRIBUTES:
            raise unknown("CelebA attribute", name, ATTRIBUTES)
    if pair.label == pair.attribute:
        raise unknown("attribute besides the label", name, {*ATTRIBUTES} - {name})
    return pair


def cells(label: Bits, attribute: Bits) -> Ints:
    """(N,) cell index 2 * label + attribute."""
    return 2 * label.astype(np.int64) + attribute.astype(np.int64)


def alignment(counts: Ints | Sequence[int]) -> Ints:
    """(4,) for every cell (y, a) whether the bias points to y, given the TRAINING cell counts.

    1 where P(y | a) > P(y), 0 where P(y | a) < P(y), -1 where the two are equal: then the
    attribute says nothing about the label.
    """
    table = np.asarray(counts, dtype=np.int64).reshape(2, 2)
    # P(y | a) - P(y) times n_a * n, which keeps the comparison exact
    excess = table * table.sum() - table.sum(1, keepdims=True) * table.sum(0, keepdims=True)
    return np.where(excess > 0, 1, np.where(excess < 0, 0, -1)).reshape(-1)


def cell_split(
    name: str,
    *,
    role: Role,
    pair: Pair,
    images: datasets.Dataset | Sequence[Any],
    ids: Sequence[str],
    cell: Ints,
    train_counts: Ints | Sequence[int],
    where: str = "",
) -> Split:
    """One split of faces from their cell indices (N,).

    `images` is what `datasets.Image` encodes (paths, encoded bytes), or a data set with the one
    column `image`, which is taken as it is: nothing is decoded.
    """
    label, value = cell // 2, cell % 2
    stored = isinstance(images, datasets.Dataset)
    split = make_split(
        name,
        role=role,
        inputs={} if stored else {"image": images},
        features={"image": datasets.Image()},
        ids=ids,
        label_texts=[pair.labels[y] for y in label],
        labels=pair.labels,
        attributes=[pair.values[a] for a in value],
        group_texts=[pair.groups[c] for c in cell],
        groups=pair.groups,
        aligned=alignment(train_counts)[cell],
        breakdowns={pair.breakdown: [pair.values[a] for a in value]},
        where=where,
    )
    if stored:
        return replace(split, rows=datasets.concatenate_datasets([split.rows, images], axis=1))
    return split
