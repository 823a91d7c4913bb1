"""Drawn digits, coloured as MNIST is."""

from __future__ import annotations

import numpy as np

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin_tasks._shared.images.drawings import draw_digits
from harness_plugin_tasks._shared.images.mnist import Digits
from harness_plugin_tasks._shared.options import optional_rows
from harness_plugin_tasks._shared.planted import balanced_labels
from harness_plugin_tasks.cmnist.colours import coloured

SIZES = {"n_train": 6_000, "n_validation": 500, "n_test": 2_000}
"""Digits drawn where an option is left at null."""
FEWEST = 20
"""Two rows a digit: one of its own colour, one of another."""


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id` and `unbiased` (irm: `reversed`) of drawn digits."""

    def digits(stream: int, name: str) -> Digits:
        rng = np.random.default_rng([request.seed, 200 + stream])
        n = optional_rows(request, name, FEWEST) or SIZES[name]
        label = balanced_labels(rng, n, 10)
        return Digits(draw_digits(label, rng), label)

    parts = {name.removeprefix("n_"): digits(stream, name) for stream, name in enumerate(SIZES)}
    return coloured(request, parts, ["embedded: digits drawn by this package, not MNIST"])
