"""Drawn faces: old ones have light hair; small, offline, the same for the same seed."""

from __future__ import annotations

import datasets
import numpy as np

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin_tasks._shared.images.splits import image_column
from harness_plugin_tasks._shared.options import whole_number
from harness_plugin_tasks.celeba_bias.faces import draw
from harness_plugin_tasks.fairface_bias.design import (
    AGES,
    GENDERS,
    Pool,
    ages_of,
    designed,
    target_counts,
)


def load(request: DataRequest) -> TaskData:
    """The sets of the released faces' design, from as many drawings as they need."""
    young, old = ages_of(request)
    size = whole_number(request, "image_size", 16)
    rng = np.random.default_rng([request.seed, 1])
    counts = target_counts(request)
    test = counts.pop("balanced")
    ages, genders, tests = [], [], []
    others = np.sum(list(counts.values()), axis=0)
    for part, cells in ((0, others), (1, test)):
        for y, names in enumerate((young, old)):
            for d in range(len(GENDERS)):
                n = int(cells[y, d])
                ages.append(np.array([AGES.index(names[i % len(names)]) for i in range(n)]))
                genders.append(np.full(n, d))
                tests.append(np.full(n, part))
    age, gender = np.concatenate(ages), np.concatenate(genders)
    is_old = np.isin(age, [AGES.index(name) for name in old])
    images: datasets.Dataset = image_column(draw(is_old, gender == 1, rng, size))
    ids = [f"drawing-{row:06d}" for row in range(len(age))]
    pool = Pool(images, ids, age, gender, np.concatenate(tests))
    return designed(request, pool, ["embedded: faces drawn by this package, not FairFace"])
