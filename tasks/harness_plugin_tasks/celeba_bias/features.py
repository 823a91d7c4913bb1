"""The bias-only view of a face: its annotated attribute, and nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import Split
from harness_plugin.errors import HarnessError


def attribute_features(split: Split) -> NDArray[np.float64]:
    """(N, F) one-hot of the attribute, in the order in which the group names first show it.

    Raises HarnessError naming the first row whose attribute is not annotated.
    """
    values = list(dict.fromkeys(group.rpartition("/")[2] for group in split.groups))
    attribute = np.asarray(split.column("attribute"), dtype=np.str_)
    hot: NDArray[np.bool_] = attribute[:, None] == np.array(values)
    if len(missing := np.flatnonzero(~hot.any(axis=1))):
        row = int(missing[0])
        raise HarnessError(
            f"split {split.name!r}: row {row + 1} (id {split.ids[row]}) has attribute "
            f"{str(attribute[row])!r}, expected {' or '.join(values)}; bias features of an "
            "annotated attribute need it on every row."
        )
    return hot.astype(np.float64)
