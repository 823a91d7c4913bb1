"""Shared by all sources: labels, give-away phrases of claims, splits grouped by them.

A row is a pair of NLI: the evidence is its premise, the claim its hypothesis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import Purpose, Split
from harness_plugin_tasks._shared.text.cues import Cue, words
from harness_plugin_tasks._shared.text.splits import cue_split
from harness_plugin_tasks._shared.text.tables import Table

LABELS = ("SUPPORTS", "REFUTES", "NOT ENOUGH INFO")
TWO_LABELS = LABELS[:2]

PHRASES = (
    "did not",
    "yet to",
    "does not",
    "refused to",
    "failed to",
    "only ever",
    "incapable of",
    "unable to",
    "not have",
    "not",
    "never",
    "only",
)
"""Phrases of FEVER's claims that go with REFUTES, most of them the strongest bigrams of Schuster et
al. 2019 (arXiv:1908.05267, table 2); negation and "only" are what they have in common."""


def phrases(claim: str) -> list[bool]:
    """Which of PHRASES are in a claim, as whole words."""
    text = f" {' '.join(words(claim))} "
    return [f" {phrase} " in text for phrase in PHRASES]


def give_away(evidence: str, claim: str) -> str:
    """Whether the claim holds a give-away phrase; the evidence is not looked at."""
    return CLAIM_CUE.values[not any(phrases(claim))]


CLAIM_CUE = Cue(("refuting_phrase", "plain_claim"), give_away, "REFUTES")


def claim_split(name: str, purpose: Purpose, table: Table, labels: tuple[str, ...]) -> Split:
    """Pairs of FEVER: groups label/cue, those that occur. Raises HarnessError as `make_split`."""
    return cue_split(name, purpose=purpose, table=table, cue=CLAIM_CUE, labels=labels)


def symmetric_split(name: str, table: Table, quadruples: Sequence[str]) -> Split:
    """Pairs of FEVER-Symmetric, which has no NOT ENOUGH INFO.

    A model that knows all three labels chooses among the two of this set. `quadruples` (N,): two
    claims with the same two pieces of evidence are one cluster.
    """
    split = cue_split(
        name, purpose="ood", table=table, cue=CLAIM_CUE, labels=TWO_LABELS, clusters=quadruples
    )
    return replace(split, collapse_rule="restrict")


def claim_features(split: Split) -> NDArray[np.float64]:
    """(N, 13) whether each of PHRASES is in the claim, and the claim's length in words."""
    claims: Sequence[str] = split.rows["hypothesis"][:]
    return np.array([[*phrases(claim), len(words(claim))] for claim in claims], dtype=np.float64)
