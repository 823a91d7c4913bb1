"""Shared by all sources: identities, the 16 overlapping test cells, exclusive training groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import (
    ALIGNED,
    CONFLICTING,
    UNDEFINED,
    DataRequest,
    Purpose,
    Split,
    make_split,
)
from harness_plugin.errors import unknown

Bits: TypeAlias = NDArray[np.bool_]

LABELS = ("non_toxic", "toxic")
IDENTITIES = (
    "male",
    "female",
    "LGBTQ",
    "christian",
    "muslim",
    "other_religions",
    "black",
    "white",
)
"""In the order of WILDS (Koh et al. 2021)."""

CELLS = tuple(f"{label}/{identity}" for identity in IDENTITIES for label in LABELS)
"""The 16 cells that worst-group accuracy is taken over. A comment is in one for each identity it
mentions: they overlap, and comments that mention nobody are in none."""

COARSE = "coarse"


@dataclass(frozen=True)
class Comments:
    """Rows of one split: texts and ids (N,), toxic (N,) and mentioned (N, 8) as booleans."""

    texts: Sequence[str]
    ids: Sequence[str]
    toxic: Bits
    mentioned: Bits


def grouping(request: DataRequest) -> str:
    """The option train_groups: COARSE or one identity. Raises HarnessError for another word."""
    chosen = str(request.options["train_groups"])
    if chosen not in (COARSE, *IDENTITIES):
        raise unknown("value of civilcomments.train_groups", chosen, (COARSE, *IDENTITIES))
    return chosen


def values_of(chosen: str) -> tuple[str, str]:
    """Names of the attribute where nobody (or not `chosen`) is mentioned, and where they are."""
    return ("no_identity", "any_identity") if chosen == COARSE else (f"not_{chosen}", chosen)


def attribute(comments: Comments, chosen: str) -> Bits:
    """(N,) whether a comment mentions any identity, or the chosen one."""
    if chosen == COARSE:
        return np.asarray(comments.mentioned.any(axis=1))
    return comments.mentioned[:, IDENTITIES.index(chosen)]


def direction(train: Comments, chosen: str) -> int:
    """Direction of a mention in training: 1 toxic, 0 the opposite, -1 undecided.

    It points to toxic where P(toxic | mention) > P(toxic | no mention).
    """
    mention = attribute(train, chosen)
    counts = [[int((train.toxic[mention == m] == y).sum()) for y in (0, 1)] for m in (0, 1)]
    # compared as products, which keeps the comparison exact
    difference = counts[1][1] * counts[0][0] - counts[0][1] * counts[1][0]
    return UNDEFINED if difference == 0 else int(difference > 0)


def comment_split(
    name: str, purpose: Purpose, comments: Comments, chosen: str, points_to: int, where: str
) -> Split:
    """One split; `points_to` is the `direction` of the training rows.

    Training and validation groups are exclusive, label/attribute, those that occur. Evaluation
    sets have the 16 overlapping CELLS, those that occur, instead.
    Raises HarnessError as `make_split` does.
    """
    labels = [LABELS[toxic] for toxic in comments.toxic.tolist()]
    mention = attribute(comments, chosen)
    values = [values_of(chosen)[m] for m in mention.tolist()]
    agrees = np.where(mention == comments.toxic, ALIGNED, CONFLICTING)
    aligned = {1: agrees, 0: 1 - agrees}.get(points_to, np.full(len(labels), UNDEFINED))
    group_texts = member_texts = None
    if purpose in ("train", "validation"):
        group_texts = [f"{label}/{value}" for label, value in zip(labels, values, strict=True)]
        names = [f"{label}/{value}" for label in LABELS for value in values_of(chosen)]
        present = {*group_texts}
    else:
        member_texts = [
            [f"{label}/{IDENTITIES[i]}" for i in np.flatnonzero(row)]
            for label, row in zip(labels, comments.mentioned, strict=True)
        ]
        names = list(CELLS)
        present = {cell for row in member_texts for cell in row}
    return make_split(
        name,
        purpose=purpose,
        inputs={"text": comments.texts},
        ids=comments.ids,
        label_texts=labels,
        labels=LABELS,
        attributes=values,
        group_texts=group_texts,
        member_texts=member_texts,
        groups=tuple(group for group in names if group in present),
        aligned=aligned,
        where=where,
    )


def mention_features(split: Split) -> NDArray[np.float64]:
    """(N, V) one-hot of the annotated attribute, in the order of its names."""
    mentions = np.asarray(split.column("attribute"), dtype=np.str_)
    return np.asarray(mentions[:, None] == np.unique(mentions), dtype=np.float64)
