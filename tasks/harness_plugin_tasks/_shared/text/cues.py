"""Labels of natural language inference, and the cues in a pair that models mistake for them."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import NamedTuple

from harness_plugin.data.dataset import ALIGNED, CONFLICTING

NLI_LABELS = ("entailment", "neutral", "contradiction")
OVERLAP, NO_OVERLAP = "overlap", "no_overlap"
NEGATION, NO_NEGATION = "negation", "no_negation"
NEGATION_WORDS = frozenset({"nobody", "no", "never", "nothing"})
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def words(sentence: str) -> list[str]:
    """The words of a sentence, lower-cased, without the punctuation around them."""
    stripped = (word.strip(string.punctuation) for word in sentence.lower().split())
    return [word for word in stripped if word]


def overlap(premise: str, hypothesis: str) -> str:
    """OVERLAP when every word of the hypothesis is in the premise (McCoy et al. 2019)."""
    return OVERLAP if set(words(hypothesis)) <= set(words(premise)) else NO_OVERLAP


def tokens(sentence: str) -> list[str]:
    """The tokens of Sagawa et al. (2020): punctuation deleted, lower-cased, split at each blank.

    As in their dataset_scripts/generate_multinli.py, so that "don't" is one token and other white
    space ends none.
    """
    return sentence.translate(WITHOUT_PUNCTUATION).lower().split(" ")


def negation(premise: str, hypothesis: str) -> str:
    """NEGATION when a token of the hypothesis is one of NEGATION_WORDS (Sagawa et al. 2020)."""
    return NO_NEGATION if NEGATION_WORDS.isdisjoint(tokens(hypothesis)) else NEGATION


class Cue(NamedTuple):
    """A cue that a pair has or lacks, and the label that it is mistaken for.

    `of(premise, hypothesis)` is one of `values`, the first where the cue is there.
    """

    values: tuple[str, str]
    of: Callable[[str, str], str]
    label: str

    def points_to(self, value: str, label: str) -> int:
        """ALIGNED when the cue points to `label`: there to its own label, lacking to the others."""
        return ALIGNED if (value == self.values[0]) == (label == self.label) else CONFLICTING


OVERLAP_CUE = Cue((OVERLAP, NO_OVERLAP), overlap, "entailment")
NEGATION_CUE = Cue((NEGATION, NO_NEGATION), negation, "contradiction")
