"""Clusters of texts and images as attributes: what is alike may be a source, a style, a scene."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
CLUSTERS = 8
"""How many rows are cut into."""
SIDE = 8
"""Pixels of the side of the thumbnails that images are clustered by."""
DIRECTIONS = 32
"""Of the word counts of texts, by singular value decomposition."""
MOST_WORDS = 5000
NAMED_BY = 3
"""Words that a cluster of texts is called by."""


def of_vectors(vectors: NDArray[np.floating[Any]], seed: int) -> NDArray[np.int64]:
    """(N,) the cluster of every row of (N, H) by k-means."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    many = min(CLUSTERS, len(np.unique(vectors.round(6), axis=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        cluster = KMeans(many, n_init=3, random_state=seed).fit_predict(vectors)
    return np.asarray(cluster, np.int64)


def thumbnail(image: Any) -> NDArray[np.float32]:
    """(SIDE * SIDE * 3,) of an RGB image."""
    return np.asarray(image.resize((SIDE, SIDE)), np.float32).ravel()


def of_images(thumbnails: NDArray[np.float32], seed: int) -> Iterator[tuple[str, Bools]]:
    """A cluster each of thumbnails (N, SIDE * SIDE * 3)."""
    cluster = of_vectors(thumbnails, seed)
    for number in range(int(cluster.max()) + 1):
        yield f"cluster {number + 1} of images that look alike", cluster == number


def of_texts(columns: dict[str, Sequence[str]], seed: int) -> Iterator[tuple[str, Bools]]:
    """A cluster each of every column, called by the words that set it apart."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    for name, texts in columns.items():
        reader = TfidfVectorizer(max_features=MOST_WORDS, token_pattern=r"[\w']+")
        try:
            weights = reader.fit_transform(texts)
        except ValueError:  # no column has a word
            continue
        if weights.shape[1] <= NAMED_BY:
            continue
        size = min(DIRECTIONS, weights.shape[1] - 1)
        directions = TruncatedSVD(size, random_state=seed).fit_transform(weights)
        cluster, words = of_vectors(directions, seed), reader.get_feature_names_out()
        for number in range(int(cluster.max()) + 1):
            inside = cluster == number
            outside = weights[~inside].mean(axis=0) if not inside.all() else 0
            more = np.asarray(weights[inside].mean(axis=0) - outside).ravel()
            called = ", ".join(words[np.argsort(-more, kind="stable")[:NAMED_BY]])
            yield f"{name}: cluster {number + 1} of texts that look alike ({called})", inside
