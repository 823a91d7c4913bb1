"""The bias-only view of a review: which genre it talks about, and nothing of what it thinks."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import Split

GENRES = (
    "action",
    "alien",
    "animated",
    "children",
    "classic",
    "comedy",
    "documentary",
    "drama",
    "episode",
    "family",
    "ghost",
    "gore",
    "horror",
    "killer",
    "kids",
    "love",
    "monster",
    "musical",
    "remake",
    "romance",
    "romantic",
    "sci-fi",
    "sequel",
    "series",
    "thriller",
    "tv",
    "vampire",
    "war",
    "wedding",
    "western",
    "zombie",
)
"""Words that say what kind of film it is. Kaushik et al. 2020 (section 5) found a linear model to
lean on such words: romance and family films are mostly praised, horror films mostly not."""
WORD = re.compile(r"[\w'-]+")


def genre_features(split: Split) -> NDArray[np.float64]:
    """(N, 31) whether each word of GENRES occurs in the review."""
    known = {word: place for place, word in enumerate(GENRES)}
    out = np.zeros((len(split), len(GENRES)))
    for row, text in enumerate(split.rows["text"]):
        genres = {known[word] for word in WORD.findall(text.lower()) if word in known}
        out[row, list(genres)] = 1
    return out
