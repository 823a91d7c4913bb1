"""Rows of an evaluation set → documents and requests of lm-evaluation-harness.

That harness hands a model nothing but text. A request of ours therefore says everything that its
answer depends on: the input texts, joined by U+241E, then U+241D and, as JSON, the labels of the
set and how a model's labels are collapsed onto them. A cache of answers by request can then never
mix two rules up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import datasets
import numpy as np

from harness_plugin.data.dataset import Ints, Split
from harness_plugin.errors import HarnessError

BETWEEN, RULE = "\u241e", "\u241d"
"""The symbols for "record separator" (between texts) and "group separator" (before the rule)."""


@dataclass(frozen=True)
class Question:
    """What a model chooses among: labels of a set, and how its own labels become these."""

    labels: tuple[str, ...]
    collapse: tuple[tuple[str, str], ...] = ()
    rule: str = "argmax"

    @property
    def text(self) -> str:
        """As it stands in a request."""
        return json.dumps({**asdict(self), "collapse": dict(self.collapse)}, ensure_ascii=False)

    @classmethod
    def of(cls, split: Split) -> Question:
        """What is asked on an evaluation set."""
        collapse = tuple(sorted((split.collapse or {}).items()))
        return cls(split.labels, collapse, split.collapse_rule)


def request_text(texts: Sequence[str], question: Question) -> str:
    """The context of a request; HarnessError for a text that holds one of the separators."""
    for text in texts:
        if BETWEEN in text or RULE in text:
            raise HarnessError(f"a text holds {BETWEEN} or {RULE}, which separate texts: {text!r}.")
    return f"{BETWEEN.join(texts)}{RULE}{question.text}"


def read_request(context: str) -> tuple[tuple[str, ...], Question | None]:
    """The texts and the question of a context; no question for one that was made elsewhere."""
    texts, found, rule = context.partition(RULE)
    if not found:
        return tuple(texts.split(BETWEEN)), None
    read: Mapping[str, Any] = json.loads(rule)
    collapse = tuple(sorted(read["collapse"].items()))
    return tuple(texts.split(BETWEEN)), Question(tuple(read["labels"]), collapse, read["rule"])


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
