"""Rows of an evaluation set → documents and requests of lm-evaluation-harness.

That harness hands a model nothing but text: an instruction, and each label as a way to go on. A
request of ours carries the row's texts, the labels of the set and how a model's labels are
collapsed onto them besides, for models that classify.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np

from harness_plugin.data.dataset import Ints, Split


@dataclass(frozen=True)
class Question:
    """Answer choices: labels of a set, and how a model's own labels become these."""

    labels: tuple[str, ...]
    collapse: tuple[tuple[str, str], ...] = ()
    rule: str = "argmax"

    @classmethod
    def of(cls, split: Split) -> Question:
        """The question of an evaluation set."""
        collapse = tuple(sorted((split.collapse or {}).items()))
        return cls(split.labels, collapse, split.collapse_rule)


class Prompt(str):
    """The context of a request, and what it is about."""

    texts: tuple[str, ...]
    question: Question

    @classmethod
    def of(cls, context: str, texts: Sequence[str], question: Question) -> Prompt:
        """`context` as it is, about a row's texts."""
        prompt = cls(context)
        prompt.texts, prompt.question = tuple(texts), question
        return prompt


class LabelLogProbability(float):
    """log p(label) of a classifier: of the labels, whatever the length of their names."""


def spread(split: Split, seed: int) -> Ints:
    """(N,) row numbers, shuffled so that the groups come in turn, each in proportion to its size.

    A row of every group (where groups overlap: of every combination) comes first, so that the first
    n rows, which is what `--limit n` takes, hold every group as soon as n allows it.
    """
    strata = split.label
    if split.groups:
        strata = np.unique(split.membership, axis=0, return_inverse=True)[1].reshape(-1)
    rng = np.random.default_rng(seed)
    place = np.empty(len(split))
    for value in np.unique(strata):
        rows = rng.permutation(np.flatnonzero(strata == value))
        place[rows] = np.arange(len(rows)) / len(rows)
    return np.lexsort((strata, place))


def documents(split: Split, inputs: Sequence[str], seed: int) -> datasets.Dataset:
    """The rows in the order of `spread`: id, texts, label, groups, bias types, labels of the set.

    `first_choice` says which answer counts: what the model's first choice becomes (labels that are
    collapsed by "argmax"), or the likeliest label of the set.
    """
    rows = spread(split, seed)
    picked = split.rows.select(rows)
    out: dict[str, Any] = {name: picked[name][:] for name in ("id", *inputs)}
    labels, groups = split.labels, split.groups
    out["label"] = [labels[i] for i in split.label[rows]]
    if split.overlapping:
        out["groups"] = [[groups[g] for g in np.flatnonzero(row)] for row in split.membership[rows]]
    else:
        out["groups"] = [[groups[g]] if g >= 0 else [] for g in split.group[rows]]
    out["aligned"] = split.aligned[rows].tolist()
    if split.clusters is not None:
        out["cluster"] = picked["cluster"][:]
    out |= {name: picked[name][:] for name in split.breakdowns}
    out["labels"] = [list(labels)] * len(rows)
    first = split.collapse is not None and split.collapse_rule == "argmax"
    out["first_choice"] = [first] * len(rows)
    return datasets.Dataset.from_dict(out)
