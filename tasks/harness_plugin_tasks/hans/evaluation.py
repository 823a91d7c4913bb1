"""The HANS evaluation set as a split: its labels, heuristics and groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness_plugin.data.dataset import Split, make_split
from harness_plugin_tasks._shared.text.cues import OVERLAP, OVERLAP_CUE, overlap

HANS_LABELS = ("entailment", "non-entailment")
HEURISTICS = ("lexical_overlap", "subsequence", "constituent")
HANS_GROUPS = tuple(f"{heuristic}/{label}" for heuristic in HEURISTICS for label in HANS_LABELS)
COLLAPSE = {
    "entailment": "entailment",
    "neutral": "non-entailment",
    "contradiction": "non-entailment",
}


def hans_split(
    *,
    premises: Sequence[str],
    hypotheses: Sequence[str],
    ids: Sequence[str],
    label_texts: Sequence[str],
    heuristics: Sequence[str],
    subcases: Sequence[str],
    clusters: Sequence[str] | None,
    three_way: bool,
    collapse_rule: str = "argmax",
    where: str = "",
) -> Split:
    """The HANS test: 6 groups "heuristic/label", aligned = entailment.

    `clusters`: what pairs were made from, see `clusters_of`. `three_way`: the models predict
    NLI_LABELS, which are collapsed by `collapse_rule`.
    Raises HarnessError as `make_split` does, also for an unknown heuristic.
    """
    return make_split(
        "hans",
        purpose="ood",
        inputs={"premise": premises, "hypothesis": hypotheses},
        ids=ids,
        label_texts=label_texts,
        labels=HANS_LABELS,
        attributes=[overlap(p, h) for p, h in zip(premises, hypotheses, strict=True)],
        group_texts=[
            f"{heuristic}/{label}" for heuristic, label in zip(heuristics, label_texts, strict=True)
        ],
        groups=HANS_GROUPS,
        aligned=np.array([OVERLAP_CUE.points_to(OVERLAP, label) for label in label_texts]),
        breakdowns={"heuristic": heuristics, "subcase": subcases},
        clusters=clusters,
        collapse=COLLAPSE if three_way else None,
        collapse_rule=collapse_rule,
        where=where,
    )


def clusters_of(
    by: str, templates: Sequence[str], subcases: Sequence[str]
) -> tuple[str, ...] | None:
    """The cluster of every pair, `by` "template" or "subcase"; None by "none".

    A template belongs to one subcase. A copy without templates has the subcases in their place.
    """
    if by == "none":
        return None
    if by == "subcase" or not all(templates):
        return tuple(subcases)
    return tuple(f"{subcase}/{name}" for subcase, name in zip(subcases, templates, strict=True))


def released_split(columns: Mapping[str, list[str]], by: str, rule: str, where: str) -> Split:
    """The HANS test from the columns of the release, clustered `by` (see `clusters_of`)."""
    return hans_split(
        premises=columns["premise"],
        hypotheses=columns["hypothesis"],
        ids=columns["id"],
        label_texts=columns["label"],
        heuristics=columns["heuristic"],
        subcases=columns["subcase"],
        clusters=clusters_of(by, columns["template"], columns["subcase"]),
        three_way=True,
        collapse_rule=rule,
        where=where,
    )
