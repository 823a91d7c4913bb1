"""Faces of known age and gender → two age labels that nearly always come in a gender each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import datasets
import numpy as np

from harness_plugin.data.dataset import DataRequest, Ints, TaskData
from harness_plugin.errors import HarnessError, unknown
from harness_plugin_tasks._shared.images.splits import BIASED_SPLITS, FEWEST, Cells, cell_split
from harness_plugin_tasks._shared.options import share, whole_number

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
LABELS = ("young", "old")
GENDERS = ("Female", "Male")
CELLS = Cells(LABELS, GENDERS, "gender")
"""Women are mostly young and men mostly old in the biased sets."""


@dataclass(frozen=True)
class Pool:
    """Faces: the column `image`, ids (N,), places in AGES (N,) and in GENDERS (N,).

    `test` (N,) is 1 for faces that the balanced test set is drawn from; the others have the rest.
    """

    images: datasets.Dataset
    ids: Sequence[str]
    age: Ints
    gender: Ints
    test: Ints


def ages_of(request: DataRequest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The age bins of the labels young and old.

    Raises HarnessError for an unknown bin, for none, and for one that is named twice.
    """
    bins = tuple(tuple(map(str, request.options[name])) for name in LABELS)
    names = bins[0] + bins[1]
    for name in names:
        if name not in AGES:
            raise unknown("age of FairFace", name, AGES)
    if not all(bins) or len(set(names)) < len(names):
        raise HarnessError(
            f"{request.task.task}: {', '.join(names) or 'no age'}: both labels need an age, and "
            "every age may stand once."
        )
    return bins[0], bins[1]


def biased(n: int, rate: float) -> Ints:
    """(2, 2) rows by label and gender: half a label, the share `rate` in its own gender."""
    half = n // 2
    other = max(round(half * (1 - rate)), 1)
    return np.array([[half - other, other], [other, half - other]])


def target_counts(request: DataRequest) -> dict[str, Ints]:
    """(2, 2) rows by label and gender of every set."""
    rates = dict.fromkeys(BIASED_SPLITS, share(request, "bias_rate"))
    if request.options["validation_bias_rate"] is not None:
        rates["validation"] = share(request, "validation_bias_rate")
    sizes = {name: whole_number(request, f"n_{name}", FEWEST) for name in BIASED_SPLITS}
    return {
        name: np.full((2, 2), n // 4) if name == "balanced" else biased(n, rates[name])
        for name, n in sizes.items()
    }


def designed(request: DataRequest, pool: Pool, notes: Sequence[str]) -> TaskData:
    """Disjoint sets: `balanced` has equal cells, in the others a label mostly comes in its gender.

    Raises HarnessError naming the cell that has too few faces.
    """
    rng = np.random.default_rng(request.seed)
    counts = target_counts(request)
    label = np.full(len(pool.age), -1)
    for number, bins in enumerate(ages_of(request)):
        label[np.isin(pool.age, [AGES.index(name) for name in bins])] = number
    rows: dict[str, list[Ints]] = {name: [] for name in BIASED_SPLITS}
    for y, d in [(y, d) for y in (0, 1) for d in (0, 1)]:
        for part, names in ((1, ["balanced"]), (0, ["validation", "id", "train"])):
            inside = (label == y) & (pool.gender == d) & (pool.test == part)
            there = rng.permutation(np.flatnonzero(inside))
            enough(request, counts, names, y, d, len(there))
            for name in names:
                rows[name].append(there[: counts[name][y, d]])
                there = there[counts[name][y, d] :]
    splits = {}
    for name, purpose in BIASED_SPLITS.items():
        chosen = rng.permutation(np.concatenate(rows[name]))
        splits[name] = cell_split(
            name,
            purpose,
            CELLS,
            pool.images.select(chosen),
            label=label[chosen],
            value=pool.gender[chosen],
            ids=[pool.ids[row] for row in chosen],
            breakdowns={"age": [AGES[age] for age in pool.age[chosen]]},
        )
    return TaskData(request.task.task, request.source, splits, tuple(notes))


def enough(
    request: DataRequest, counts: Mapping[str, Ints], names: Sequence[str], y: int, d: int, n: int
) -> None:
    """Refuse options that ask for more than the `n` faces of a cell."""
    total = sum(int(counts[name][y, d]) for name in names)
    if total > n:
        sizes = ", ".join(f"n_{name}" for name in names)
        raise HarnessError(
            f"{request.task.task}: {n:,} faces of {LABELS[y]}/{GENDERS[d]}, the options ask for "
            f"{total:,} ({sizes}); ask for fewer, or for more ages."
        )
