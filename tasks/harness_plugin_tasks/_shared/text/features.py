"""Bias-only views of a pair: word overlap, negation and length, by hand."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import Split
from harness_plugin_tasks._shared.text.cues import NEGATION, negation, words


def overlap_features(split: Split) -> NDArray[np.float64]:
    """(N, 4) word-overlap features of Clark et al. 2019 (arXiv:1909.03683, section 4).

    1. the hypothesis is a contiguous subsequence of the premise (0 or 1)
    2. every word of the hypothesis is in the premise (0 or 1)
    3. the fraction of the hypothesis' words that are in the premise, in [0, 1]
    4. log(max(words of the premise - words of the hypothesis, 1)), natural, >= 0

    Their three features from distances of word vectors are left out: they need pretrained
    vectors. Words are those of `cues.words`; an empty hypothesis has 1, 1, 1 in the first three.
    """
    columns = split.rows.select_columns(["premise", "hypothesis"])[:]
    pairs = zip(columns["premise"], columns["hypothesis"], strict=True)
    return np.array([pair_features(words(p), words(h)) for p, h in pairs], dtype=np.float64)


def surface_features(split: Split) -> NDArray[np.float64]:
    """(N, 7) what stands on the surface of a pair.

    1-4. `overlap_features`
    5. the hypothesis has a negation word, by `cues.negation` (0 or 1)
    6., 7. log(1 + words) of the premise and of the hypothesis, natural, >= 0
    """
    columns = split.rows.select_columns(["premise", "hypothesis"])[:]
    more = [
        (
            float(negation(premise, hypothesis) == NEGATION),
            math.log1p(len(words(premise))),
            math.log1p(len(words(hypothesis))),
        )
        for premise, hypothesis in zip(columns["premise"], columns["hypothesis"], strict=True)
    ]
    return np.hstack([overlap_features(split), np.array(more, dtype=np.float64)])


def pair_features(premise: list[str], hypothesis: list[str]) -> tuple[float, float, float, float]:
    """The four features of one pair of word lists."""
    known = set(premise)
    shared = sum(word in known for word in hypothesis)
    return (
        # a word holds no blank, so blanks around it keep matches whole
        float(f" {' '.join(hypothesis)} " in f" {' '.join(premise)} " or not hypothesis),
        float(shared == len(hypothesis)),
        shared / len(hypothesis) if hypothesis else 1.0,
        math.log(max(len(premise) - len(hypothesis), 1)),
    )
