"""A bag-of-words classifier of the hypothesis alone, which never sees a premise.

Gururangan et al. 2018 ("Annotation Artifacts in Natural Language Inference Data") call the pairs
that such a model gets wrong hard. Theirs is fastText fitted on the training set; this one is a
logistic regression (C = 2) on TF-IDF of one and two words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import Split
from harness_plugin.errors import HarnessError

FOLDS = 10
C = 2.0


def classifier() -> Any:
    """A new, unfitted model of texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(ngram_range=(1, 2))
    return make_pipeline(words, LogisticRegression(C=C, max_iter=1000))


def cross_fitted(hypotheses: Sequence[str], labels: Sequence[Any], where: str) -> NDArray[Any]:
    """(N, C) probabilities of the sorted labels, each row's by a model fitted on other folds.

    Ten folds in the order of the rows, stratified by label. Raises HarnessError naming `where`
    when a label has fewer rows than there are folds.
    """
    from sklearn.model_selection import cross_val_predict

    _, counts = np.unique(np.asarray(labels), return_counts=True)
    if counts.min() < FOLDS:
        raise HarnessError(
            f"{where}: the hypothesis-only model is fitted on {FOLDS} folds, but a label has only "
            f"{counts.min()} rows."
        )
    fitted: NDArray[Any] = cross_val_predict(
        classifier(), hypotheses, labels, cv=FOLDS, method="predict_proba"
    )
    return fitted


def features(split: Split) -> NDArray[np.float64]:
    """(N, C) cross-fitted log-probabilities of the split's labels, from the hypothesis alone.

    Raises HarnessError as `cross_fitted` does.
    """
    hypotheses = list(split.rows["hypothesis"])
    fitted = cross_fitted(hypotheses, split.label.tolist(), split.name)
    logs: NDArray[np.float64] = np.log(np.clip(fitted, 1e-6, None))
    return logs
