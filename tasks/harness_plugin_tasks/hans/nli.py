"""What all sources share: label names, word overlap, and splits grouped by it."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

from harness_plugin.data import ALIGNED, CONFLICTING, Role, Split, make_split

NLI_LABELS = ("entailment", "neutral", "contradiction")
HANS_LABELS = ("entailment", "non-entailment")
HEURISTICS = ("lexical_overlap", "subsequence", "constituent")
HANS_GROUPS = tuple(f"{heuristic}/{label}" for heuristic in HEURISTICS for label in HANS_LABELS)
COLLAPSE = {
    "entailment": "entailment",
    "neutral": "non-entailment",
    "contradiction": "non-entailment",
}
OVERLAP, NO_OVERLAP = "overlap", "no_overlap"


def words(sentence: str) -> list[str]:
    """The words of a sentence, lower-cased, without the punctuation around them."""
    stripped = (word.strip(string.punctuation) for word in sentence.lower().split())
    return [word for word in stripped if word]


def overlap(premise: str, hypothesis: str) -> str:
    """OVERLAP when every word of the hypothesis is in the premise (McCoy et al. 2019)."""
    return OVERLAP if set(words(hypothesis)) <= set(words(premise)) else NO_OVERLAP


def points_to(attribute: str, label: str) -> int:
    """ALIGNED when the cue points to the label: overlap to entailment, no overlap to the rest."""
    agrees = (attribute == OVERLAP) == (label == "entailment")
    return ALIGNED if agrees else CONFLICTING


def nli_split(
    name: str,
    *,
    role: Role,
    premises: Sequence[str],
    hypotheses: Sequence[str],
    ids: Sequence[str],
    label_texts: Sequence[str],
    labels: tuple[str, ...],
    where: str = "",
) -> Split:
    """A split whose groups are label x overlap, "entailment/overlap" and so on.

    Groups without a row are left out of `groups`, because their accuracy would be undefined.
    Raises HarnessError as `make_split` does.
    """
    attributes = [overlap(p, h) for p, h in zip(premises, hypotheses, strict=True)]
    pairs = list(zip(label_texts, attributes, strict=True))
    group_texts = [f"{label}/{attribute}" if label in labels else "" for label, attribute in pairs]
    present = set(group_texts)
    groups = (f"{label}/{attribute}" for label in labels for attribute in (OVERLAP, NO_OVERLAP))
    return make_split(
        name,
        role=role,
        inputs={"premise": premises, "hypothesis": hypotheses},
        ids=ids,
        label_texts=label_texts,
        labels=labels,
        attributes=attributes,
        group_texts=group_texts,
        groups=tuple(group for group in groups if group in present),
        aligned=np.array([points_to(attribute, label) for label, attribute in pairs]),
        where=where,
    )


def hans_split(
    *,
    premises: Sequence[str],
    hypotheses: Sequence[str],
    ids: Sequence[str],
    label_texts: Sequence[str],
    heuristics: Sequence[str],
    subcases: Sequence[str],
    three_way: bool,
    collapse_rule: str = "argmax",
    where: str = "",
) -> Split:
    """The HANS test: 6 groups "heuristic/label", aligned = entailment.

    `three_way`: the models predict NLI_LABELS, which are collapsed by `collapse_rule`.
    Raises HarnessError as `make_split` does, also for an unknown heuristic.
    """
    return make_split(
        "hans",
        role="ood",
        inputs={"premise": premises, "hypothesis": hypotheses},
        ids=ids,
        label_texts=label_texts,
        labels=HANS_LABELS,
        attributes=[overlap(p, h) for p, h in zip(premises, hypotheses, strict=True)],
        group_texts=[
            f"{heuristic}/{label}" for heuristic, label in zip(heuristics, label_texts, strict=True)
        ],
        groups=HANS_GROUPS,
        aligned=np.array([points_to(OVERLAP, label) for label in label_texts]),
        breakdowns={"heuristic": heuristics, "subcase": subcases},
        collapse=COLLAPSE if three_way else None,
        collapse_rule=collapse_rule,
        where=where,
    )
