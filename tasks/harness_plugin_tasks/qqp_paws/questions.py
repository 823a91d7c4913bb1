"""Shared by all sources: labels, word overlap, and splits grouped by it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import (
    ALIGNED,
    CONFLICTING,
    DataRequest,
    Purpose,
    Split,
)
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.options import fraction
from harness_plugin_tasks._shared.text.cues import words
from harness_plugin_tasks._shared.text.splits import table_split
from harness_plugin_tasks._shared.text.tables import Table

LABELS = ("not_duplicate", "duplicate")
VALUES = ("low_overlap", "high_overlap")
"""In the order of LABELS: the overlap that points to each."""


def jaccard(first: str, second: str) -> float:
    """Words of both sentences over words of either, in [0, 1]; two sentences without words: 1."""
    a, b = set(words(first)), set(words(second))
    return len(a & b) / len(a | b) if a | b else 1.0


def overlaps(table: Table) -> NDArray[np.float64]:
    """(N,) word overlap of every pair."""
    pairs = zip(table.columns["question1"], table.columns["question2"], strict=True)
    return np.array([jaccard(first, second) for first, second in pairs])


def overlap_splits(
    request: DataRequest, tables: Mapping[tuple[str, Purpose], Table]
) -> tuple[dict[str, Split], str]:
    """Splits by name with groups label/overlap, and a note of the overlap above which it is high.

    The option high_overlap says it, else the median over the labelled rows of the table with the
    purpose train. Groups without a row are left out. Raises HarnessError as `make_split` does, and
    without either of the two.
    """
    name = f"{request.task.task}.high_overlap"
    if request.options["high_overlap"] is not None:
        threshold, source = fraction(request, "high_overlap"), name
    elif train := [table for (_, purpose), table in tables.items() if purpose == "train"]:
        known = [label in LABELS for label in train[0].columns["label"]]
        threshold = float(np.median(overlaps(train[0])[known])) if any(known) else math.nan
        source = "the median of the training pairs"
    else:
        raise HarnessError(
            f"{request.task.task}: the groups need the training pairs, or --set {name}=X as the "
            "notes of a run with them say it."
        )
    return {
        split: overlap_split(split, purpose, table, threshold)
        for (split, purpose), table in tables.items()
    }, f"overlap is high above {threshold}, {source}"


def overlap_split(name: str, purpose: Purpose, table: Table, threshold: float) -> Split:
    """One split; a row is aligned where high overlap meets duplicate, or low its opposite."""
    values = [VALUES[high] for high in (overlaps(table) > threshold).tolist()]
    pointed = dict(zip(VALUES, LABELS, strict=True))
    return table_split(
        name,
        purpose=purpose,
        table=table,
        inputs=("question1", "question2"),
        labels=LABELS,
        attributes=values,
        values=VALUES,
        aligned=[
            ALIGNED if pointed[value] == label else CONFLICTING
            for value, label in zip(values, table.columns["label"], strict=True)
        ],
    )


def overlap_features(split: Split) -> NDArray[np.float64]:
    """(N, 3) what a pair of questions shares, and nothing of what they ask.

    1. word overlap (Jaccard), in [0, 1]
    2. the two hold the same words, 0 or 1
    3. log of the longer's number of words over the shorter's, >= 0
    """
    out = []
    for first, second in zip(split.rows["question1"], split.rows["question2"], strict=True):
        share = jaccard(first, second)
        short, long = sorted((len(words(first)), len(words(second))))
        out.append((share, float(share == 1), math.log(max(long, 1) / max(short, 1))))
    return np.array(out)
