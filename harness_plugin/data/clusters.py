"""Clusters: rows that share a template, a person or a document, and are not independent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def coded(values: Sequence[str] | NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """(N,) index of each row's cluster, -1 for "" (a row that stands alone), and the sorted names.

    The numbers depend on which rows there are, not on their order.
    """
    names, code = np.unique(np.asarray(values, dtype=np.str_), return_inverse=True)
    empty = int(len(names) > 0 and names[0] == "")  # the empty text sorts first
    return code.reshape(-1).astype(np.int64) - empty, tuple(names[empty:].tolist())
