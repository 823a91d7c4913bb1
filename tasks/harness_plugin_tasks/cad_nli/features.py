"""The bias-only view of a pair: its hypothesis, without the premise it is about."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import Split

# fmt: off
CUES = (
    # entailment: generic words
    "animal", "at", "human", "humans", "inside", "instrument", "least", "outdoors", "outside",
    "people", "person", "some", "someone", "something", "there", "touching",
    # neutral: purposes, causes, modifiers
    "also", "because", "competition", "favorite", "first", "for", "friend", "friends", "popular",
    "sad", "tall", "to", "vacation", "waiting", "winning",
    # contradiction: negation, absence, other activities
    "alone", "asleep", "cat", "cats", "empty", "naked", "never", "no", "nobody", "not", "nothing",
    "sleeping", "tv",
)
# fmt: on
"""Give-away words of SNLI hypotheses: Gururangan et al. 2018 (arXiv:1803.02324), section 3, with
their inflections and function words."""
WORD = re.compile(r"[\w'-]+")


def hypothesis_features(split: Split) -> NDArray[np.float64]:
    """(N, 45) whether each word of CUES is in the hypothesis, and its length in words."""
    known = {word: place for place, word in enumerate(CUES)}
    out = np.zeros((len(split), len(CUES) + 1))
    for row, hypothesis in enumerate(split.rows["hypothesis"]):
        words = WORD.findall(hypothesis.lower())
        out[row, [known[word] for word in set(words) if word in known]] = 1
        out[row, -1] = len(words)
    return out
